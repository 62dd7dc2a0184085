"""Answers questions on what was measured: of the last hours from memory, before that from the history, as one line."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from hunqi.telemetry.bins import OF_REQUESTS, UNITS, Bins, Question, from_history, from_live
from hunqi.telemetry.errors import MeasureError, NotMeasuredError
from hunqi.telemetry.exposition import expose
from hunqi.telemetry.live import Live
from hunqi.telemetry.model import Point, Subject, TaskUsage, Traffic
from hunqi.telemetry.operations import BY, MetricAnswer, MetricLine, MetricQuery, TopRow

LEAST_STEP_S: Final = 5
MOST_POINTS: Final = 2000
_FINEST_S: Final = 10
_GOOD_POINTS: Final = 120
_STEPS: Final = (10, 30, 60, 300, 600, 1800, 3600, 21_600, 86_400)
_TOP_S: Final = 30.0
_OWN: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}(\{[^{}]{0,500}\})?")
_MOST_LINES: Final = 200


class Past(Protocol):
    """What is on disk; implemented by ``History``."""

    async def bins(self, question: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Return bins: see ``history_worker``. Raises ``HistoryError``."""
        ...


class Queries:
    """Implements ``Metrics``."""

    def __init__(self, live: Live, history: Past, *, clock: Callable[[], float] = time.time) -> None:
        self._live = live
        self._history = history
        self._clock = clock

    async def query(self, app: str, query: MetricQuery) -> MetricAnswer:
        """Return values, from memory and disk. Raises ``MeasureError``, ``HistoryError``."""
        question = plan(app, query, now=self._clock())
        began = self._live.rounds.began
        cut = question.end if began is None else min(math.ceil(began / _FINEST_S) * _FINEST_S, question.end)
        bins: Bins = {}
        whole = max(question.start, cut - cut % question.step)
        # The step in which memory begins is made of both, and so of rows that do not reach into memory.
        for start, end, width in ((question.start, whole, question.step), (whole, cut, _FINEST_S)):
            if start < end:
                await self._ask_history(question, bins, start=start, end=end, width=width)
        if cut < question.end:
            from_live(replace(question, start=max(cut, question.start)), self._live, bins)
        return MetricAnswer(
            app=app,
            measure=query.measure,
            unit=UNITS.get(query.measure, ""),
            since=question.start,
            until=question.end,
            step_s=question.step,
            lines=_lines(bins, question.measure),
            measured_until=self._measured_until(app),
        )

    def top(self, apps: Collection[str]) -> Sequence[TopRow]:
        """Return what the services of these apps did in the last seconds, busiest first."""
        now = self._clock()
        rows = [self._row(app, service, now) for app, service in self._live.kept.services if app in apps]
        return sorted(rows, key=lambda row: (-(row.rps or 0.0), -(row.cpu_cores or 0.0), row.app, row.service))

    def exposition(self, apps: Collection[str]) -> str:
        """Return everything of these apps as OpenMetrics."""
        return expose(self._live, apps, now=self._clock())

    async def _ask_history(self, question: Question, bins: Bins, *, start: int, end: int, width: int) -> None:
        metric, labels = question.metric if question.kind == "custom" else (None, None)
        asked = {
            "kind": question.kind,
            "app": question.app,
            "service": question.service,
            "revision": question.revision,
            "by": question.by,
            "metric": metric,
            "labels": labels,
            "start": start,
            "end": end,
            "step": width,
        }
        from_history(question, await self._history.bins(asked), bins)

    def _measured_until(self, app: str) -> float | None:
        try:
            return self._live.measured_until(app)
        except NotMeasuredError:
            return None

    def _row(self, app: str, service: str, now: float) -> TopRow:
        subject = Subject(app=app, service=service)
        traffic: Traffic | None = None
        usage: Sequence[TaskUsage] = ()
        try:
            traffic = self._live.traffic(subject, start=now - _TOP_S, end=now)
        except NotMeasuredError:
            traffic = None
        try:
            usage = self._live.usage(subject, start=now - _TOP_S, end=now)
        except NotMeasuredError:
            usage = ()
        seconds = traffic.end - traffic.start if traffic else 0.0
        classes = sum(traffic.classes.values()) if traffic else 0
        return TopRow(
            app=app,
            service=service,
            revisions=tuple(sorted(self._live.kept.services[app, service].revisions)),
            seconds=seconds,
            rps=traffic.requests / seconds if traffic and seconds else None,
            error_rate=traffic.errors / classes if traffic and classes else None,
            p99_ms=traffic.latency.quantile_ms(0.99) if traffic else None,
            active=traffic.active if traffic else None,
            held=traffic.held if traffic else 0,
            cpu_cores=sum(each.points[-1].cpu_cores for each in usage) if usage else None,
            memory_bytes=sum(each.points[-1].memory_bytes for each in usage) if usage else None,
            tasks=len(usage),
        )


def plan(app: str, query: MetricQuery, *, now: float) -> Question:
    """Return the question with whole steps. Raises ``MeasureError``."""
    if query.measure not in UNITS and not _OWN.fullmatch(query.measure):
        raise MeasureError(
            f"there is no such measure; there are {', '.join(UNITS)}, and metrics of the app's own by name"
        )
    if query.by not in {"", *BY}:
        raise MeasureError(f"values are grouped by one of {', '.join(BY)}")
    if query.by in {"task", "node"} and query.measure in OF_REQUESTS:
        raise MeasureError(f"{query.measure} is counted by service and revision, not by {query.by}")
    until = min(query.until if query.until is not None else now, now)
    length = until - query.since
    if length <= 0:
        raise MeasureError("the time asked for ends before it begins, or has not begun")
    step = query.step_s or next((each for each in _STEPS if length / each <= _GOOD_POINTS), _STEPS[-1])
    if step < LEAST_STEP_S:
        raise MeasureError(f"a step has at least {LEAST_STEP_S} s")
    if length / step > MOST_POINTS:
        raise MeasureError(f"that would be over {MOST_POINTS} steps: choose longer ones, or less time")
    return Question(
        app=app,
        measure=query.measure,
        service=query.service,
        revision=query.revision,
        by=query.by,
        start=int(query.since // step) * step,
        end=int(until),
        step=step,
    )


def _lines(bins: Bins, measure: str) -> tuple[MetricLine, ...]:
    lines: list[MetricLine] = []
    for name in sorted(bins)[:_MOST_LINES]:
        values = ((at, bins[name][at].value(measure)) for at in sorted(bins[name]))
        points = tuple(Point(at=float(at), value=value) for at, value in values if value is not None)
        if points:
            lines.append(MetricLine(name=name, points=points))
    return tuple(lines)
