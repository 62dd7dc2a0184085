"""Two hundred apps of five services on the engine's fake: how much of a core one look at all of them takes.

The room of apps is whole (its database on disk, the observer, the controller); gateways and accelerator are the tests'.
A full reconcile is a complete look at the engine and a look at every app. What the fake itself takes is counted, too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.bench.model import BenchError, Row, spread_text
from tools.bench_cluster.session import Session

from hunqi.apps.build import Around, build_apps
from hunqi.apps.model import AppSpec, ServiceSpec
from hunqi.engine.observer import Observer
from support_apps import service, spec, web
from support_cluster import CLUSTER, Cluster, cluster
from support_routing import FakeDiagnosis

_APPS: Final = 200
_BAR_S: Final = 2.0
_PASSES: Final = 5
_AT_ONCE: Final = 10
_DEPLOYED_S: Final = 120.0
_QUIET_S: Final = 3.0


class _Room(Cluster):
    """The tests' room with the observer that the product has."""

    watching: Observer

    def build(self) -> None:
        self.watching = Observer(self.swarm, cluster=CLUSTER)
        self.observer = self.watching  # type: ignore[assignment]  # satisfies the same port
        self.apps = build_apps(
            Around(
                database=self.database,
                engine=self.engine,
                observer=self.watching,
                routing=self.routing,
                judging=self.routing,
                images=self.images,
                seal=self.seal,
                volumes=self.volumes,
                diagnosis=FakeDiagnosis(),
                cluster=CLUSTER,
                logs=self.folder / "logs",
                clock=time.time,
                tcp_ports=lambda: (20000, 20099),
            )
        )


def measure(session: Session) -> Iterator[Row]:
    """Yield the row of a full reconcile."""
    took = asyncio.run(_passes(session, session.folder("reconcile")))
    yield Row(
        name="200 apps of 5 services, engine simulated: full reconcile",
        value=statistics.median(took),
        bar=_BAR_S,
        unit="s",
        figures=f"{spread_text(took)} s of one core for {_APPS} apps, {_APPS * 5} services; nothing was to be done",
    )


async def _passes(session: Session, folder: Path) -> list[float]:
    async with cluster(folder) as made:
        room = _Room(made.database, made.swarm, folder)
        async with room.running():
            names = [f"app{number}" for number in range(_APPS)]
            session.say("200 apps: deploying")
            for first in range(0, _APPS, _AT_ONCE):
                some = names[first : first + _AT_ONCE]
                await _until_deployed(room, {name: await room.release(_app(name)) for name in some})
            await asyncio.sleep(_QUIET_S)
            session.say("200 apps: reconciling")
            return [await _reconcile(room, names) for _ in range(_PASSES)]


async def _until_deployed(room: Cluster, deploys: dict[str, str]) -> None:
    async with asyncio.timeout(_DEPLOYED_S):
        for name, deploy in deploys.items():
            while not (found := await room.apps.operations.deploys.find(name, deploy)).state.ended:
                await asyncio.sleep(0.2)
            if found.problem is not None:
                raise BenchError(f"{name} was not deployed: {found.sentence}")


async def _reconcile(room: _Room, names: list[str]) -> float:
    begun = time.process_time()
    await room.watching.refresh()
    outcomes = [await room.apps.controller.look(name) for name in names]
    took_s = time.process_time() - begun
    if busy := [each.sentence for each in outcomes if each.plan.steps or each.problem]:
        raise BenchError(f"{len(busy)} apps are not at rest: {busy[0]}")
    return took_s


def _app(name: str) -> AppSpec:
    services = (web(), web("api"), service("worker"), service("queue"), service("store"))
    made = dataclasses.replace(spec(*services), name=name)
    return dataclasses.replace(made, services={each.name: _hosted(each, name) for each in services})


def _hosted(each: ServiceSpec, app: str) -> ServiceSpec:
    routes = tuple(dataclasses.replace(route, hosts=(f"{each.name}.{app}.test",)) for route in each.routes)
    return dataclasses.replace(each, routes=routes)
