"""Says when a request that found no healthy task may go on, and to whom (the agent's end of ``render/hold.py``).

Envoy asks once for each held request and waits for the answer: 200 with the cluster to go to as soon as one that
serves the same service is healthy, 429 when the time is up or too many wait already. Whoever waits is woken by a
change of the table or of what Envoy finds healthy, never by polling.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aiohttp import web

from hunqi.gateway.admin import Host
from hunqi.gateway.model import HeldService, RouteTable, Target
from hunqi.gateway.page import Answer, RoutesPage
from hunqi.gateway.render.common import HEADER_HOLD, PAGE
from hunqi.kit.sockets import listen
from hunqi.telemetry.wire import HeldCounts

DEFAULT_HOLD_S: Final = 30.0
_REMEMBERED: Final = 10_000
_BACKLOG: Final = 4096


@dataclass(frozen=True, slots=True)
class ServicePort:
    """What requests wait for, whichever revision is to have them."""

    app: str
    service: str
    port: int
    lane: str = ""


@dataclass(frozen=True, slots=True)
class _Service:
    targets: tuple[Target, ...]
    hold_s: float


class Holds:
    """The requests that wait at one gateway. For one event loop."""

    def __init__(self, *, max_held: int, choose: random.Random | None = None) -> None:
        """At most ``max_held`` wait at a time; ``choose`` picks among weighted targets."""
        self._max_held = max_held
        self._choose = choose or random.Random()  # noqa: S311 - a share of traffic, no secret
        self._changed = asyncio.Condition()
        self._services: dict[ServicePort, _Service] = {}
        self._lanes: dict[str, str] = {}
        """Cluster → the lane that alone sends to it."""
        self._clusters: dict[str, tuple[ServicePort, float]] = {}
        self._healthy: frozenset[str] = frozenset()
        self._held = 0
        self._waiting: Counter[ServicePort] = Counter()
        self._ever: Counter[ServicePort] = Counter()
        self.someone_waits = asyncio.Event()
        """Set while anyone is held."""
        self._anew = asyncio.Event()

    @property
    def held(self) -> int:
        """How many wait now."""
        return self._held

    def counts(self) -> tuple[HeldCounts, ...]:
        """Return how many wait and have ever waited, of each service for which any has."""
        waiting: Counter[tuple[str, str]] = Counter()
        ever: Counter[tuple[str, str]] = Counter()
        for each, count in self._ever.items():
            ever[each.app, each.service] += count
            waiting[each.app, each.service] += self._waiting[each]
        return tuple(
            HeldCounts(app=app, service=service, waiting=waiting[app, service], since_start=count)
            for (app, service), count in ever.items()
        )

    @property
    def waited_for(self) -> tuple[HeldService, ...]:
        """The services for which any waits now."""
        found = sorted({(each.app, each.service) for each, count in self._waiting.items() if count})
        return tuple(HeldService(app=app, service=service) for app, service in found)

    async def waits_anew(self) -> None:
        """Return once a request waits for a service for which none did before."""
        await self._anew.wait()
        self._anew.clear()

    async def update(self, table: RouteTable) -> None:
        """Take in who serves what from now on."""
        self._services = _services(table)
        self._lanes = _lanes(self._services)
        for cluster in table.clusters.values():
            self._clusters.pop(cluster.name, None)
            port = int(cluster.name.rpartition(":")[2] or 0)
            wanted = ServicePort(cluster.app, cluster.service, port, self._lanes.get(cluster.name, ""))
            self._clusters[cluster.name] = (wanted, cluster.hold_s)
        while len(self._clusters) > max(_REMEMBERED, len(table.clusters)):
            del self._clusters[next(iter(self._clusters))]
        for gone in [each for each in self._ever if each not in self._services and not self._waiting[each]]:
            del self._ever[gone]
        self._max_held = table.edge.max_held
        await self._notify()

    async def found_healthy(self, clusters: Collection[str]) -> None:
        """Take in which clusters have a task that is healthy and takes requests."""
        if self._healthy != (healthy := frozenset(clusters)):
            self._healthy = healthy
            await self._notify()

    async def wait(self, key: str) -> str | None:
        """Wait until a request held for ``key`` (a cluster, or ``app/service:port`` and ``@lane``) may go on.

        Returns the cluster to go to; None when the time is up, or at once when too many wait or nobody knows ``key``.
        """
        wanted, hold_s = self._wanted(key)
        if wanted is None or self._held >= self._max_held:
            return None
        self._held += 1
        if not self._waiting[wanted]:
            self._anew.set()
        self._waiting[wanted] += 1
        self._ever[wanted] += 1
        self.someone_waits.set()
        try:
            async with asyncio.timeout(hold_s), self._changed:
                while (found := self._serving(wanted, key)) is None:
                    await self._changed.wait()
                return found
        except TimeoutError:
            return None
        finally:
            self._held -= 1
            self._waiting[wanted] -= 1
            if not self._held:
                self.someone_waits.clear()

    def _wanted(self, key: str) -> tuple[ServicePort | None, float]:
        if key in self._clusters:
            return self._clusters[key]
        app, slash, rest = key.partition("/")
        service, _, rest = rest.rpartition(":")
        port, _, lane = rest.partition("@")
        if not slash or not port.isdecimal():
            return None, 0.0
        wanted = ServicePort(app, service, int(port), lane)
        return wanted, self._services[wanted].hold_s if wanted in self._services else DEFAULT_HOLD_S

    def _serving(self, wanted: ServicePort, key: str) -> str | None:
        # Once there is no such lane any more its requests go where all others do.
        service = self._services.get(wanted) or self._services.get(replace(wanted, lane=""))
        targets = [each for each in service.targets if each.cluster in self._healthy] if service else []
        if any(each.cluster == key for each in targets):
            return key
        if targets:
            return self._choose.choices(targets, weights=[max(each.weight, 1) for each in targets])[0].cluster
        return None

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _services(table: RouteTable) -> dict[ServicePort, _Service]:
    """Who has the traffic of each service and port, by any route: from outside and from inside."""
    targets: dict[ServicePort, dict[str, Target]] = defaultdict(dict)
    hold_s: dict[ServicePort, float] = defaultdict(float)
    for route in table.routes:
        key = ServicePort(route.app, route.service, route.spec.port, route.lane)
        targets[key].update({each.cluster: each for each in route.targets if each.weight > 0})
        hold_s[key] = max(hold_s[key], route.spec.hold_s)
    for inside in table.internal:
        key = ServicePort(inside.app, inside.service, inside.port, inside.lane)
        targets[key].update({each.cluster: each for each in inside.targets if each.weight > 0})
        hold_s[key] = max(hold_s[key], inside.hold_s)
    return {key: _Service(tuple(found.values()), hold_s[key]) for key, found in targets.items()}


def _lanes(services: Mapping[ServicePort, _Service]) -> dict[str, str]:
    stable = {target.cluster for key, found in services.items() if not key.lane for target in found.targets}
    return {
        target.cluster: key.lane
        for key, found in services.items()
        if key.lane
        for target in found.targets
        if target.cluster not in stable
    }


def serving(hosts: Iterable[Host]) -> frozenset[str]:
    """Return the clusters that have a healthy endpoint which takes requests."""
    return frozenset(each.cluster for each in hosts if each.healthy and not each.draining)


@asynccontextmanager
async def serve_holds(holds: Holds, socket: Path, *, page: RoutesPage | None = None) -> AsyncGenerator[None]:
    """Answer Envoy's questions at the unix socket ``socket`` (owner only) for as long as the block."""

    async def answer(request: web.Request) -> web.Response:
        found = await holds.wait(request.headers.get(HEADER_HOLD, ""))
        if found is not None:
            return web.Response(headers={HEADER_HOLD: found})
        text = "The service does not answer at the moment.\n"
        return web.Response(status=429, headers={"retry-after": "5"}, text=text)

    async def routes(request: web.Request) -> web.Response:
        found = page.answer(request.headers) if page else Answer(status=404, headers={})
        return web.Response(status=found.status, headers=found.headers, text=found.body)

    app = web.Application()
    app.router.add_route("*", PAGE, routes)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.SockSite(runner, listen(socket, backlog=_BACKLOG), backlog=_BACKLOG).start()
        yield
    finally:
        await runner.cleanup()
