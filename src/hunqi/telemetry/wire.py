"""What an agent measures on its node, as it travels: counts since something began, which only ever grow.

Whoever takes them in makes differences of them. ``boot`` names the Envoy that counted: after another one has taken its
place, its counts begin at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hunqi.telemetry.histogram import Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterCounts:
    """Requests that one gateway sent to a Swarm service at a port."""

    backend: str
    """``shop_web-r7``."""
    app: str
    service: str
    revision: int
    port: int
    requests: int = 0
    classes: Mapping[int, int] = field(default_factory=dict[int, int])
    """1 to 5, the first digit of the status → how many."""
    latency: Histogram = field(default_factory=Histogram)
    active: int = 0
    """Open now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCounts:
    """Requests that wait at one gateway because a service has no healthy task."""

    app: str
    service: str
    waiting: int
    since_start: int = 0
    """How many have ever waited; grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCounts:
    """What a task of this node uses. Limits and reservations are None where none are set."""

    task: str
    app: str
    service: str
    revision: int
    cpu_s: float
    """CPU time since it began."""
    memory_bytes: int
    """Its working set: without page cache that could be given up."""
    ooms: int = 0
    cpu_limit_cores: float | None = None
    memory_limit_bytes: int | None = None
    cpu_request_cores: float | None = None
    memory_request_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomValue:
    """A value that a task counts itself. ``labels`` are as it wrote them, without the braces."""

    task: str
    app: str
    service: str
    revision: int
    metric: str
    value: float
    labels: str = ""
    grows: bool = False
    """Whether it is a counter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSample:
    """All of a node at a moment by its own clock. ``problems`` are sentences on what could not be measured."""

    node: str
    at: float
    boot: str
    gateway: bool
    """Whether its gateway answered; without it, ``clusters`` says nothing."""
    clusters: tuple[ClusterCounts, ...] = ()
    held: tuple[HeldCounts, ...] = ()
    tasks: tuple[TaskCounts, ...] = ()
    custom: tuple[CustomValue, ...] = ()
    problems: tuple[str, ...] = ()
