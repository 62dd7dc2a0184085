"""A client of the compiler for tests: it answers what the compiler asks for from a directory, as a real one does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from hunqi.apps.compose.compile import compile_project
from hunqi.apps.compose.project import InvalidError, NeedsError, Project, describe
from hunqi.apps.model import Compiled, RouteSpec, ServiceSpec
from hunqi.client.project import LocalProject
from hunqi.kit.codec import encode

MAX_ROUNDS = 12
OF_THE_TEST = {"case.yaml", "expected.yaml"}
"""What lies beside a project but is not of it."""


@dataclass(frozen=True)
class Case:
    """A directory with a project and, in ``case.yaml``, what a user would have around it."""

    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        path = self.folder / "case.yaml"
        return yaml.safe_load(path.read_text()) if path.exists() else {}

    def project(self) -> Project:
        settings = self.settings
        ports = settings.get("tcp_ports", [20000, 20099])
        return Project(
            name=settings.get("name", "shop"),
            files={},
            entry=tuple(settings.get("entry", ["compose.yaml"])),
            profiles=frozenset(settings.get("profiles", ())),
            images=settings.get("images", {}),
            tcp_ports=(ports[0], ports[1]),
        )


def compile_folder(project: Project, folder: Path, variables: dict[str, str]) -> Compiled:
    """Compile as a client does: send only what is asked for."""
    for _ in range(MAX_ROUNDS):
        try:
            return compile_project(project)
        except NeedsError as needs:
            project = answered(project, needs, folder, variables)
    raise AssertionError("the compiler asks for ever")


def answered(project: Project, needs: NeedsError, folder: Path, variables: dict[str, str]) -> Project:
    """Return the project with what it needs, read as the client that is published reads it."""
    local = LocalProject(root=folder.resolve(), entry=project.entry, variables=variables)
    files, absent = dict(project.files), set(project.absent_files)
    for path in needs.files:
        content = local.read(path)
        if content is None:
            absent.add(path)
        elif isinstance(content, str) and path.endswith("/"):
            files[path] = "\n".join(line for line in content.splitlines() if line not in OF_THE_TEST)
        else:
            files[path] = content
    known = {name: variables[name] for name in needs.variables if name in variables}
    return replace(
        project,
        files=files,
        absent_files=frozenset(absent),
        variables={**project.variables, **known},
        absent_variables=project.absent_variables | (needs.variables - known.keys()),
    )


def outcome(case: Case) -> dict[str, Any]:
    """Return what a case comes to: a digest of its spec, its notes and privileges; or its problems."""
    try:
        compiled = compile_folder(case.project(), case.folder, case.settings.get("variables", {}))
    except InvalidError as error:
        return {"problems": [describe(note) for note in error.problems]}
    spec = compiled.spec
    found: dict[str, Any] = {"services": {name: _service(service) for name, service in spec.services.items()}}
    for key in ("networks", "volumes", "secrets", "configs", "extensions", "maintenance"):
        if value := encode(getattr(spec, key)):
            found[key] = value
    found["notes"] = [f"{note.severity}: {describe(note)}" for note in compiled.notes]
    found["privileges"] = [describe(note) for note in compiled.privileges]
    return {key: value for key, value in found.items() if value}


def _service(service: ServiceSpec) -> dict[str, Any]:
    found = encode(service)
    found.pop("name")
    found["order"] = service.order.value
    found["routes"] = [_route(route) for route in service.routes]
    found["drained"] = service.drained
    return {key: value for key, value in found.items() if value not in ([], {}, None)}


def _route(route: RouteSpec) -> str:
    return " ".join(f"{key}={value}" for key, value in encode(route).items())
