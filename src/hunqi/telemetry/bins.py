"""What falls into a step of a question, added up; and the measures that are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hunqi.telemetry.histogram import Histogram
from hunqi.telemetry.live import Live
from hunqi.telemetry.series import Sums, TaskSeries

PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
OF_REQUESTS: Final = ("rps", "error-rate", "success-rate", *PERCENTILES, "active", "held")
OF_TASKS: Final = ("cpu", "memory", "tasks")
UNITS: Final = {
    "rps": "requests/s",
    "error-rate": "share",
    "success-rate": "share",
    **dict.fromkeys(PERCENTILES, "ms"),
    "active": "requests",
    "held": "requests",
    "cpu": "cores",
    "memory": "bytes",
    "tasks": "tasks",
}


@dataclass(slots=True)
class Bin:
    """A step: sums of requests, and averages times the seconds that they are of."""

    seconds: float = 0.0
    sums: Sums = field(default_factory=Sums)
    active: float = 0.0
    held: float = 0.0
    first: float = 0.0
    """CPU, or the value of an app's own metric."""
    second: float = 0.0
    """Memory."""
    tasks: float = 0.0

    def value(self, measure: str) -> float | None:
        """Return a measure; None where nothing was measured, or there was nothing to measure it on."""
        if self.seconds <= 0:
            return None
        classes = sum(self.sums.classes)
        match measure:
            case "rps":
                return self.sums.requests / self.seconds
            case "error-rate":
                return self.sums.classes[4] / classes if classes else None
            case "success-rate":
                return 1 - self.sums.classes[4] / classes if classes else None
            case "active":
                return self.active / self.seconds
            case "held":
                return self.held / self.seconds
            case "memory":
                return self.second / self.seconds
            case "tasks":
                return self.tasks / self.seconds
            case _ if measure in PERCENTILES:
                return Histogram(self.sums.latency).quantile_ms(PERCENTILES[measure])
            case _:
                return self.first / self.seconds


Bins = dict[str, dict[int, Bin]]
"""Group → when the step began → what fell into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: of ``start`` to ``end`` in steps; ``by`` is empty, service, revision, task or node."""

    app: str
    measure: str
    service: str | None = None
    revision: int | None = None
    by: str = ""
    start: int
    end: int
    step: int

    @property
    def kind(self) -> str:
        """The kind of rows that answer it."""
        if self.measure in OF_REQUESTS:
            return "services"
        return "tasks" if self.measure in OF_TASKS else "custom"

    @property
    def metric(self) -> tuple[str, str | None]:
        """The name of an app's own metric, and its labels if they are given."""
        name, brace, labels = self.measure.partition("{")
        return name, labels.removesuffix("}") if brace else None


def group_of(by: str, service: str, revision: int, *, task: str = "", node: str = "") -> str:
    """Return the name of a group."""
    return {"service": service, "revision": f"{service}-r{revision}", "task": task, "node": node}.get(by, "")


def from_history(question: Question, rows: Sequence[Sequence[Any]], into: Bins) -> None:
    """Add what the history answered."""
    for group, at, *rest in rows:
        found = into.setdefault(str(group), {}).setdefault(int(at) - int(at) % question.step, Bin())
        if question.kind == "services":
            seconds, requests, classes, buckets, counts, active, held, _ = rest
            latency = zip(buckets, counts, strict=True)
            found.sums.add(requests, classes, latency, 0.0)
            weight = float(seconds)
            found.active += active * weight
            found.held += held * weight
        else:
            first, second, tasks, moments, level_s = rest
            weight = float(moments) * level_s
            found.first += first * weight
            found.second += second * weight
            found.tasks += tasks * weight
        found.seconds += weight


def from_live(question: Question, live: Live, into: Bins) -> None:
    """Add what is in memory."""
    for at in range(question.start - question.start % question.step, question.end, question.step):
        span = max(at, question.start), min(at + question.step, question.end)
        if question.kind == "services":
            _live_requests(question, live, at, span, into)
        else:
            _live_values(question, live, at, span, into)


def _live_requests(question: Question, live: Live, at: int, span: tuple[int, int], into: Bins) -> None:
    intervals = live.rounds.intervals(*span)
    if not intervals:
        return
    seconds = sum(each.end - each.start for each in intervals)
    rounds = sum(each.last - each.first + 1 for each in intervals)
    first, last = intervals[0].first, intervals[-1].last
    groups: dict[str, Bin] = {}
    for name, service in live.kept.of_app(question.app):
        if question.service not in {None, name}:
            continue
        held = sum(row[0] for _, row in service.held.rows(first, last)) / rounds * seconds
        for revision, series in sorted(service.revisions.items(), reverse=True):
            if question.revision not in {None, revision} or not series.presence.overlaps(first, last):
                continue
            group = group_of(question.by, name, revision)
            found = into.setdefault(group, {}).setdefault(at, Bin())
            for each in intervals:
                series.sum_into(found.sums, each.first, each.last)
            found.active += series.active_sum(first, last) / rounds * seconds
            found.held += held
            held = 0.0  # it has no revision: the newest one stands for the service
            groups[group] = found
    for found in groups.values():
        found.seconds += seconds


def _live_values(question: Question, live: Live, at: int, span: tuple[int, int], into: Bins) -> None:
    rounds = live.rounds.within(*span)
    metric, labels = question.metric
    found: dict[str, list[tuple[int, float, float]]] = {}
    for name, service in live.kept.of_app(question.app):
        if question.service not in {None, name} or not rounds:
            continue
        if question.kind == "tasks":
            for task, series in service.tasks.items():
                if question.revision in {None, series.counts.revision}:
                    group = group_of(question.by, name, series.counts.revision, task=task, node=series.node)
                    found.setdefault(group, []).append(_task_sums(series, rounds))
            continue
        for (task, own), values in service.custom.get(metric, {}).items():
            if question.revision in {None, values.revision} and labels in {None, own}:
                group = group_of(question.by, name, values.revision, task=task, node=values.node)
                rows = [row[0] for _, row in values.values.rows(rounds.start, rounds.stop - 1)]
                found.setdefault(group, []).append((len(rows), sum(rows), 0.0))
    for group, sums in found.items():
        # Nodes are heard in the same rounds, but for those that came or went: the one heard most often has them all.
        count = max(points for points, _, _ in sums)
        if count:
            total = into.setdefault(group, {}).setdefault(at, Bin())
            seconds = float(span[1] - span[0])
            total.seconds += seconds
            total.first += sum(first for _, first, _ in sums) / count * seconds
            total.second += sum(second for _, _, second in sums) / count * seconds
            total.tasks += sum(points for points, _, _ in sums) / count * seconds


def _task_sums(series: TaskSeries, rounds: range) -> tuple[int, float, float]:
    rows = [row for _, row in series.values.rows(rounds.start, rounds.stop - 1)]
    return len(rows), sum(row[0] for row in rows), sum(row[1] for row in rows)
