"""Why a service's tasks do not fit where: Swarm's own filters, said in sentences. Pure.

Swarm says "no suitable node (insufficient resources on 2 nodes; …)" at most; here each node gets its reason. What is
reserved is what the specs of the tasks that are to run there reserve, as Swarm reckons it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from hunqi.engine.model import JSON, Node, Service, Snapshot, Task, TaskState
from hunqi.kit.units import show_size

_CONSTRAINT: Final = re.compile(r"\s*(?P<key>[A-Za-z0-9_.-]+)\s*(?P<op>==|!=)\s*(?P<value>.*?)\s*")
_NANO: Final = 1_000_000_000
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_ENDED: Final = frozenset(
    {
        TaskState.COMPLETE,
        TaskState.SHUTDOWN,
        TaskState.FAILED,
        TaskState.REJECTED,
        TaskState.REMOVE,
        TaskState.ORPHANED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Resources that are reserved, or free."""

    nano_cpus: int = 0
    memory_bytes: int = 0

    def __add__(self, other: Reserved) -> Reserved:
        """Return both together."""
        return Reserved(nano_cpus=self.nano_cpus + other.nano_cpus, memory_bytes=self.memory_bytes + other.memory_bytes)


def reservation(spec: JSON) -> Reserved:
    """Return what one task of a service with this spec reserves."""
    found = part(part(_template(spec), "Resources"), "Reservations")
    return Reserved(nano_cpus=int(found.get("NanoCPUs") or 0), memory_bytes=int(found.get("MemoryBytes") or 0))


def holds_place(task: Task) -> bool:
    """Whether the task takes up room: it is placed, and neither it nor its wish has ended."""
    return task.node_id is not None and task.state not in _ENDED


def tasks_on(snapshot: Snapshot, node: str) -> list[tuple[Service, Task]]:
    """Return the tasks of ours that take up room on a node, by service name."""
    found = [
        (service, task)
        for service in snapshot.services.values()
        for task in snapshot.tasks.get(service.id, ())
        if task.node_id == node and holds_place(task)
    ]
    return sorted(found, key=lambda each: (each[0].name, each[1].slot or 0))


def reserved_on(snapshot: Snapshot, node: str) -> Reserved:
    """Return what the tasks on a node reserve; services that are not ours are not seen."""
    total = Reserved()
    for service, _ in tasks_on(snapshot, node):
        total += reservation(service.spec)
    return total


def why_not(spec: JSON, node: Node, snapshot: Snapshot, *, service_id: str = "") -> str:
    """Return why one more task of a service with ``spec`` does not fit on ``node``, empty if it does."""
    if node.state != "ready":
        return f"{node.hostname} is {node.state}"
    if node.availability != "active":
        word = {"pause": "paused", "drain": "drained"}.get(node.availability, node.availability)
        return f"{node.hostname} is {word}"
    return (
        _platform(spec, node)
        or _constraints(spec, node)
        or _resources(spec, node, reserved_on(snapshot, node.id))
        or _most_per_node(spec, node, snapshot, service_id)
    )


def explain(spec: JSON, snapshot: Snapshot, *, service_id: str = "") -> Mapping[str, str]:
    """Return for each node (by host name) why one more task does not fit there; empty where it does."""
    nodes = sorted(snapshot.nodes.values(), key=lambda each: each.hostname)
    return {each.hostname: why_not(spec, each, snapshot, service_id=service_id) for each in nodes}


def fits_elsewhere(service: Service, snapshot: Snapshot, *, away_from: str) -> bool:
    """Whether some other node than ``away_from`` takes one more task of the service."""
    return any(
        node.id != away_from and not why_not(service.spec, node, snapshot, service_id=service.id)
        for node in snapshot.nodes.values()
    )


