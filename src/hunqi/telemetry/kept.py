"""All series in memory, by app and service; bounded in number and in size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from hunqi.telemetry.differences import Change, Counted, Used
from hunqi.telemetry.series import CustomSeries, Presence, RequestSeries, Sums, TaskSeries, ValueSeries
from hunqi.telemetry.settings import LiveLimits
from hunqi.telemetry.wire import TaskCounts

ServiceKey = tuple[str, str]
_LABELS_PER_METRIC: Final = 200
"""So many sets of labels of one metric of one task are kept."""


@dataclass(slots=True)
class ServiceSeries:
    """Everything of one service of an app."""

    revisions: dict[int, RequestSeries] = field(default_factory=dict[int, RequestSeries])
    held: ValueSeries = field(default_factory=lambda: ValueSeries("I"))
    held_presence: Presence = field(default_factory=Presence)
    tasks: dict[str, TaskSeries] = field(default_factory=dict[str, TaskSeries])
    custom: dict[str, dict[tuple[str, str], CustomSeries]] = field(
        default_factory=dict[str, dict[tuple[str, str], CustomSeries]]
    )
    """Metric → task and labels → values."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is kept."""
        return not (self.revisions or self.tasks or self.custom or self.held.last >= 0 or self.held_presence.last >= 0)


@dataclass(slots=True)
class OpenRound:
    """What is known of the round that is not over yet."""

    at: float = 0.0
    """When the last of its samples was received."""
    heard: set[str] = field(default_factory=set[str])
    """Nodes."""
    gateways: set[str] = field(default_factory=set[str])
    gap: bool = False
    requests: dict[tuple[str, str, int], Sums] = field(default_factory=dict[tuple[str, str, int], Sums])
    held: dict[ServiceKey, int] = field(default_factory=dict[ServiceKey, int])
    used: list[tuple[str, Used]] = field(default_factory=list[tuple[str, Used]])
    custom: list[tuple[str, Counted]] = field(default_factory=list[tuple[str, Counted]])


class Kept:
    """The series of all apps."""

    def __init__(self, limits: LiveLimits) -> None:
        self.services: dict[ServiceKey, ServiceSeries] = {}
        self.problems: dict[str, str] = {}
        """Kind → a sentence on what is not measured because there is too much of it."""
        self._limits = limits
        self._counts = {"services": 0, "tasks": 0, "custom": 0}

    def add(self, change: Change, into: OpenRound, *, counts_requests: bool) -> None:
        """Take what happened at a node into the open round; always into the totals."""
        for each in change.requests:
            counts = each.counts
            series = self._requests(counts.app, counts.service, counts.revision)
            if series is None:
                continue
            series.total.add(each.requests, each.classes, each.latency.items(), 0.0)
            if counts_requests:
                sums = into.requests.setdefault((counts.app, counts.service, counts.revision), Sums())
                sums.add(each.requests, each.classes, each.latency.items(), counts.active)
        for held in change.held:
            key = held.app, held.service
            into.held[key] = into.held.get(key, 0) + held.waiting
        into.used += [(change.node, each) for each in change.used]
        into.custom += [(change.node, each) for each in change.custom]

    def close(self, number: int, done: OpenRound, seconds: Mapping[str, float]) -> None:
        """Keep a round that is over; ``seconds`` are those since each node's sample before."""
        for (app, service, revision), sums in done.requests.items():
            if (series := self._requests(app, service, revision)) is not None:
                series.presence.note(number)
                series.append(number, sums)
        for key, waiting in done.held.items():
            self.note_held(key, number, waiting)
        for node, used in done.used:
            if (task := self.task(used.counts, node)) is not None:
                task.values.append(number, (used.cpu_cores, used.counts.memory_bytes, used.counts.ooms))
                task.cpu_s += used.cpu_cores * seconds.get(node, 0.0)
        for node, counted in done.custom:
            source = counted.source
            made = CustomSeries(source.revision, source.grows, node)
            where = (source.app, source.service, source.metric, source.task, source.labels)
            if (custom := self.custom(where, made)) is not None:
                custom.values.append(number, (counted.value,))

    def note_held(self, key: ServiceKey, number: int, waiting: int) -> None:
        """Keep how many requests wait for a service."""
        service = self.services.setdefault(key, ServiceSeries())
        service.held_presence.note(number)
        if waiting:
            service.held.append(number, (waiting,))

    def requests(self, app: str, service: str, revision: int) -> RequestSeries | None:
        """Return the series of a Swarm service, made if need be; None if there are too many."""
        return self._requests(app, service, revision)

    def task(self, counts: TaskCounts, node: str) -> TaskSeries | None:
        """Return a task's series, made if need be, with ``counts`` for its limits; None if there are too many."""
        tasks = self.services.setdefault((counts.app, counts.service), ServiceSeries()).tasks
        found = tasks.get(counts.task)
        if found is None:
            if not self._has_room("tasks", self._limits.most_series):
                return None
            found = tasks[counts.task] = TaskSeries(counts, node)
        found.counts, found.node = counts, node
        return found

    def custom(self, where: tuple[str, str, str, str, str], made: CustomSeries) -> CustomSeries | None:
        """Return the series of (app, service, metric, task, labels), ``made`` if there is none; None if too many."""
        app, service, metric, task, labels = where
        by_task = self.services.setdefault((app, service), ServiceSeries()).custom.setdefault(metric, {})
        found = by_task.get((task, labels))
        if found is None:
            if len(by_task) >= _LABELS_PER_METRIC or not self._has_room("custom", self._limits.most_custom):
                self.problems["custom"] = f"{metric} of {app} {service} has more sets of labels than are kept"
                return None
            found = by_task[task, labels] = made
        return found

    def of_app(self, app: str) -> Iterator[tuple[str, ServiceSeries]]:
        """Yield the services of an app."""
        return ((service, series) for (each, service), series in self.services.items() if each == app)

    def drop(self, before: int) -> int:
        """Drop rounds before a number and what is empty then; return how many numbers are left."""
        left = 0
        counts = {"services": 0, "tasks": 0, "custom": 0}
        for key, service in list(self.services.items()):
            left += _drop(service, before)
            counts["services"] += len(service.revisions)
            counts["tasks"] += len(service.tasks)
            counts["custom"] += sum(map(len, service.custom.values()))
            if service.is_empty:
                del self.services[key]
        self._counts = counts
        self.problems = {}
        return left

    def _requests(self, app: str, service: str, revision: int) -> RequestSeries | None:
        revisions = self.services.setdefault((app, service), ServiceSeries()).revisions
        found = revisions.get(revision)
        if found is None:
            if not self._has_room("services", self._limits.most_series):
                return None
            found = revisions[revision] = RequestSeries()
        return found

    def _has_room(self, kind: str, most: int) -> bool:
        if self._counts[kind] >= most:
            self.problems[kind] = f"more than {most} {kind} are there: the others are not measured"
            return False
        self._counts[kind] += 1
        return True


def _drop(service: ServiceSeries, before: int) -> int:
    left = 0
    for revision, series in list(service.revisions.items()):
        series.drop(before)
        left += series.numbers
        if series.presence.last < before:
            del service.revisions[revision]
    for task, series in list(service.tasks.items()):
        series.values.drop(before)
        left += series.values.numbers
        if series.values.last < before:
            del service.tasks[task]
    for metric, by_task in list(service.custom.items()):
        for key, series in list(by_task.items()):
            series.values.drop(before)
            left += series.values.numbers
            if series.values.last < before:
                del by_task[key]
        if not by_task:
            del service.custom[metric]
    service.held.drop(before)
    service.held_presence.drop(before)
    return left
