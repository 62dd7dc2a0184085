"""Two hundred apps of five services: how long the rendering of their resources takes; that nothing is sent twice."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.bench.model import BenchError, Row, spread_text
from tools.bench_cluster.session import Session

from hunqi.apps.model import HealthSpec, Protocol, RouteSpec
from hunqi.gateway.files import ResourceFiles
from hunqi.gateway.model import (
    Cluster,
    Edge,
    Endpoint,
    InternalRoute,
    NetworkJoin,
    Place,
    Route,
    RouteTable,
    Target,
)
from hunqi.gateway.render import render

_APPS: Final = 200
_SERVICES: Final = 5
_TYPICAL: Final = 2
"""So many of an app's services speak HTTP, as a rule; the bar is held against all of them."""
_TASKS: Final = 2
_RENDER_MS: Final = 50.0
_TIMES: Final = 20


def measure(session: Session) -> Iterator[Row]:
    """Yield the rows of many apps."""
    yield from _rendering(session)


def _rendering(session: Session) -> Iterator[Row]:
    session.say("200 apps: rendering")
    place = Place(
        node="n1",
        folder="/etc/envoy",
        bind="0.0.0.0",
        http_port=80,
        https_port=443,
        ready_port=8081,
        hold_socket="/run/hold.sock",
    )
    typical, _ = _timed(place, _TYPICAL)
    took, files = _timed(place, _SERVICES)
    folder = session.folder("many")
    written, again = _written(folder, files), _written(folder, render(many(_SERVICES, version=99), place))
    if again:
        raise BenchError(f"{again} files were written again although nothing had changed")
    shutil.rmtree(folder)
    yield Row(
        name="200 apps of 5 services: all resources rendered",
        value=statistics.median(took) * 1e3,
        bar=_RENDER_MS,
        unit="ms",
        digits=1,
        figures=f"{spread_text(took, scale=1e3, digits=1)} ms of one core for {_APPS * _SERVICES} clusters of {_TASKS} "
        f"tasks and as many routes, {written} files; {spread_text(typical, scale=1e3, digits=1)} ms if {_TYPICAL} "
        "services of each app are routed; an equal table is written 0 times again",
    )


def _timed(place: Place, routed: int) -> tuple[list[float], dict[str, list[dict[str, object]]]]:
    took: list[float] = []
    files: dict[str, list[dict[str, object]]] = {}
    for number in range(_TIMES):
        table = many(routed, version=number)
        begun = time.process_time()
        files = render(table, place)
        took.append(time.process_time() - begun)
    return took, files


def _written(folder: Path, files: dict[str, list[dict[str, object]]]) -> int:
    target = ResourceFiles(folder)
    return sum(target.write(path, resources) for path, resources in files.items())


def many(routed: int, *, version: int) -> RouteTable:
    """Return the table of all apps; ``routed`` of each app's services speak HTTP and are routed."""
    clusters: dict[str, Cluster] = {}
    routes: list[Route] = []
    internal: list[InternalRoute] = []
    networks: list[NetworkJoin] = []
    for app in range(_APPS):
        name, subnet = f"app{app}", f"10.{100 + app // 256}.{app % 256}"
        services = [f"web{number}" for number in range(routed)]
        for number, service in enumerate(services):
            cluster = f"{name}_{service}-r1:8080"
            tasks = tuple(
                Endpoint(address=f"{subnet}.{10 + number * _TASKS + task}", port=8080, task=f"t{task}", node="n1")
                for task in range(_TASKS)
            )
            clusters[cluster] = Cluster(
                name=cluster, protocol=Protocol.HTTP1, health=HealthSpec(path="/health"), endpoints=tasks
            )
            spec = RouteSpec(port=8080, hosts=(f"{service}.{name}.test",), tls="off")
            targets = (Target(cluster=cluster),)
            routes.append(Route(app=name, service=service, spec=spec, targets=targets))
            internal.append(
                InternalRoute(
                    app=name,
                    service=service,
                    host=service,
                    port=8080,
                    subnets=(f"{subnet}.0/24",),
                    protocol=Protocol.HTTP1,
                    targets=targets,
                )
            )
        networks.append(NetworkJoin(network=f"{name}_default", aliases=tuple(services)))
    return RouteTable(
        version=version,
        edge=Edge(),
        clusters=clusters,
        routes=tuple(routes),
        internal=tuple(internal),
        networks=tuple(networks),
    )
