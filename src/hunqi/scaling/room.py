"""How many tasks of a service the machines have room for, what is missing, and what would free it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from hunqi.apps.fitting import Free, fits_constraints, free_of, reserved
from hunqi.apps.sizing import Sized
from hunqi.engine.model import JSON, LABEL_APP, LABEL_SERVICE, Node, Snapshot
from hunqi.scaling.model import Room

_SHOWN: Final = 3


def room_for(app: str, sized: Sized, snapshot: Snapshot, *, most: int) -> Room:
    """Return the room for ``sized`` in all, looking no further than ``most`` tasks."""
    spec = sized.spec
    cpus, memory = reserved(spec.template)
    placement: JSON = spec.template.get("Placement") or {}
    constraints: list[str] = placement.get("Constraints") or []
    per_node: int | None = placement.get("MaxReplicas")
    nodes = [each for each in snapshot.nodes.values() if each.ready and fits_constraints(each, constraints)]
    if not nodes:
        text = f"no ready node meets the placement of {sized.service} ({', '.join(constraints) or 'any'})"
        return Room(
            most=sum(not each.pending for each in sized.tasks), missing=text, remedy="Add a node, or a label to one."
        )
    if not (cpus or memory or per_node):
        return Room()
    free, own = free_of(snapshot), _own(sized, snapshot)
    placed = sum(not each.pending for each in sized.tasks)
    more = 0
    while placed + more < most and _place(nodes, free, own, (cpus, memory), per_node):
        more += 1
    return Room(
        most=placed + more,
        missing=_missing(sized.service, nodes, free, (cpus, memory), per_node, own),
        remedy=_remedy(snapshot, (app, sized.service), (cpus, memory)),
    )


def _place(
    nodes: list[Node], free: dict[str, Free], own: Counter[str], size: tuple[int, int], per_node: int | None
) -> bool:
    """Put one more on the node with most memory free, as ``fitting`` does; return whether any had room."""
    cpus, memory = size
    able = [
        node
        for node in nodes
        if free[node.id].memory_bytes >= memory
        and free[node.id].nano_cpus >= cpus
        and (not per_node or own[node.id] < per_node)
    ]
    if not able:
        return False
    best = max(able, key=lambda node: (free[node.id].memory_bytes, free[node.id].nano_cpus))
    free[best.id] = free[best.id].less(cpus, memory)
    own[best.id] += 1
    return True


def _own(sized: Sized, snapshot: Snapshot) -> Counter[str]:
    ids = {each.id for each in sized.tasks}
    tasks = (task for held in snapshot.tasks.values() for task in held)
    return Counter(task.node_id for task in tasks if task.id in ids and task.node_id)


def _missing(
    service: str,
    nodes: Iterable[Node],
    free: dict[str, Free],
    size: tuple[int, int],
    per_node: int | None,
    own: Counter[str],
) -> str:
    if per_node and all(own[node.id] >= per_node for node in nodes):
        return f"every node has {per_node} of {service}, the most that its placement allows"
    left = max(((free[each.id], each) for each in nodes), key=lambda each: (each[0].memory_bytes, each[0].nano_cpus))
    return (
        f"one of {service} reserves {_size(*size)}, and {left[1].hostname}, which has most left, has "
        f"{_size(left[0].nano_cpus, left[0].memory_bytes)}"
    )


def _remedy(snapshot: Snapshot, asking: tuple[str, str], size: tuple[int, int]) -> str:
    """Name who reserves most of what is short."""
    by_memory = size[1] > 0
    held: Counter[str] = Counter()
    for service in snapshot.services.values():
        own = reserved(service.spec.get("TaskTemplate", {}))
        tasks = sum(each.serving for each in snapshot.tasks.get(service.id, ()))
        app, name = service.labels.get(LABEL_APP, ""), service.labels.get(LABEL_SERVICE, "")
        if app and (app, name) != asking:
            held[f"{app}/{name}"] += own[1 if by_memory else 0] * tasks
    shown = [
        f"{name} ({_size(0, amount) if by_memory else _size(amount, 0)})"
        for name, amount in held.most_common(_SHOWN)
        if amount
    ]
    others = f", or have less reserved by others; most do {', '.join(shown)}" if shown else ""
    return f"Add a node with {_size(*size)} or more{others}."


def _size(nano_cpus: int, memory_bytes: int) -> str:
    parts = [f"{max(0, nano_cpus) / 1e9:.2g} CPU"] if nano_cpus else []
    if memory_bytes or not parts:
        parts.append(f"{max(0, memory_bytes) / 2**20:.0f} MiB")
    return " and ".join(parts)
