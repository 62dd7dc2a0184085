"""The table of the gateways, made of what apps are to serve and of the tasks that are there: pure.

A task is an endpoint while it runs (Swarm's RUNNING: its healthcheck has passed). One that is to stop, or belongs to
what drains, stays in the table and takes nothing new, until it has gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from hunqi.apps.model import AppSpec, Protocol, RouteSpec, ServiceSpec
from hunqi.apps.serving import Backend, Serving, Share
from hunqi.engine.model import Snapshot, Task, TaskState
from hunqi.gateway.faults import sound_routes
from hunqi.gateway.lanes import app_lane, lanes_inside, mirrored, sound_lane
from hunqi.gateway.model import (
    AppLane,
    Certificate,
    Cluster,
    Edge,
    Endpoint,
    EndpointState,
    InternalRoute,
    NetworkJoin,
    Place,
    Route,
    RouteTable,
    Target,
)

_PLACE: Final = Place(node="")
INTERNAL_HOLD_S: Final = 30.0
RESERVED_PORTS: Final = frozenset({_PLACE.http_port, _PLACE.https_port, _PLACE.ready_port})
"""Those that every gateway binds for itself."""
_GATEWAY: Final = "gateway"
_HTTP: Final = frozenset({Protocol.HTTP1, Protocol.HTTP2})
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class Part:
    """What one app adds to the table."""

    clusters: tuple[Cluster, ...]
    routes: tuple[Route, ...]
    internal: tuple[InternalRoute, ...]
    networks: tuple[NetworkJoin, ...]
    lane: AppLane | None = None


def build_table(
    servings: Collection[Serving],
    snapshot: Snapshot,
    edge: Edge,
    certificates: Iterable[Certificate] = (),
    version: int = 0,
) -> RouteTable:
    """Return the table. Equal input gives an equal table, whatever the order of ``servings``."""
    parts = [build_part(each, snapshot) for each in sorted(servings, key=lambda each: each.app)]
    return assemble(parts, edge, certificates, version=version)[0]


def assemble(
    parts: Iterable[Part],
    edge: Edge,
    certificates: Iterable[Certificate],
    *,
    version: int,
    challenges: Mapping[str, str] | None = None,
) -> tuple[RouteTable, Mapping[str, list[str]]]:
    """Return the table of all ``parts`` and, by app, sentences on routes that cannot be served."""
    parts = list(parts)
    clusters: dict[str, Cluster] = {}
    routes: list[Route] = []
    internal: list[InternalRoute] = []
    joins: dict[str, set[str]] = {}
    for part in parts:
        clusters.update({each.name: each for each in part.clusters})
        routes += part.routes
        internal += part.internal
        for join in part.networks:
            joins.setdefault(join.network, set()).update(join.aliases)
    sound, problems = sound_routes(routes, edge)
    lanes: list[AppLane] = []
    for lane in (part.lane for part in parts if part.lane):
        kept, said = sound_lane(lane)
        lanes += [kept] if kept else []
        if said:
            problems.setdefault(lane.app, []).extend(said)
    # Routes of a lane that nobody can be in are none.
    sound = [each for each in sound if not each.lane or any(each.app == lane.app for lane in lanes)]
    published = {each.spec.tcp_port for each in sound if not each.spec.hosts and each.spec.protocol is not Protocol.UDP}
    inside = [each for each in internal if each.port not in published and each.port not in RESERVED_PORTS]
    for each in internal:
        if each not in inside:
            said = (
                f"{each.host}:{each.port} does not lead to the gateway inside the app: the gateway has that port itself"
            )
            problems.setdefault(each.app, []).append(said)
    table = RouteTable(
        version=version,
        edge=edge,
        clusters=clusters,
        routes=tuple(sound),
        internal=tuple(inside),
        networks=tuple(NetworkJoin(network=name, aliases=tuple(sorted(joins[name]))) for name in sorted(joins)),
        certificates=tuple(sorted(certificates, key=lambda each: each.hosts)),
        challenges=dict(challenges or {}),
        lanes=tuple(lanes),
    )
    return table, problems


def build_part(serving: Serving, snapshot: Snapshot) -> Part:
    """Return what ``serving`` adds to the table."""
    clusters = [
        _cluster(serving, backend, port, snapshot)
        for backend in sorted(serving.backends, key=lambda each: each.name)
        for port in _ports(serving, backend)
    ]
    names = {each.name for each in clusters}
    return Part(
        clusters=tuple(clusters),
        routes=tuple(_routes(serving, names)),
        internal=tuple(_internal(serving, snapshot, names)),
        networks=tuple(_joins(serving)),
        lane=app_lane(serving),
    )


def tls_hosts(table: RouteTable) -> frozenset[str]:
    """Return the hosts for which the gateways themselves speak TLS."""
    return frozenset(
        host.lower()
        for route in table.routes
        if route.spec.tls == "auto" and route.spec.protocol in {Protocol.HTTP1, Protocol.HTTP2}
        for host in route.spec.hosts
        if host != "*"
    )


def cluster_name(backend: str, port: int) -> str:
    """Return the name of the cluster of a Swarm service at a port."""
    return f"{backend}:{port}"


def _ports(serving: Serving, backend: Backend) -> dict[int, Protocol]:
    """The ports of the backend's own spec and of the specs in force: a switch needs both."""
    ports: dict[int, Protocol] = {}
    for spec in _specs(serving, backend):
        if spec.internal == _GATEWAY:
            ports.update(dict.fromkeys(spec.internal_ports, spec.internal_protocol))
        ports.update({route.port: route.protocol for route in spec.routes})
    return dict(sorted(ports.items()))


