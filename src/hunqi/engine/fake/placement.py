"""Where a task of the fake can run, and the engine's sentence where it cannot. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from hunqi.engine.model import JSON
from hunqi.engine.parse import part


@dataclass(slots=True, kw_only=True)
class FakeNode:
    """A machine of the fake."""

    id: str
    version: int
    hostname: str
    address: str
    role: str = "manager"
    availability: str = "active"
    state: str = "ready"
    leader: bool = False
    nano_cpus: int = 4_000_000_000
    memory_bytes: int = 8 * 2**30
    labels: dict[str, str] = field(default_factory=dict[str, str])
    engine_labels: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def takes(self) -> bool:
        """Whether tasks may be placed here."""
        return self.state == "ready" and self.availability == "active"

    def json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        shown: dict[str, Any] = {
            "ID": self.id,
            "Version": {"Index": self.version},
            "Spec": {"Role": self.role, "Availability": self.availability, "Labels": dict(self.labels)},
            "Description": {
                "Hostname": self.hostname,
                "Platform": {"Architecture": "x86_64", "OS": "linux"},
                "Resources": {"NanoCPUs": self.nano_cpus, "MemoryBytes": self.memory_bytes},
                "Engine": {"EngineVersion": "20.10.24", "Labels": dict(self.engine_labels)},
            },
            "Status": {"State": self.state, "Addr": self.address},
        }
        if self.role == "manager":
            reachable = "reachable" if self.state == "ready" else "unreachable"
            shown["ManagerStatus"] = {
                "Leader": self.leader,
                "Reachability": reachable,
                "Addr": f"{self.address}:2377",
            }
        return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a node bears already."""

    tasks: int = 0
    nano_cpus: int = 0
    memory_bytes: int = 0


def place(
    template: JSON,
    nodes: Collection[FakeNode],
    load: Mapping[str, Load],
    *,
    own: Mapping[str, int],
    only: str | None = None,
) -> tuple[str | None, str]:
    """Return the node for a task, or None and why; the emptiest that fits.

    ``own``: tasks of the same service on each node, which count before all others. ``only``: the one node it is for.
    """
    if not nodes:
        return None, "no suitable node"
    reasons: dict[str, int] = {}
    fitting: list[FakeNode] = []
    for node in nodes:
        reason = _against(template, node, load.get(node.id, Load()), own.get(node.id, 0), only=only)
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            fitting.append(node)
    if fitting:

        def burden(node: FakeNode) -> tuple[int, int, str]:
            return own.get(node.id, 0), load.get(node.id, Load()).tasks, node.hostname

        return min(fitting, key=burden).id, ""
    told = "; ".join(f"{reason} on {count} node{'s' if count > 1 else ''}" for reason, count in reasons.items())
    return None, f"no suitable node ({told})"


def added(load: Load, template: JSON, *, count: int = 1) -> Load:
    """Return the load with one more task, or one less."""
    wanted = part(part(template, "Resources"), "Reservations")
    return Load(
        tasks=load.tasks + count,
        nano_cpus=load.nano_cpus + count * (wanted.get("NanoCPUs") or 0),
        memory_bytes=load.memory_bytes + count * (wanted.get("MemoryBytes") or 0),
    )


def _against(template: JSON, node: FakeNode, load: Load, own: int, *, only: str | None) -> str:
    placement, wanted = part(template, "Placement"), part(part(template, "Resources"), "Reservations")
    if only is not None and node.id != only:
        return "scheduling constraints not satisfied"
    if not node.takes:
        return "not available for new tasks"
    if load.nano_cpus + (wanted.get("NanoCPUs") or 0) > node.nano_cpus:
        return "insufficient resources"
    if load.memory_bytes + (wanted.get("MemoryBytes") or 0) > node.memory_bytes:
        return "insufficient resources"
    if not all(matches(constraint, node) for constraint in placement.get("Constraints") or ()):
        return "scheduling constraints not satisfied"
    if placement.get("MaxReplicas") and own >= placement["MaxReplicas"]:
        return "max replicas per node limit exceed"
    return ""


def matches(constraint: str, node: FakeNode) -> bool:
    """Return whether a node meets ``node.labels.disk==ssd`` and the like."""
    equal = "==" in constraint
    key, _, value = constraint.partition("==" if equal else "!=")
    key, value = key.strip(), value.strip()
    if key.startswith("node.labels."):
        found = node.labels.get(key.removeprefix("node.labels."), "")
    elif key.startswith("engine.labels."):
        found = node.engine_labels.get(key.removeprefix("engine.labels."), "")
    else:
        known = {"node.id": node.id, "node.hostname": node.hostname, "node.role": node.role}
        found = known.get(key, {"node.platform.os": "linux", "node.platform.arch": "x86_64"}.get(key, ""))
    return (found.lower() == value.lower()) is equal
