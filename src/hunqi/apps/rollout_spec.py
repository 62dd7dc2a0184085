"""What a file says of how traffic moves to a new revision (``x-hunqi.rollout``), as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from hunqi.apps.lanes import LaneKey, LaneMatch


class Strategy(StrEnum):
    """How a revision comes to serve."""

    GRAY = "gray"
    """By steps, judged meanwhile."""
    BLUE_GREEN = "blue-green"
    """Whole and unseen, then all at once."""
    DIRECT = "direct"
    """As soon as it is ready."""


class StepKind(StrEnum):
    """What a step of a rollout does."""

    WEIGHT = "weight"
    PAUSE = "pause"
    MATCH = "match"
    MIRROR = "mirror"
    SCALE = "scale"
    ANALYSIS = "analysis"
    APPROVE = "approve"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step; the fields that its ``kind`` does not need are left alone."""

    kind: StepKind
    weight: int = 0
    """Hundredths of a percent of users."""
    for_s: float | None = None
    """How long to pause or to analyse; a pause without it waits for somebody."""
    matches: tuple[LaneMatch, ...] = ()
    mirror: int = 0
    """Hundredths of a percent of the old revision's requests."""
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])
    """Service → tasks of the new revision."""
    percent: int | None = None
    """Tasks of the new revision, of all that it is to have at the end; in place of ``replicas``."""
    measures: tuple[str, ...] = ()
    """Names of measures; empty means all."""
    service: str = ""
    """Whose image runs the command of a ``run``."""
    command: tuple[str, ...] = ()


class MeasureKind(StrEnum):
    """What is looked at."""

    SUCCESS_RATE = "success-rate"
    """The share of answers below 500."""
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"
    CPU = "cpu"
    """Cores for each task."""
    MEMORY = "memory"
    """Working set of each task, in bytes."""
    RESTARTS = "restarts"
    """Tasks that ended by themselves."""
    PROMQL = "promql"
    METRIC = "metric"
    """One that the app itself counts."""
    HTTP = "http"
    """A check of the new revision's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSpec:
    """A measure and what is made of it: a threshold, a comparison with the old revision over the same time, or both."""

    name: str
    kind: MeasureKind
    services: tuple[str, ...] = ()
    """Empty means every service that changed and has traffic (or tasks)."""
    query: str = ""
    """The PromQL, the metric's name, or the path of the check."""
    source: str = ""
    """The name of the server that answers PromQL."""
    at_least: float | None = None
    at_most: float | None = None
    """Rates as shares of 1, latencies in milliseconds, memory in bytes."""
    compare: bool = True
    tolerance: float = 0.25
    """How much worse than the old revision, as a part of its value, is no failure yet."""
    confidence: float = 0.995
    """How sure a comparison must be before it condemns, over the whole rollout."""
    min_samples: int = 100
    """Requests of the new revision below which nothing is said."""
    interval_s: float | None = None
    """How often it is looked at, the rollout's own without it."""
    initial_delay_s: float = 0.0
    failure_limit: int = 0
    """A failure more than this fails the rollout."""
    inconclusive_limit: int = 3
    error_limit: int = 4
    """Errors in a row more than this are an error of the analysis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """The way of a rollout; without steps or measures of its own it has those of its strategy."""

    strategy: Strategy = Strategy.GRAY
    steps: tuple[Step, ...] = ()
    measures: tuple[MeasureSpec, ...] = ()
    key: LaneKey = field(default_factory=LaneKey)
    interval_s: float = 5.0
    keep_s: float = 600.0
    """How long tasks of an aborted revision are kept for a look."""
    undo_window: int = 3
    """To this many revisions back one may return without steps."""


def asked_for(own: RolloutSpec | None, asked: RolloutSpec | None) -> RolloutSpec | None:
    """Return the file's way as whoever deploys asks for it: another strategy, or other steps, and the rest as it is."""
    if asked is None:
        return own
    base = own or RolloutSpec()
    same = own is not None and own.strategy is asked.strategy
    return replace(base, strategy=asked.strategy, steps=asked.steps or (base.steps if same else ()))