def quorum_warnings(nodes: Iterable[Node]) -> tuple[str, ...]:
    """Return what is wrong with the number of managers, in sentences. 1, 3 and 5 are right."""
    managers = [node for node in nodes if node.role == "manager"]
    reachable = [node for node in managers if node.reachable and node.state == "ready"]
    found: list[str] = []
    if len(managers) == 2:
        found.append("two managers are worse than one: if either is lost, no change is possible; add a third")
    elif len(managers) % 2 == 0:
        found.append(f"{len(managers)} managers bear no more losses than {len(managers) - 1}: make them an odd number")
    elif len(managers) > 5:
        found.append(f"{len(managers)} managers make every change slow: 5 are enough, the others can be workers")
    spare = len(reachable) - (len(managers) // 2 + 1)
    if len(managers) > 1 and spare < 1:
        found.append(f"{len(reachable)} of {len(managers)} managers answer: the loss of one more stops all changes")
    return tuple(found)


def keeps_quorum_without(nodes: Iterable[Node], leaving: str) -> bool:
    """Whether a majority of the managers stays when ``leaving`` (an id) is switched off."""
    managers = [node for node in nodes if node.role == "manager"]
    staying = [node for node in managers if node.id != leaving and node.reachable and node.state == "ready"]
    return len(managers) == 0 or len(staying) > len(managers) // 2


def part(data: JSON, key: str) -> JSON:
    """Return the object at ``key``, an empty one if there is none."""
    found: Any = data.get(key)
    return cast("JSON", found) if isinstance(found, Mapping) else {}


def _platform(spec: JSON, node: Node) -> str:
    wanted: list[JSON] = part(_template(spec), "Placement").get("Platforms") or []
    if not wanted:
        return ""
    system, _, machine = node.platform.partition("/")
    own = (system, _ARCHITECTURES.get(machine, machine))
    names = {
        (
            str(each.get("OS") or system),
            _ARCHITECTURES.get(str(each.get("Architecture")), str(each.get("Architecture"))),
        )
        for each in wanted
    }
    if own in names or any(name[1] in {"", "None"} and name[0] == system for name in names):
        return ""
    return f"it is for {', '.join('/'.join(name) for name in sorted(names))}, {node.hostname} is {'/'.join(own)}"


def _constraints(spec: JSON, node: Node) -> str:
    constraints: list[str] = part(_template(spec), "Placement").get("Constraints") or []
    for text in constraints:
        found = _CONSTRAINT.fullmatch(text)
        values = _values(found["key"], node) if found else None
        if found is None or values is None:
            continue  # a label of the engine, which managers do not tell
        is_equal = found["value"].lower() in {each.lower() for each in values}
        if is_equal == (found["op"] == "!="):
            said = " or ".join(sorted(each for each in values if each)) or "nothing"
            return f"it must run where {text.strip()}; {found['key']} of {node.hostname} is {said}"
    return ""


def _values(key: str, node: Node) -> set[str] | None:
    if key.startswith("node.labels."):
        return {node.labels.get(key.removeprefix("node.labels."), "")}
    known: dict[str, set[str]] = {
        "node.id": {node.id},
        "node.hostname": {node.hostname},
        "node.role": {node.role},
        "node.ip": {node.address},
        "node.platform.os": {node.platform.partition("/")[0]},
        "node.platform.arch": {
            node.platform.partition("/")[2],
            _ARCHITECTURES.get(node.platform.partition("/")[2], ""),
        },
    }
    return known.get(key)


def _resources(spec: JSON, node: Node, taken: Reserved) -> str:
    wanted = reservation(spec)
    free_bytes, free_cpus = node.memory_bytes - taken.memory_bytes, node.nano_cpus - taken.nano_cpus
    if wanted.memory_bytes > free_bytes:
        free = show_size(max(0, free_bytes))
        return f"it needs {show_size(wanted.memory_bytes)} of memory reserved, {node.hostname} has {free} free"
    if wanted.nano_cpus > free_cpus:
        free = max(0, free_cpus) / _NANO
        return f"it needs {wanted.nano_cpus / _NANO:g} cpus reserved, {node.hostname} has {free:g} free"
    return ""


def _most_per_node(spec: JSON, node: Node, snapshot: Snapshot, service_id: str) -> str:
    most = int(part(_template(spec), "Placement").get("MaxReplicas") or 0)
    there = Counter(service.id for service, _ in tasks_on(snapshot, node.id))[service_id]
    return f"{node.hostname} has {there} of them, and no more than {most} may be on a node" if 0 < most <= there else ""


def _template(spec: JSON) -> JSON:
    return part(spec, "TaskTemplate")