def _specs(serving: Serving, backend: Backend) -> list[ServiceSpec]:
    """What the backend may be asked by: the lane's spec, the one in force, and its own, which has the last word."""
    lane = serving.lane.spec.services.get(backend.service) if serving.lane else None
    found = (lane, serving.spec.services.get(backend.service), backend.spec)
    return [each for each in found if each is not None]


def _cluster(serving: Serving, backend: Backend, port: int, snapshot: Snapshot) -> Cluster:
    specs = _specs(serving, backend)
    holds = [route.hold_s for spec in specs for route in spec.routes if route.port == port]
    holds += [INTERNAL_HOLD_S for spec in specs if spec.internal == _GATEWAY and port in spec.internal_ports]
    return Cluster(
        name=cluster_name(backend.name, port),
        protocol=_ports(serving, backend)[port],
        health=backend.spec.health,
        endpoints=tuple(_endpoints(serving, backend, port, snapshot)),
        app=serving.app,
        service=backend.service,
        revision=backend.revision,
        hold_s=max(holds, default=0.0),
    )


def _endpoints(serving: Serving, backend: Backend, port: int, snapshot: Snapshot) -> list[Endpoint]:
    ids = _network_ids(serving, backend.spec, snapshot)
    found: dict[str, Endpoint] = {}
    for task in sorted(snapshot.tasks_of(backend.name), key=lambda each: each.id):
        address = _address(task, ids, snapshot) if task.state is TaskState.RUNNING else None
        if address is None:
            continue
        leaving = backend.name in serving.draining or not task.serving
        state = EndpointState.DRAINING if leaving else EndpointState.SERVING
        endpoint = Endpoint(address=address, port=port, task=task.id, node=task.node_id or "", state=state)
        # Swarm gives an address to the next task as soon as the last has gone; until it says so both have it.
        if address not in found or state is EndpointState.SERVING:
            found[address] = endpoint
    return list(found.values())


def _network_ids(serving: Serving, spec: ServiceSpec, snapshot: Snapshot) -> list[str]:
    names = [serving.networks[key] for key in _keys(spec) if key in serving.networks]
    return [snapshot.networks[name].id for name in names if name in snapshot.networks]


def _address(task: Task, ids: list[str], snapshot: Snapshot) -> str | None:
    for network in ids:
        if address := task.addresses.get(network):
            return address
    if ids:
        return None
    # Networks of others (external ones) are not in the snapshot: theirs are the ids that nobody of ours has.
    ours = {each.id for each in snapshot.networks.values()}
    return next((address for network, address in sorted(task.addresses.items()) if network not in ours), None)


