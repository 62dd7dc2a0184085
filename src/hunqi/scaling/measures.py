"""From what was measured of a service to what each of its measures asks for.

Requests are those of the last minute, as Knative's stable window has it, and of the last six seconds for bursts; CPU is
that of the last 30 s. A source that is down is an error of its measure, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hunqi.apps.scale_faults import basis
from hunqi.apps.scale_spec import Queue, ScaleSpec, Target
from hunqi.apps.sizing import Sized
from hunqi.errors import HunqiError
from hunqi.scaling.hpa import Measured, Proposal, Reading, TaskSeen, by_tasks, by_total
from hunqi.scaling.latency import Latency, LatencyMemory, by_latency
from hunqi.scaling.panic import PANIC_S, STABLE_S
from hunqi.scaling.ports import Querying
from hunqi.telemetry.errors import NotMeasuredError
from hunqi.telemetry.model import Subject, TaskUsage, Telemetry, Traffic

CPU_WINDOW_S: Final = 30.0
LATENCY_WINDOW_S: Final = 15.0
STALE_S: Final = 15.0
"""What was last measured longer ago says nothing of now."""
_NAMES: Final = {"cpu": "NanoCPUs", "memory": "MemoryBytes"}
Length = float | HunqiError | None
"""Of a queue: how much waits, or why that cannot be had; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """All that measures ask for. ``active`` is whether there is anything to do, None where that is not known."""

    proposals: tuple[Proposal, ...]
    burst: int | None
    latency: LatencyMemory
    active: bool | None
    activity: str


