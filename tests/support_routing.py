"""Gateways, accelerators and a key for the tests of apps: they do at once, or when told, what the real ones do."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Collection, Mapping, Sequence

from hunqi.apps.model import RouteSpec
from hunqi.apps.ports import Pinned
from hunqi.apps.serving import HealthReport, Serving, Waited
from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import RegistryAuth, Task
from hunqi.engine.ports import Engine
from hunqi.gateway.faults import route_faults
from hunqi.gateway.model import Edge
from hunqi.gateway.table import as_served

POLL_S = 0.005


class FakeRouting:
    """One gateway. It takes in what it is offered at once, unless ``held``; ``busy`` backends have requests."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.offered: dict[str, Serving] = {}
        self.force: dict[str, Serving] = {}
        self.withdrawn: set[str] = set()
        self.held = False
        self.busy: set[str] = set()
        self.unhealthy: dict[str, str] = {}
        """Backend → what the gateway's check of its tasks says."""
        self.gateways = 1
        self._tasks: dict[str, tuple[Task, ...]] = {}
        self.changes: list[Serving] = []
        self._silent_until = 0.0

    def restart(self, silent_s: float) -> None:
        """Control begins again: for so long no gateway has reported to it."""
        self._silent_until = time.monotonic() + silent_s

    def offer(self, serving: Serving) -> None:
        self.offered[serving.app] = serving
        if not self.held and self.force.get(serving.app) != serving:
            self.force[serving.app] = serving
            self.changes.append(serving)

    def withdraw(self, app: str) -> None:
        self.offered.pop(app, None)
        self.force.pop(app, None)
        self.withdrawn.add(app)

    def faults(self, route: RouteSpec) -> tuple[str, ...]:
        return route_faults(as_served(route), Edge())

    def problems(self, app: str) -> tuple[str, ...]:
        return (f"nothing of {app} is served",) if self.held else ()

    def release(self) -> None:
        """Take in what was offered while held."""
        self.held = False
        for serving in self.offered.values():
            self.offer(serving)

    def health(self, backend: str) -> HealthReport:
        if time.monotonic() < self._silent_until:
            return HealthReport(backend=backend, gateways=0, healthy=frozenset(), failures={})
        known = any(each.name == backend for serving in self.force.values() for each in serving.backends)
        if not known or self.gateways == 0:
            return HealthReport(backend=backend, gateways=self.gateways, healthy=frozenset(), failures={})
        running = [task.id for task in self._tasks.get(backend, ()) if task.serving]
        if backend in self.unhealthy:
            failures = dict.fromkeys(running, self.unhealthy[backend])
            return HealthReport(backend=backend, gateways=1, healthy=frozenset(), failures=failures)
        return HealthReport(backend=backend, gateways=1, healthy=frozenset(running), failures={})

    async def wait_in_force(self, app: str, *, timeout_s: float) -> Waited:
        return await self._until(lambda: self.force.get(app) == self.offered.get(app), timeout_s)

    async def wait_healthy(self, backend: str, tasks: Collection[str], *, timeout_s: float) -> Waited:
        return await self._until(lambda: set(tasks) <= self.health(backend).healthy, timeout_s)

    async def wait_drained(self, backend: str, tasks: Collection[str] | None = None, *, timeout_s: float) -> Waited:
        return await self._until(lambda: backend not in self.busy, timeout_s)

    async def _until(self, true: object, timeout_s: float) -> Waited:
        assert callable(true)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self.look()
                    if true():
                        return Waited.REACHED
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return Waited.TIMED_OUT

    async def look(self) -> None:
        """See which tasks of the backends run."""
        for name in {each.name for serving in self.force.values() for each in serving.backends}:
            try:
                service = await self._engine.services.inspect(name)
            except NotFoundError:
                self._tasks.pop(name, None)
                continue
            self._tasks[name] = tuple(await self._engine.tasks.list(services=[service.id]))


class FakeImages:
    """An accelerator that has every image but those ``missing``; the digest follows from the reference."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.pins: Mapping[str, Collection[str]] = {}
        self.asked: list[str] = []
        self.lacking: list[str] = []

    async def resolve(self, image: str, *, platforms: Collection[str]) -> Pinned:
        from hunqi.apps.errors import ImageError

        self.asked.append(image)
        if image in self.missing:
            raise ImageError(f"there is no image {image}")
        digest = "sha256:" + hashlib.sha256(image.encode()).hexdigest()
        return Pinned(reference=pinned(image), digest=digest)

    async def pin(self, pins: Mapping[str, Collection[str]]) -> None:
        self.pins = pins

    async def spread(self, references: Collection[str], *, copies: int) -> Sequence[str]:
        return self.lacking

    def registry_auth(self) -> RegistryAuth | None:
        return RegistryAuth(username="hunqi", password="x")


class FakeVolumes:
    def __init__(self) -> None:
        self.removed: list[str] = []

    async def remove(self, app: str) -> None:
        self.removed.append(app)


class FakeDiagnosis:
    async def health(self, node: str, container: str) -> str:
        return ""


def pinned(image: str) -> str:
    """What ``FakeImages`` makes of a reference."""
    digest = hashlib.sha256(image.encode()).hexdigest()
    return f"127.0.0.1:5000/docker.io/library/{image.partition(':')[0]}@sha256:{digest}"
