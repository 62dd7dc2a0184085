"""Registries for one suite: our push endpoints alone, our whole mirror with two workers, and ``docker-registry`` 2.8.2,
which shows that the suite itself is right.

Where docker-registry is known to deviate, the test must fail on it: a strict xfail with the reason.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support_push import Client, PushServer, push_server
from testbed.mirror import RunningMirror
from testbed.registry import real_registry

OURS = "hunqi"
MIRROR = "mirror"
THEIRS = "docker-registry"
ALL = [OURS, MIRROR, THEIRS]


@dataclass(frozen=True)
class Subject:
    """A registry under test."""

    kind: str
    client: Client
    server: PushServer | None

    @property
    def ours(self) -> bool:
        return self.kind != THEIRS


@contextmanager
def running(kind: str, directory: Path) -> Iterator[Subject]:
    """Run one of the subjects."""
    if kind == OURS:
        with push_server(directory / "data") as server:
            yield Subject(kind, server.client, server)
    elif kind == MIRROR:
        args = ["--allow-anonymous-push", "--local", "conformance"]
        nowhere = {"docker.io": "http://127.0.0.1:9"}
        with RunningMirror(directory, upstreams=nowhere, args=args, workers=2) as mirror:
            yield Subject(kind, Client(mirror.base_url), None)
    else:
        with real_registry(directory) as registry:
            yield Subject(kind, Client(registry.direct_url), None)


@pytest.fixture(scope="module", params=ALL)
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as subject:
        yield subject


@pytest.fixture
def subject(request: pytest.FixtureRequest, registry: Subject) -> Subject:
    """The registry; a test that it is known to fail is expected to fail."""
    deviations: Mapping[str, str] = getattr(request.module, "DOCKER_REGISTRY_DEVIATES", {})
    for part, reason in deviations.items():
        if not registry.ours and part in request.node.name:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    return registry


@pytest.fixture
def client(subject: Subject) -> Client:
    return subject.client


@pytest.fixture
def repo() -> str:
    """A repository that nobody ever pushed to."""
    return f"conformance/r{uuid.uuid4().hex[:12]}"