class Measures:
    """What the measures of one service ask for, by one look."""

    def __init__(
        self,
        telemetry: Telemetry,
        queue: float | HunqiError | None,
        app: str,
        sized: Sized,
        spec: ScaleSpec,
        now: float,
    ) -> None:
        """``queue`` is the length of the queue, or why it cannot be had."""
        self._telemetry = telemetry
        self._queue = queue
        self._app = app
        self._sized = sized
        self._spec = spec
        self._now = now
        self._subject = Subject(app=app, service=sized.service)

    def asked(self, tasks: Sequence[TaskSeen], memory: LatencyMemory) -> Asked:
        """Return what they ask for of ``tasks``."""
        proposals: list[Proposal] = []
        spec, current = self._spec, self._sized.wanted
        stable = self._traffic(STABLE_S)
        for name, target in (("cpu", spec.cpu), ("memory", spec.memory)):
            if target is not None:
                proposals.append(self._used(name, target, tasks))
        for name, per_task in (("rps", spec.rps), ("concurrency", spec.concurrency)):
            if per_task is not None:
                proposals.append(self._requested(name, per_task, stable, current))
        if spec.queue is not None:
            proposals.append(self._queued(spec.queue, current))
        if spec.p95_ms is not None:
            said, memory = self._late(spec.p95_ms, tasks, memory)
            proposals.append(said)
        active, activity = self._active(self._traffic(PANIC_S))
        return Asked(proposals=tuple(proposals), burst=self._burst(), latency=memory, active=active, activity=activity)

    def _traffic(self, window_s: float) -> Traffic | NotMeasuredError:
        try:
            end = min(self._now, self._telemetry.measured_until(self._app))
            if end < self._now - STALE_S:
                return NotMeasuredError(f"nothing was measured for {self._now - end:.0f} s")
            return self._telemetry.traffic(self._subject, start=end - window_s, end=end)
        except NotMeasuredError as error:
            return error

    def _requested(self, name: str, per_task: float, seen: Traffic | NotMeasuredError, current: int) -> Proposal:
        if isinstance(seen, NotMeasuredError):
            return Proposal(measure=name, replicas=None, target=per_task, error=str(seen))
        return by_total(name, _total(name, seen), per_task, current, self._spec.behavior)

    def _burst(self) -> int | None:
        """Return what the last seconds ask for, by the requests that are one task's."""
        seen = self._traffic(PANIC_S)
        if isinstance(seen, NotMeasuredError):
            return None
        targets = (("rps", self._spec.rps), ("concurrency", self._spec.concurrency))
        wanted = [math.ceil(_total(name, seen) / per_task - 1e-9) for name, per_task in targets if per_task]
        return max(wanted, default=None)

    def _used(self, name: str, target: Target, tasks: Sequence[TaskSeen]) -> Proposal:
        wanted = target.percent if target.percent is not None else target.amount or 0.0
        try:
            usages = self._telemetry.usage(self._subject, start=self._now - CPU_WINDOW_S, end=self._now)
        except NotMeasuredError as error:
            return Proposal(measure=name, replicas=None, target=wanted, error=str(error))
        readings: dict[str, Reading] = {}
        for usage in usages:
            if (reading := self._reading(name, usage, percent=target.percent is not None)) is not None:
                readings[usage.task] = reading
        measured = Measured(measure=name, target=wanted, readings=readings, cpu=name == "cpu")
        return by_tasks(self._sized.wanted, tasks, measured, self._spec.behavior, now=self._now)

    def _reading(self, name: str, usage: TaskUsage, *, percent: bool) -> Reading | None:
        if not usage.points or usage.points[-1].at < self._now - STALE_S:
            return None
        cpu = name == "cpu"
        last = usage.points[-1]
        value = sum(each.cpu_cores for each in usage.points) / len(usage.points) if cpu else float(last.memory_bytes)
        if percent:
            own = (
                usage.cpu_request_cores or usage.cpu_limit_cores
                if cpu
                else usage.memory_request_bytes or usage.memory_limit_bytes
            )
            held = own or basis(self._sized.spec, _NAMES[name])
            if not held:
                return None
            value = value / held * 100
        return Reading(value=value, at=last.at, window_s=last.at - usage.points[0].at)

    def _queued(self, queue: Queue, current: int) -> Proposal:
        if isinstance(self._queue, HunqiError) or self._queue is None:
            why = str(self._queue or "it was not asked")
            return Proposal(measure="queue", replicas=None, target=queue.per_replica, error=why)
        return by_total("queue", self._queue, queue.per_replica, current, self._spec.behavior)

    def _late(
        self, target_ms: float, tasks: Sequence[TaskSeen], memory: LatencyMemory
    ) -> tuple[Proposal, LatencyMemory]:
        seen = self._traffic(LATENCY_WINDOW_S)
        if isinstance(seen, NotMeasuredError):
            return Proposal(measure="p95", replicas=None, target=target_ms, error=str(seen)), memory
        ready = [each for each in tasks if each.ready and not each.pending]
        latency = Latency(
            p95_ms=seen.latency.quantile_ms(0.95),
            requests=seen.latency.total,
            current=self._sized.wanted,
            ready=len(ready),
            settled_at=max((each.changed_at for each in ready), default=self._now),
        )
        return by_latency(target_ms, latency, memory, self._spec.behavior, now=self._now)

    def _active(self, seen: Traffic | NotMeasuredError) -> tuple[bool | None, str]:
        """Say whether there is anything to do: requests, open streams, held ones, work in the queue."""
        if isinstance(self._queue, HunqiError):
            return None, f"the queue cannot be had: {self._queue}"
        if self._queue:
            return True, f"{self._queue:g} in the queue"
        if isinstance(seen, NotMeasuredError):
            return None, str(seen)
        if seen.requests or seen.active > 0 or seen.held:
            return True, f"{seen.requests} requests in {PANIC_S:.0f} s, {seen.active:.1f} open, {seen.held} held"
        return False, "no requests, none open, none held"


def _total(name: str, seen: Traffic) -> float:
    if name == "rps":
        return seen.requests / max(seen.end - seen.start, 0.1)
    return seen.active + seen.held


async def queue_length(
    queue: Queue, app: str, service: str, telemetry: Telemetry, querying: Querying, *, now: float
) -> float | HunqiError:
    """Return how much waits, or why that cannot be had.

    Of an app's own metric the largest is taken that any task tells of: a queue that all share is one.
    """
    try:
        if queue.source:
            return await querying.value(queue.source, queue.query)
        of, slash, metric = queue.query.rpartition("/")
        subject = Subject(app=app, service=of if slash else service)
        values = telemetry.custom(subject, metric, start=now - STALE_S, end=now)
        last = [points[-1].value for points in values.values() if points]
        return max(last) if last else NotMeasuredError(f"{queue.query} was not measured")
    except HunqiError as error:
        return error
