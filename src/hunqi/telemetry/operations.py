"""What can be asked of telemetry by the interface, as ports and values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from hunqi.telemetry.model import Point

BY: tuple[str, ...] = ("service", "revision", "task", "node")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricQuery:
    """A question. ``measure`` is one of ours or the name of an app's own metric, with labels in braces if wanted.

    Times are seconds since the epoch, ``until`` None means now; ``step_s`` None is chosen by the length of the time.
    """

    measure: str
    service: str | None = None
    revision: int | None = None
    since: float
    until: float | None = None
    step_s: int | None = None
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricLine:
    """A group's values at the beginnings of steps; what was not measured is left out."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricAnswer:
    """Values of a measure. No ``lines`` means that nothing was measured in that time."""

    app: str
    measure: str
    unit: str
    since: float
    until: float
    step_s: int
    lines: tuple[MetricLine, ...]
    measured_until: float | None
    """Up to when every gateway has been heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopRow:
    """A service over the last ``seconds``; None is what was not measured. Latencies in ms, memory in bytes."""

    app: str
    service: str
    revisions: tuple[int, ...]
    seconds: float
    rps: float | None
    error_rate: float | None
    p99_ms: float | None
    active: float | None
    held: int
    cpu_cores: float | None
    memory_bytes: int | None
    tasks: int


class Metrics(Protocol):
    """What was measured, for people and programs."""

    async def query(self, app: str, query: MetricQuery) -> MetricAnswer:
        """Return values, from memory and disk. Raises ``MeasureError``, ``HistoryError``."""
        ...

    def top(self, apps: Collection[str]) -> Sequence[TopRow]:
        """Return what the services of these apps do now, busiest first."""
        ...

    def exposition(self, apps: Collection[str]) -> str:
        """Return everything of these apps as OpenMetrics."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceView:
    """A server that answers Prometheus queries; whether a token is sent to it, which nobody reads."""

    name: str
    url: str
    has_token: bool
    has_ca: bool
    updated_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSource:
    """A server to ask. ``ca_pem`` is trusted for it in place of the system's authorities."""

    url: str
    token: str | None = None
    ca_pem: str | None = None

    def __repr__(self) -> str:
        return f"NewSource({self.url})"


class Sources(Protocol):
    """The servers that answer Prometheus queries."""

    async def sources(self) -> Sequence[SourceView]:
        """Return all, by name."""
        ...

    async def put(self, name: str, source: NewSource, *, actor: str) -> SourceView:
        """Add one, or replace it. Raises ``SourceError``."""
        ...

    async def remove(self, name: str, *, actor: str) -> None:
        """Forget one. Raises ``SourceNotFoundError``."""
        ...

    async def value(self, name: str, query: str) -> float:
        """Return the one value of a query now.

        Raises ``SourceNotFoundError``, ``PromQueryError`` (a wrong query, or not one value), ``NotMeasuredError`` (no
        value, or NaN) and ``PromUnavailableError``.
        """
        ...

    async def values(self, name: str, query: str, *, start: float, end: float, step_s: float) -> Sequence[Point]:
        """Return the values of a query over a time; it must have one series. NaN is left out. Raises as above."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryOperations:
    """Both."""

    metrics: Metrics
    sources: Sources
