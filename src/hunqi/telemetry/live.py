"""What was measured in the last hours, in memory: ``Live`` takes the nodes' samples and answers the other rooms.

An interval lasts from one moment at which every gateway had been heard to the next (``rounds``). What is asked for is
summed over whole intervals, those that ended within the time asked for; so two revisions are always compared on the
same traffic, and all of it. A gateway that is not heard holds the intervals up, until its node is taken for gone
(``LiveLimits.away_after_s``); what it counted meanwhile is in no interval, and the one in which it is heard again is
left out whole. All methods are for one thread.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import Final

from hunqi.telemetry.differences import Change, NodeCounts
from hunqi.telemetry.errors import NotMeasuredError
from hunqi.telemetry.histogram import Histogram
from hunqi.telemetry.kept import Kept, OpenRound, ServiceSeries
from hunqi.telemetry.model import Point, Subject, TaskUsage, Traffic, UsagePoint
from hunqi.telemetry.restoring import restore
from hunqi.telemetry.rounds import Interval, Rounds
from hunqi.telemetry.rows import Step
from hunqi.telemetry.series import Sums, as_mapping
from hunqi.telemetry.settings import LiveLimits
from hunqi.telemetry.wire import NodeSample

_TRIM_ROUNDS: Final = 64
_TICK_S: Final = 1e-3
_MOST_WAITING: Final = 1000
"""Samples that are kept aside while the last hours are read back."""


class Live:
    """Implements ``Telemetry``. ``expected`` says which nodes are to be heard; ``clock`` is the leader's."""

    def __init__(
        self,
        expected: Callable[[], Collection[str]],
        *,
        clock: Callable[[], float] = time.time,
        limits: LiveLimits | None = None,
    ) -> None:
        self._expected = expected
        self._clock = clock
        self._limits = limits or LiveLimits()
        self._nodes: dict[str, NodeCounts] = {}
        self._gateway_at: dict[str, float] = {}
        """When a node's gateway was heard last; of one that never was, since when it is waited for."""
        self._rounds = Rounds()
        self._open = OpenRound()
        self._seconds: dict[str, float] = {}
        self._kept = Kept(self._limits)
        self._latest = 0.0
        self._aside: deque[tuple[NodeSample, float]] | None = None

    @property
    def keep_s(self) -> float:
        """For so long each interval is kept."""
        return self._limits.keep_s

    @property
    def rounds(self) -> Rounds:
        """The rounds and intervals that are kept."""
        return self._rounds

    @property
    def kept(self) -> Kept:
        """All series."""
        return self._kept

    @property
    def problems(self) -> Sequence[str]:
        """What cannot be measured now, in sentences."""
        found = [problem for node in self._nodes.values() if node.last for problem in node.last.problems]
        return [*found, *self._kept.problems.values()]

    def samples(self) -> Mapping[str, NodeSample]:
        """Return the last sample of each node."""
        return {name: node.last for name, node in self._nodes.items() if node.last is not None}

    def record(self, sample: NodeSample) -> None:
        """Take in what a node has just answered; one that came before is passed over."""
        if self._aside is not None:
            self._aside.append((sample, self._now()))
            return
        self._take(sample, self._now())

    @contextlib.contextmanager
    def restoring(self) -> Generator[Callable[[Step], None]]:
        """Take steps of the history, in order; samples that come meanwhile are kept aside until the end."""
        self._aside = deque(maxlen=_MOST_WAITING)
        try:
            yield lambda step: restore(step, self._rounds, self._kept)
        finally:
            aside, self._aside = self._aside, None
            for sample, received in aside:
                self._take(sample, received)

    def traffic(self, subject: Subject, *, start: float, end: float) -> Traffic:
        """Return the requests of the intervals that ended within the time. Raises ``NotMeasuredError``."""
        measured = self._measured(subject, start, end)
        service = self._kept.services[subject.app, subject.service]
        return self._sum(service, subject.revision, measured)

    def traffic_by_interval(self, subject: Subject, *, start: float, end: float) -> Sequence[Traffic]:
        """Return the same, one for each interval, in order. Raises ``NotMeasuredError``."""
        measured = self._measured(subject, start, end)
        service = self._kept.services[subject.app, subject.service]
        return [self._sum(service, subject.revision, [each]) for each in measured]

    def usage(self, subject: Subject, *, start: float, end: float) -> Sequence[TaskUsage]:
        """Return what each task used within the time, by task. Raises ``NotMeasuredError``."""
        service = self._kept.services.get((subject.app, subject.service))
        rounds = self._rounds.within(start, end)
        found: list[TaskUsage] = []
        for name, task in sorted(service.tasks.items()) if service else ():
            counts = task.counts
            if subject.revision is not None and counts.revision != subject.revision:
                continue
            points = tuple(
                UsagePoint(at=self._rounds.end_of(number), cpu_cores=row[0], memory_bytes=int(row[1]), ooms=int(row[2]))
                for number, row in task.values.rows(rounds.start, rounds.stop - 1)
            )
            if points:
                found.append(
                    TaskUsage(
                        task=name,
                        node=task.node,
                        revision=counts.revision,
                        points=points,
                        cpu_limit_cores=counts.cpu_limit_cores,
                        memory_limit_bytes=counts.memory_limit_bytes,
                        cpu_request_cores=counts.cpu_request_cores,
                        memory_request_bytes=counts.memory_request_bytes,
                    )
                )
        if not found:
            raise NotMeasuredError(f"no task of {_named(subject)} was measured {_when(start, end)}")
        return found

    def custom(self, subject: Subject, metric: str, *, start: float, end: float) -> Mapping[str, Sequence[Point]]:
        """Return by task the values of a metric that the app itself counts. Raises ``NotMeasuredError``.

        ``metric`` is its name, for the sum over all its labels, or with labels as the app wrote them:
        ``jobs{queue="a"}``.
        """
        name, _, labels = metric.partition("{")
        service = self._kept.services.get((subject.app, subject.service))
        rounds = self._rounds.within(start, end)
        sums: dict[str, dict[int, float]] = {}
        for (task, own), series in service.custom.get(name, {}).items() if service else ():
            if subject.revision not in {None, series.revision} or (labels and own != labels.removesuffix("}")):
                continue
            for number, (value,) in series.values.rows(rounds.start, rounds.stop - 1):
                of_task = sums.setdefault(task, {})
                of_task[number] = of_task.get(number, 0.0) + value
        if not sums:
            raise NotMeasuredError(f"{metric} of {_named(subject)} was not measured {_when(start, end)}")
        return {
            task: [Point(at=self._rounds.end_of(number), value=values[number]) for number in sorted(values)]
            for task, values in sorted(sums.items())
        }

    def measured_until(self, app: str) -> float:
        """Return when the last interval ended; every gateway serves every app. Raises ``NotMeasuredError``."""
        until = self._rounds.measured_until
        if until is None or not any(True for _ in self._kept.of_app(app)):
            raise NotMeasuredError(f"nothing of {app} has been measured yet")
        return until

    def _now(self) -> float:
        """Return the clock's time; it never goes back here."""
        self._latest = max(self._clock(), self._latest + _TICK_S)
        return self._latest

    def _take(self, sample: NodeSample, now: float) -> None:
        node = self._nodes.setdefault(sample.node, NodeCounts(sample.node))
        change = node.take(sample, now)
        if change is None:
            return
        if sample.node in self._open.heard:
            self._close()
        self._add(change)
        if self._open.heard >= self._present(now):
            self._close()

    def _add(self, change: Change) -> None:
        node, now, round_ = change.node, change.at, self._open
        round_.heard.add(node)
        round_.at = now
        away = now - self._gateway_at.get(node, now) > self._limits.away_after_s
        if change.gateway or change.began:
            round_.gateways.add(node)
            round_.gap = round_.gap or change.began or away
            self._gateway_at[node] = now
        if change.since is not None:
            self._seconds[node] = now - change.since
        self._kept.add(change, round_, counts_requests=change.gateway and not away)

    def _present(self, now: float) -> set[str]:
        """Return the nodes that are to be heard and are not taken for gone."""
        expected = set(self._expected())
        for node in expected - self._gateway_at.keys():
            self._gateway_at[node] = now
        late = now - self._limits.away_after_s
        return {node for node in expected if max(self._gateway_at[node], self._heard_at(node)) >= late}

    def _heard_at(self, node: str) -> float:
        found = self._nodes.get(node)
        return found.received if found else 0.0

    def _close(self) -> None:
        """End the open round, at the time of its last sample."""
        done, self._open = self._open, OpenRound()
        end = done.at if self._rounds.ended is None else max(done.at, self._rounds.ended + _TICK_S)
        late = end - self._limits.away_after_s
        required = {node for node in self._present(end) if self._gateway_at[node] >= late}
        number = self._rounds.close(end, heard=done.gateways, gap=done.gap, required=required)
        self._kept.close(number, done, self._seconds)
        if number % _TRIM_ROUNDS == 0:
            self._trim(end)

    def _trim(self, now: float) -> None:
        """Keep to the bounds."""
        rounds = self._rounds
        left = self._kept.drop(rounds.drop(now - self._limits.keep_s, most=len(rounds)))
        while left > self._limits.most_numbers and len(rounds) > 1:
            left = self._kept.drop(rounds.drop(0.0, most=len(rounds) * 4 // 5))
        expected = set(self._expected())
        gone = [name for name, node in self._nodes.items() if name not in expected and now - node.received > 60.0]
        for name in gone:
            del self._nodes[name]
            self._gateway_at.pop(name, None)
            self._seconds.pop(name, None)

    def _measured(self, subject: Subject, start: float, end: float) -> list[Interval]:
        """Return the intervals within the time in which the subject was measured."""
        intervals = self._rounds.intervals(start, end)
        service = self._kept.services.get((subject.app, subject.service))
        found = [each for each in intervals if service and _is_present(service, subject.revision, each)]
        if not found:
            raise NotMeasuredError(f"no requests to {_named(subject)} were measured {_when(start, end)}")
        return found

    def _sum(self, service: ServiceSeries, revision: int | None, intervals: Sequence[Interval]) -> Traffic:
        sums, open_s, held = Sums(), 0.0, 0
        for run in runs(intervals):
            for number, series in service.revisions.items():
                if revision in {None, number}:
                    series.sum_into(sums, run.first, run.last)
        for each in intervals:
            rounds = each.last - each.first + 1
            active = sum(
                series.active_sum(each.first, each.last)
                for number, series in service.revisions.items()
                if revision in {None, number}
            )
            open_s += active / rounds * (each.end - each.start)
        if revision is None:
            last = intervals[-1].last
            held = int(sum(row[0] for _, row in service.held.rows(last, last)))
        return Traffic(
            start=intervals[0].start,
            end=intervals[-1].end,
            requests=sums.requests,
            classes=as_mapping(sums.classes),
            latency=Histogram(sums.latency),
            active=open_s / sum(each.end - each.start for each in intervals),
            held=held,
        )


def runs(intervals: Sequence[Interval]) -> Iterator[Interval]:
    """Yield intervals that follow each other as one."""
    run: Interval | None = None
    for each in intervals:
        if run is not None and each.first == run.last + 1:
            run = Interval(run.first, each.last, run.start, each.end)
            continue
        if run is not None:
            yield run
        run = each
    if run is not None:
        yield run


def _is_present(service: ServiceSeries, revision: int | None, interval: Interval) -> bool:
    if revision is None and service.held_presence.overlaps(interval.first, interval.last):
        return True
    return any(
        series.presence.overlaps(interval.first, interval.last)
        for number, series in service.revisions.items()
        if revision in {None, number}
    )


def _named(subject: Subject) -> str:
    revision = "" if subject.revision is None else f" of revision {subject.revision}"
    return f"{subject.app} {subject.service}{revision}"


def _when(start: float, end: float) -> str:
    return f"in the {max(0.0, end - start):.0f} s up to {time.strftime('%H:%M:%S', time.gmtime(end))} UTC"
