"""What a file or a user says of how many tasks load asks for (``x-hunqi.scale``, ``hunqi app autoscale``).

The defaults of ``behavior`` are those of the HorizontalPodAutoscaler (autoscaling/v2), so that what is known of it
holds here; the rules of zero are KEDA's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

LONGEST_S: Final = 3600.0
"""Of a stabilisation window, as the HPA has it."""
LONGEST_PERIOD_S: Final = 1800.0
"""Of a policy, as the HPA has it."""
MOST: Final = 1000
"""Replicas that a service may be scaled to."""


class PolicyKind(StrEnum):
    """What a policy counts."""

    TASKS = "tasks"
    PERCENT = "percent"


class Select(StrEnum):
    """Which of several policies holds: the one that allows most, the one that allows least; or no change at all."""

    MAX = "max"
    MIN = "min"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """So many tasks, or percent of those there were, may change within any ``period_s`` seconds."""

    kind: PolicyKind
    value: int
    period_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How fast one direction may go. ``window_s`` is the stabilisation window, ``tolerance`` a part of 1."""

    window_s: float
    policies: tuple[Policy, ...]
    select: Select = Select.MAX
    tolerance: float = 0.1


DEFAULT_UP: Final = Rules(
    window_s=0.0, policies=(Policy(kind=PolicyKind.PERCENT, value=100), Policy(kind=PolicyKind.TASKS, value=4))
)
DEFAULT_DOWN: Final = Rules(window_s=300.0, policies=(Policy(kind=PolicyKind.PERCENT, value=100),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    """Both directions; the defaults are the HPA's."""

    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a task is to use on average: a percentage of what it reserves, or an amount (cores, bytes)."""

    percent: float | None = None
    amount: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Work that waits: ``per_replica`` of what ``query`` counts is one task's."""

    query: str
    """The name of a metric that the app itself counts, or PromQL where ``source`` is given."""
    per_replica: float
    source: str = ""
    """The name of a Prometheus server that was made known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Bounds that hold from a moment on until that of another slot."""

    cron: str
    """Five fields."""
    min: int | None = None
    max: int | None = None
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero:
    """That a service without anything to do may have no task at all. Seconds; names and defaults are KEDA's."""

    cooldown_s: float = 300.0
    """How long it must have been idle."""
    initial_cooldown_s: float = 0.0
    """How long after it was deployed or scaled up first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSpec:
    """Bounds and targets of one service."""

    min: int = 1
    """Tasks while it is not at zero: at least one."""
    max: int = 1
    cpu: Target | None = None
    memory: Target | None = None
    rps: float | None = None
    """Requests a second for each task."""
    concurrency: float | None = None
    """Requests open at a time for each task."""
    p95_ms: float | None = None
    """Above it there are to be more tasks; it never asks for fewer."""
    queue: Queue | None = None
    schedule: tuple[Slot, ...] = ()
    behavior: Behavior = field(default_factory=Behavior)
    zero: Zero | None = None
    predict: bool = False
    """Whether tasks may be there ahead of load that history foretells."""

    @property
    def measured(self) -> bool:
        """Whether any measure moves it."""
        return any(each is not None for each in (self.cpu, self.memory, self.rps, self.concurrency, self.queue))

    @property
    def lowest(self) -> int:
        """The fewest tasks that it may come to."""
        return 0 if self.zero is not None else self.min


def zero_allowed(spec: ScaleSpec) -> ScaleSpec:
    """Return the spec with what ``min: 0`` means put in other words: zero is allowed, and one is the fewest else."""
    if spec.min > 0:
        return spec
    return replace(spec, min=1, zero=spec.zero or Zero())
