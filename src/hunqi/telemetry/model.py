"""What is measured, as values; and the port by which other rooms read it.

Latencies are histograms on one fixed grid, merged by adding; a percentile is only ever taken from a merged one. Times
are seconds since the epoch, latencies milliseconds, memory bytes, CPU cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hunqi.telemetry.histogram import Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is asked about. ``revision`` is that of the Swarm service (the 7 of ``shop_web-r7``), None for all of it."""

    app: str
    service: str
    revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests that ended within a time, of all gateways together."""

    start: float
    end: float
    requests: int = 0
    classes: Mapping[int, int] = field(default_factory=dict[int, int])
    """1 to 5, the first digit of the status → how many; what never reached a task and was refused counts as 5."""
    latency: Histogram = field(default_factory=Histogram)
    active: float = 0.0
    """Requests open at the same time, on average."""
    held: int = 0
    """Requests that wait now because no task is healthy."""

    @property
    def errors(self) -> int:
        """Answers of 5xx."""
        return self.classes.get(5, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePoint:
    """A task at a moment: CPU in cores since the point before, memory as its working set (without page cache)."""

    at: float
    cpu_cores: float
    memory_bytes: int
    ooms: int = 0
    """Times that the kernel killed something in it, since it began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUsage:
    """A task within a time. Limits and reservations are None where the file gives none."""

    task: str
    node: str
    revision: int
    points: tuple[UsagePoint, ...]
    cpu_limit_cores: float | None = None
    memory_limit_bytes: int | None = None
    cpu_request_cores: float | None = None
    memory_request_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A number at a moment."""

    at: float
    value: float


class Telemetry(Protocol):
    """What was measured, for other rooms; implemented by ``hunqi.telemetry.live`` (``Live``).

    All raise ``NotMeasuredError`` (a ``DependencyError``) where the time asked for was not measured: a source that is
    down is never an answer of zero.
    """

    def traffic(self, subject: Subject, *, start: float, end: float) -> Traffic:
        """Return the requests of a time; the latest sample may be an interval old (see ``measured_until``)."""
        ...

    def traffic_by_interval(self, subject: Subject, *, start: float, end: float) -> Sequence[Traffic]:
        """Return the same, one for each interval that was measured, in order."""
        ...

    def usage(self, subject: Subject, *, start: float, end: float) -> Sequence[TaskUsage]:
        """Return what each task used that ran within the time."""
        ...

    def custom(self, subject: Subject, metric: str, *, start: float, end: float) -> Mapping[str, Sequence[Point]]:
        """Return by task the values of a metric that the app itself counts: gauges as they are, counters per second."""
        ...

    def measured_until(self, app: str) -> float:
        """Return up to when every gateway of the app has been heard."""
        ...
