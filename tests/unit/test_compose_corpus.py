"""Compose files as people have them, each with what it comes to: ``tests/corpus/NAME/{compose,case,expected}.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hunqi.apps.compose.compile import compile_project
from hunqi.apps.compose.project import InvalidError, NeedsError
from hunqi.apps.model import AppSpec, Compiled
from hunqi.apps.swarm import Target, Targets, service_hash, swarm_service
from hunqi.kit.codec import dumps, loads
from support_compose import Case, answered, compile_folder, outcome
from support_engine_fields import SERVICE_SPEC, strangers

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
CASES = [Case(folder) for folder in sorted(CORPUS.iterdir())]


def expected(case: Case) -> dict[str, Any]:
    return yaml.safe_load((case.folder / "expected.yaml").read_text(encoding="utf-8"))


VALID = [case for case in CASES if "problems" not in expected(case)]


def compiled(case: Case) -> Compiled:
    return compile_folder(case.project(), case.folder, case.settings.get("variables", {}))


def targets(spec: AppSpec) -> Targets:
    return Targets(
        networks={key: f"net-{key}" for key in spec.networks},
        secrets={key: Target(id=f"id-{key}", name=key) for key in spec.secrets},
        configs={key: Target(id=f"id-{key}", name=key) for key in spec.configs},
    )


def bodies(spec: AppSpec) -> list[dict[str, Any]]:
    made = targets(spec)
    return [swarm_service(spec, each, revision=7, cluster="c1", targets=made) for each in spec.services.values()]


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 40
    assert len(VALID) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
def test_a_file_comes_to_what_is_expected(case: Case) -> None:
    assert outcome(case) == expected(case)


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.folder.name)
def test_a_spec_survives_its_json(case: Case) -> None:
    spec = compiled(case).spec

    assert loads(AppSpec, dumps(spec)) == spec


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.folder.name)
def test_services_have_documented_names_only_and_publish_nothing(case: Case) -> None:
    for body in bodies(compiled(case).spec):
        assert strangers(body, SERVICE_SPEC) == []
        assert body["EndpointSpec"] == {"Mode": "dnsrr"}


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.folder.name)
def test_every_payload_that_is_named_is_there(case: Case) -> None:
    found = compiled(case)
    digests = {each.digest for each in (*found.spec.secrets.values(), *found.spec.configs.values()) if each.digest}

    assert digests == set(found.payloads)


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.folder.name)
def test_compiling_again_changes_no_hash(case: Case) -> None:
    first, second = compiled(case).spec, loads(AppSpec, dumps(compiled(case).spec))

    for name, service in first.services.items():
        assert service_hash(first, service) == service_hash(second, second.services[name])


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.folder.name)
def test_bytes_of_secrets_are_not_shown(case: Case) -> None:
    found = compiled(case)
    shown = repr(found) + dumps(found.spec)

    assert not [data for data in found.payloads.values() if data.decode("utf-8", "replace") in shown]


def test_files_that_are_not_named_are_not_asked_for() -> None:
    case = next(case for case in CASES if case.folder.name == "django-celery")
    asked: set[str] = set()
    project = case.project()
    while True:
        try:
            compile_project(project)
            break
        except NeedsError as needs:
            asked |= needs.files
            project = answered(project, needs, case.folder, {"TAG": "1"})

    assert asked == {"compose.yaml", ".env.prod", ".env.local", "secrets/db_password.txt"}
    assert set(project.variables) | project.absent_variables == {"TAG", "SENTRY_DSN"}


def test_all_problems_are_named_at_once() -> None:
    case = next(case for case in CASES if case.folder.name == "wrong-values")

    with pytest.raises(InvalidError) as caught:
        compiled(case)

    assert len(caught.value.problems) > 20
    assert {note.severity for note in caught.value.problems} == {"error"}
    assert all(note.line > 1 for note in caught.value.problems)
