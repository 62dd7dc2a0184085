"""Two hundred apps of five services: how long the rendering of their resources takes; that nothing is sent twice."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from hunqi.gateway.render import Renderer

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
    target = ResourceFiles(folder)
    written = _written(target, files)
    if again := _written(target, Renderer(place).render(many(_SERVICES, version=99))):
        raise BenchError(f"{again} files were written again although nothing had changed")
    changed, rewritten = _changing(place, target)
    shutil.rmtree(folder)
    yield Row(
        name="200 apps of 5 services: all resources rendered",
        value=statistics.median(took) * 1e3,
        bar=_RENDER_MS,
        unit="ms",
        digits=1,
        figures=f"{spread_text(took, scale=1e3, digits=1)} ms of one core for {_APPS * _SERVICES} clusters of {_TASKS} "
        f"tasks and as many routes, {written} files; {spread_text(typical, scale=1e3, digits=1)} ms if {_TYPICAL} "
        "services of each app are routed; encoding included; an equal table is written 0 times again",
    )
    yield Row(
        name="200 apps of 5 services: one app changes",
        value=statistics.median(changed) * 1e3,
        bar=_RENDER_MS,
        unit="ms",
        digits=1,
        figures=f"{spread_text(changed, scale=1e3, digits=1)} ms of one core from the table to the {rewritten} files "
        "that are written, when a service of one app has a new revision",
    )


def _timed(place: Place, routed: int) -> tuple[list[float], Mapping[str, tuple[str, ...]]]:
    took: list[float] = []
    files: Mapping[str, tuple[str, ...]] = {}
    for number in range(_TIMES):
        table = many(routed, version=number)
        begun = time.process_time()
        files = Renderer(place).render(table)
        took.append(time.process_time() - begun)
    return took, files


def _changing(place: Place, target: ResourceFiles) -> tuple[list[float], int]:
    """Time tables that differ from the one before in one app; return how many files the last of them wrote, too."""
    renderer = Renderer(place)
    _written(target, renderer.render(many(_SERVICES, version=0)))
    took: list[float] = []
    written = 0
    for number in range(_TIMES):
        table = _switched(many(_SERVICES, version=number), f"app{number}")
        begun = time.process_time()
        written = _written(target, renderer.render(table))
        took.append(time.process_time() - begun)
    return took, written


def _switched(table: RouteTable, app: str) -> RouteTable:
    """Return ``table`` with another revision of the first service of ``app``."""
    old, new = f"{app}_web0-r1:8080", f"{app}_web0-r2:8080"
    to_new = (Target(cluster=new),)
    clusters = {**table.clusters, new: replace(table.clusters[old], name=new)}
    del clusters[old]
    routes = [replace(each, targets=to_new) if each.targets[0].cluster == old else each for each in table.routes]
    internal = [replace(each, targets=to_new) if each.targets[0].cluster == old else each for each in table.internal]
    return replace(table, clusters=clusters, routes=tuple(routes), internal=tuple(internal))


def _written(target: ResourceFiles, files: Mapping[str, tuple[str, ...]]) -> int:
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
