"""Where there is room: what nodes have free, which constraints they meet, and whether a revision fits beside another.

Docker's scheduler decides; this says before a deploy what it would find, so that a user hears of it at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hunqi.apps.model import Mode, ServiceSpec
from hunqi.engine.model import JSON, Node, Snapshot

_CONSTRAINT = re.compile(r"\s*([a-zA-Z0-9._/-]+)\s*(==|!=)\s*(.+?)\s*")


@dataclass(frozen=True, slots=True)
class Free:
    """What a node has left to reserve."""

    nano_cpus: int
    memory_bytes: int

    def less(self, cpus: int, memory: int) -> Free:
        """Return what is left after another reservation."""
        return Free(self.nano_cpus - cpus, self.memory_bytes - memory)


def reserved(template: JSON) -> tuple[int, int]:
    """Return what a TaskTemplate reserves: nano-CPUs and bytes of memory."""
    resources: JSON = template.get("Resources") or {}
    reservations: JSON = resources.get("Reservations") or {}
    return int(reservations.get("NanoCPUs") or 0), int(reservations.get("MemoryBytes") or 0)


def free_of(snapshot: Snapshot) -> dict[str, Free]:
    """Return what each node has free, by id, as far as services of this cluster's label reserve."""
    free = {node.id: Free(node.nano_cpus, node.memory_bytes) for node in snapshot.nodes.values()}
    for service in snapshot.services.values():
        cpus, memory = reserved(service.spec.get("TaskTemplate", {}))
        if not (cpus or memory):
            continue
        for task in snapshot.tasks.get(service.id, ()):
            if task.node_id in free and task.serving:
                free[task.node_id] = free[task.node_id].less(cpus, memory)
    return free


def fits_constraints(node: Node, constraints: Iterable[str]) -> bool:
    """Whether the node meets Swarm's placement constraints; one that is not understood counts as met."""
    for text in constraints:
        match = _CONSTRAINT.fullmatch(text)
        if match is None:
            continue
        key, operator, value = match.groups()
        held = _attribute(node, key)
        if held is not None and (held.casefold() == value.casefold()) != (operator == "=="):
            return False
    return True


def _attribute(node: Node, key: str) -> str | None:
    if key.startswith("node.labels."):
        return node.labels.get(key.removeprefix("node.labels."), "")
    system, _, machine = node.platform.partition("/")
    return {
        "node.id": node.id,
        "node.hostname": node.hostname,
        "node.role": node.role,
        "node.platform.os": system,
        "node.platform.arch": machine,
    }.get(key)


def unplaceable(services: Collection[tuple[ServiceSpec, int, tuple[str, ...]]], snapshot: Snapshot) -> list[str]:
    """Place services (spec, replicas, pinned nodes) on what is free; return a sentence per service that does not fit.

    Largest first, each task on the node with most memory free.
    """
    free = free_of(snapshot)
    sentences: list[str] = []
    for spec, replicas, pinned in sorted(services, key=lambda each: reserved(each[0].template), reverse=True):
        cpus, memory = reserved(spec.template)
        constraints = spec.template.get("Placement", {}).get("Constraints") or ()
        nodes = [
            node
            for node in snapshot.nodes.values()
            if node.ready and fits_constraints(node, constraints) and (not pinned or node.id in pinned)
        ]
        if not nodes:
            sentences.append(
                f"no ready node meets the placement of {spec.name} ({', '.join(constraints) or 'volumes'})"
            )
            continue
        tasks = len(nodes) if spec.mode in {Mode.GLOBAL, Mode.GLOBAL_JOB} else replicas
        for _ in range(tasks if cpus or memory else 0):
            best = max(nodes, key=lambda node: (free[node.id].memory_bytes, free[node.id].nano_cpus))
            left = free[best.id]
            if left.memory_bytes < memory or left.nano_cpus < cpus:
                there = _size(left.nano_cpus, left.memory_bytes)
                sentences.append(f"{spec.name} needs {_size(cpus, memory)} reserved, {there} free on {best.hostname}")
                break
            free[best.id] = left.less(cpus, memory)
    return sentences


def _size(nano_cpus: int, memory_bytes: int) -> str:
    return f"{max(0, nano_cpus) / 1e9:.1f} CPU and {max(0, memory_bytes) / 2**30:.1f} GiB"
