"""What a check of a project says: what is not honoured, what it asks of the machines, what it needs, in what order.

Text for people, one line an entry; ``hunqi app check`` shows it and the API hands it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hunqi.apps.compose.graph import waves
from hunqi.apps.compose.project import describe
from hunqi.apps.model import AppSpec, Compiled, Condition, Mode, Order, Protocol, RouteSpec, ServiceSpec
from hunqi.kit.units import show_size

_NANO: Final = 10**9
_WORDS: Final = {Condition.HEALTHY: "healthy", Condition.COMPLETED: "complete", Condition.STARTED: "started"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What an app reserves at rest, and at most while it is deployed (both revisions of start-first services)."""

    nano_cpus: int
    memory_bytes: int
    surge_nano_cpus: int
    surge_memory_bytes: int


def demand(spec: AppSpec) -> Demand:
    """Return what the replicas reserve; a global service counts as one task, since nodes are not known here."""
    at_rest, surge = [0, 0], [0, 0]
    for service in spec.services.values():
        tasks = service.replicas if service.schedule is None else 0
        reserved = _reserved(service)
        for index in (0, 1):
            at_rest[index] += tasks * reserved[index]
            surge[index] += tasks * reserved[index] * (2 if service.order is Order.START_FIRST else 1)
    return Demand(nano_cpus=at_rest[0], memory_bytes=at_rest[1], surge_nano_cpus=surge[0], surge_memory_bytes=surge[1])


def explain(compiled: Compiled) -> tuple[str, ...]:
    """Return the lines of a check: notes, privileges, needs, the order of a deploy."""
    spec = compiled.spec
    return (
        *(f"{note.severity}: {describe(note)}" for note in compiled.notes),
        *(f"privilege: {describe(note)}" for note in compiled.privileges),
        *_needs(spec),
        *_order(spec),
        *(f"route: {_route(service, route)}" for service in spec.services.values() for route in service.routes),
    )


def _reserved(service: ServiceSpec) -> tuple[int, int]:
    resources: Mapping[str, Any] = service.template.get("Resources", {})
    reservations: Mapping[str, Any] = resources.get("Reservations", {})
    return int(reservations.get("NanoCPUs", 0)), int(reservations.get("MemoryBytes", 0))


def _needs(spec: AppSpec) -> Iterator[str]:
    found = demand(spec)
    if found.nano_cpus or found.memory_bytes:
        yield f"needs: {_amount(found.nano_cpus, found.memory_bytes)} reserved"
    if (found.surge_nano_cpus, found.surge_memory_bytes) != (found.nano_cpus, found.memory_bytes):
        yield f"needs: {_amount(found.surge_nano_cpus, found.surge_memory_bytes)} while both revisions run"
    for volume in spec.volumes.values():
        users = [name for name, each in spec.services.items() if any(m.source == volume.name for m in each.mounts)]
        where = "on the node that holds it" if volume.pinning else "from every node"
        yield f"needs: the volume {volume.external or volume.name} {where}, for {', '.join(users)}"


def _amount(nano_cpus: int, memory_bytes: int) -> str:
    return f"{nano_cpus / _NANO:g} CPUs and {show_size(memory_bytes)}"


def _order(spec: AppSpec) -> Iterator[str]:
    edges = {name: [each.service for each in service.depends_on] for name, service in spec.services.items()}
    for number, names in enumerate(waves(edges), 1):
        for name in names:
            yield f"deploy {number}: {_step(spec.services[name])}"


def _step(service: ServiceSpec) -> str:
    match service.mode:
        case Mode.REPLICATED:
            tasks = "1 task" if service.replicas == 1 else f"{service.replicas} tasks"
        case Mode.GLOBAL:
            tasks = "a task on each node"
        case Mode.REPLICATED_JOB | Mode.GLOBAL_JOB:
            tasks = f"a job at {service.schedule}" if service.schedule else "a job"
    waits = [f"{each.service} {_WORDS[each.condition]}" for each in service.depends_on]
    after = f", after {', '.join(waits)}" if waits else ""
    return f"{service.name}, {tasks}, {service.order.value}{after}"


def _route(service: ServiceSpec, route: RouteSpec) -> str:
    if route.redirect is not None:
        return f"{', '.join(route.hosts)}{route.path} is redirected to {route.redirect}"
    target = f"{service.name}:{route.port}"
    if route.hosts:
        return f"{', '.join(route.hosts)}{route.path if route.tls != 'passthrough' else ''} → {target}"
    kind = "UDP" if route.protocol is Protocol.UDP else "TCP"
    return f"{kind} port {route.tcp_port} → {target}"
