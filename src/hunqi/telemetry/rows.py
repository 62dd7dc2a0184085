"""What the history consists of: rows of one step each. Their short names are those of the files' columns."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRow:
    """A Swarm service within a step."""

    at: int
    """When the step began."""
    app: str
    service: str
    revision: int
    seconds: float
    """How much time the row covers; what is summed in it is to be divided by that."""
    requests: int
    classes: tuple[int, ...] = (0, 0, 0, 0, 0)
    buckets: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    active: float = 0.0
    held: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task within a step: averages, and the kills for want of memory since it began."""

    at: int
    app: str
    service: str
    revision: int
    task: str
    node: str
    cpu: float
    memory: int
    ooms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomRow:
    """A metric of an app's own within a step, on average."""

    at: int
    app: str
    service: str
    revision: int
    task: str
    node: str
    metric: str
    labels: str
    value: float


@dataclass(slots=True)
class Step:
    """All rows of one step."""

    at: int
    services: list[ServiceRow] = field(default_factory=list[ServiceRow])
    tasks: list[TaskRow] = field(default_factory=list[TaskRow])
    custom: list[CustomRow] = field(default_factory=list[CustomRow])