def _keys(spec: ServiceSpec) -> tuple[str, ...]:
    return tuple(each.network for each in spec.networks) or (_DEFAULT,)


def _routes(serving: Serving, clusters: Collection[str]) -> list[Route]:
    stable = _routes_of(serving.spec, serving.shares, serving, clusters)
    lane = serving.lane
    if lane is None:
        return stable
    inside = [replace(each, lane=lane.name) for each in _routes_of(lane.spec, lane.shares, serving, clusters)]
    stable = [mirrored(each, inside, lane) for each in stable]
    # Connections and datagrams have no user: they change with the revision.
    return stable + [each for each in inside if app_lane(serving) and each.spec.protocol in _HTTP]


def _routes_of(
    spec: AppSpec, shares: Mapping[str, tuple[Share, ...]], serving: Serving, clusters: Collection[str]
) -> list[Route]:
    return [
        Route(
            app=serving.app,
            service=name,
            spec=as_served(route),
            targets=_targets(shares, name, route.port, clusters),
            maintenance=serving.maintenance,
        )
        for name, service in sorted(spec.services.items())
        for route in service.routes
    ]


def as_served(route: RouteSpec) -> RouteSpec:
    """Return the route as it stands in the table: a UDP port knows no names."""
    return replace(route, hosts=()) if route.protocol is Protocol.UDP and route.hosts else route


def _targets(
    shares: Mapping[str, tuple[Share, ...]], service: str, port: int, clusters: Collection[str]
) -> tuple[Target, ...]:
    named = [Target(cluster=cluster_name(each.backend, port), weight=each.weight) for each in shares.get(service, ())]
    return tuple(each for each in named if each.cluster in clusters)


def _internal(serving: Serving, snapshot: Snapshot, clusters: Collection[str]) -> list[InternalRoute]:
    stable = _internal_of(serving.spec, serving.shares, serving, snapshot, clusters)
    lane = serving.lane
    if lane is None:
        return stable
    return stable + lanes_inside(lane.name, stable, _internal_of(lane.spec, lane.shares, serving, snapshot, clusters))


def _internal_of(
    spec: AppSpec,
    shares: Mapping[str, tuple[Share, ...]],
    serving: Serving,
    snapshot: Snapshot,
    clusters: Collection[str],
) -> list[InternalRoute]:
    routes: list[InternalRoute] = []
    for name, service in sorted(spec.services.items()):
        if service.internal != _GATEWAY:
            continue
        networks = [serving.networks[key] for key in _keys(service) if key in serving.networks]
        subnets = sorted(
            {subnet for each in networks if each in snapshot.networks for subnet in snapshot.networks[each].subnets}
        )
        for port in service.internal_ports:
            targets = _targets(shares, name, port, clusters)
            routes += [
                InternalRoute(
                    app=serving.app,
                    service=name,
                    host=host,
                    port=port,
                    subnets=tuple(subnets),
                    protocol=service.internal_protocol,
                    targets=targets,
                    hold_s=INTERNAL_HOLD_S,
                )
                for host in _names(service)
            ]
    return routes


def _names(service: ServiceSpec) -> list[str]:
    """The service's name and what else it is called on its networks."""
    return sorted({service.name, *(alias for each in service.networks for alias in each.aliases)})


def _joins(serving: Serving) -> list[NetworkJoin]:
    """Every network of the app on which somebody is routed; under the names of those that the gateway stands for."""
    joins: dict[str, set[str]] = {}
    specs = [*serving.spec.services.values(), *(each.spec for each in serving.backends)]
    if serving.lane:
        specs += serving.lane.spec.services.values()
    for service in specs:
        if not service.routed:
            continue
        for key in _keys(service):
            if key not in serving.networks:
                continue
            aliases = joins.setdefault(serving.networks[key], set())
            if service.internal == _GATEWAY:
                aliases.add(service.name)
                aliases.update(alias for each in service.networks if each.network == key for alias in each.aliases)
    return [NetworkJoin(network=name, aliases=tuple(sorted(joins[name]))) for name in sorted(joins)]
