"""Nodes as people see them: what they are, what runs there, what is going on, what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from hunqi.engine.model import LABEL_APP, Node, Snapshot
from hunqi.nodes.fit import quorum_warnings, reserved_on, tasks_on
from hunqi.nodes.model import AgentStatus, Intent, NodeRecord

SKEW_S: Final = 5.0
"""Clocks that differ more are told of: logins, tokens and certificates go by them."""
LATE_S: Final = 14 * 86400.0
"""A certificate of ninety days is renewed thirty before its end; with so many left something is wrong."""
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node. Amounts are those of the engine: what tasks reserve, not what they use."""

    id: str
    name: str
    role: str
    state: str
    availability: str
    intent: str
    address: str
    is_leader: bool
    labels: Mapping[str, str]
    platform: str
    engine_version: str
    cpus: float
    reserved_cpus: float
    memory_bytes: int
    reserved_memory_bytes: int
    services: Mapping[str, int]
    """``app/service`` → tasks of it here; services of others are not seen."""
    agent: str
    """``up``, ``silent`` or ``none``."""
    gateway: bool
    seen_at: str | None = None
    sentence: str = ""
    """What is going on with it, empty if nothing is."""
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a node's agent said last, and by how much its clock differs; why it says nothing; when this is asked."""

    status: AgentStatus | None = None
    skew_s: float = 0.0
    problem: str = ""
    now: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesView:
    """All nodes, and what is wrong with them together."""

    nodes: tuple[NodeView, ...]
    warnings: tuple[str, ...]


def describe(
    snapshot: Snapshot,
    records: Mapping[str, NodeRecord],
    *,
    status: Callable[[str], AgentStatus | None] = lambda _node: None,
    sentence: Callable[[str], str] = lambda _node: "",
    skew_s: Callable[[str], float] = lambda _node: 0.0,
    problem: Callable[[str], str] = lambda _node: "",
    now: float = 0.0,
) -> NodesView:
    """Return the nodes, managers first, then by name.

    ``skew_s`` and ``problem`` are those of the roster's last round; ``now`` is in seconds since 1970.
    """
    nodes = sorted(snapshot.nodes.values(), key=lambda each: (each.role != "manager", each.hostname))
    views = tuple(
        _view(
            each,
            snapshot,
            records.get(each.id),
            Said(status=status(each.id), skew_s=skew_s(each.id), problem=problem(each.id), now=now),
            sentence(each.id),
        )
        for each in nodes
    )
    return NodesView(nodes=views, warnings=quorum_warnings(nodes))


def _view(node: Node, snapshot: Snapshot, record: NodeRecord | None, said: Said, sentence: str) -> NodeView:
    status = said.status
    reserved = reserved_on(snapshot, node.id)
    services: dict[str, int] = {}
    for service, task in tasks_on(snapshot, node.id):
        app = service.labels.get(LABEL_APP, "")
        name = f"{app}/{service.name}" if app else service.name
        services[name] = services.get(name, 0) + (1 if task.serving else 0)
    has_agent = record is not None and bool(record.address)
    return NodeView(
        id=node.id,
        name=node.hostname,
        role=node.role,
        state=node.state,
        availability=node.availability,
        intent=(record.intent if record else Intent.ACTIVE).value,
        address=node.address,
        is_leader=node.is_leader,
        labels=node.labels,
        platform=node.platform,
        engine_version=node.engine_version,
        cpus=node.nano_cpus / _NANO,
        reserved_cpus=reserved.nano_cpus / _NANO,
        memory_bytes=node.memory_bytes,
        reserved_memory_bytes=reserved.memory_bytes,
        services=services,
        agent="none" if not has_agent else "up" if status else "silent",
        gateway=status is not None and status.gateway,
        seen_at=record.seen_at if record else None,
        sentence=sentence,
        warnings=_warnings(node, said, has_agent=has_agent),
    )


def _warnings(node: Node, said: Said, *, has_agent: bool) -> tuple[str, ...]:
    found: list[str] = []
    status = said.status
    if node.state != "ready":
        found.append(f"{node.hostname} is {node.state}: see whether it runs, and its network")
    if not has_agent:
        found.append(f"{node.hostname} has no agent: its gateway and its drains are missing; run `hunqi join` there")
    elif status is None and node.state == "ready":
        found.append(said.problem or f"the agent of {node.hostname} does not answer: see `hunqi status` there")
    elif status is not None:
        found += _of_agent(node, status, said)
    return tuple(found)


def _of_agent(node: Node, status: AgentStatus, said: Said) -> list[str]:
    found: list[str] = []
    if status.engine:
        found.append(f"Docker on {node.hostname}: {status.engine}")
    if status.problem:
        found.append(f"the gateway of {node.hostname}: {status.problem}")
    if status.expires_at and status.expires_at - said.now < LATE_S:
        when = datetime.fromtimestamp(status.expires_at, UTC).date()
        found.append(f"a certificate of {node.hostname} ends on {when} and is not renewed: see the logs of control")
    if abs(said.skew_s) > SKEW_S:
        way = "ahead of" if said.skew_s > 0 else "behind"
        found.append(
            f"the clock of {node.hostname} is {abs(said.skew_s):.0f} s {way} control's: have a time service on both"
        )
    return found
