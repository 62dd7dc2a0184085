"""The measures of tasks: CPU, memory and its leaks, tasks that ended. Rules, not tests: they state no confidence.

A leak is growth that neither ends nor slows down, of at least half of the new revision's tasks, and that leads past a
ceiling within ten minutes: the task's limit, or twice what the old revision's tasks have.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from hunqi.apps.rollout_spec import MeasureSpec
from hunqi.rollouts.analysis.readings import Reading
from hunqi.rollouts.analysis.sentences import megabytes, seconds
from hunqi.telemetry.model import TaskUsage, UsagePoint

WINDOW_S: Final = 60.0
"""How far back tasks are looked at."""
HORIZON_S: Final = 600.0
"""How far growth is thought on."""
_SPAN_S: Final = 38.0
_POINTS: Final = 8
_AT_MOST_POINTS: Final = 24
_TREND: Final = 2.5
"""Mann and Kendall's statistic, in standard deviations."""
_STEADY: Final = 0.75
"""The last third grows at least so fast as the first, as a part of it; what warms up slows down."""
_THROUGHOUT: Final = 0.4
"""Each third grows at least so fast, as a part of the whole; what steps up once does not."""
_GROWTH_BYTES: Final = 8 * 1024 * 1024
_FASTER: Final = 2.0
"""Than the old revision's tasks over the same time."""
_CEILING: Final = 2.0
_MORE_BYTES: Final = 32 * 1024 * 1024
_MORE_CORES: Final = 0.05
_SETTLED_POINTS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """The tasks of both revisions over the same time, and the requests that each revision got in it."""

    new: Sequence[TaskUsage]
    old: Sequence[TaskUsage]
    requests_new: int = 0
    requests_old: int = 0


def memory(spec: MeasureSpec, service: str, tasks: Tasks) -> Reading:
    """Return what the working sets of both revisions' tasks say."""
    new, old = _median_memory(tasks.new), _median_memory(tasks.old)
    if new is None:
        return Reading(facts=f"{service}: memory", error="no task of the new revision was measured")
    facts = f"{service}: a task of the new revision has {megabytes(new)}" + (
        "" if old is None else f", of the old one {megabytes(old)}"
    )
    settled = [task for task in tasks.new if len(task.points) >= _SETTLED_POINTS]
    failed = _above(spec, tasks.new) or leaking(tasks)
    worse = spec.compare and old is not None and new > old * (1 + spec.tolerance) and new - old > _MORE_BYTES
    if not failed and worse and settled:
        failed = f"more than {spec.tolerance * 100:g} % more"
    return Reading(
        facts=facts,
        failed=failed,
        waiting="" if settled else "not yet looked at for long enough",
        new=new,
        old=old,
        samples_new=sum(len(task.points) for task in tasks.new),
        samples_old=sum(len(task.points) for task in tasks.old),
    )


def _above(spec: MeasureSpec, tasks: Sequence[TaskUsage]) -> str:
    if spec.at_most is None:
        return ""
    for task in tasks:
        last = [point.memory_bytes for point in task.points[-2:]]
        if len(last) == 2 and min(last) > spec.at_most:
            return f"task {task.task[:12]} has more than the {megabytes(spec.at_most)} that are allowed"
    return ""


def leaking(tasks: Tasks) -> str:
    """Return how the new revision's tasks leak, in words; empty if fewer than half of them do."""
    old_level = _median_memory(tasks.old) or 0.0
    old_slope = max((slope(task.points) for task in tasks.old), default=0.0)
    watched = [task for task in tasks.new if _long_enough(task.points)]
    growing = [rate for task in watched if (rate := _leak(task, old_level=old_level, old_slope=old_slope)) is not None]
    if not growing or 2 * len(growing) < len(watched):
        return ""
    span_s = max(task.points[-1].at - task.points[0].at for task in watched)
    return (
        f"{len(growing)} of {len(watched)} tasks grow by {megabytes(statistics.median(growing))} each second for "
        f"{seconds(span_s)} without slowing down"
    )


def _leak(task: TaskUsage, *, old_level: float, old_slope: float) -> float | None:
    """Return by how many bytes a second ``task`` leaks, None if it does not."""
    points = _thinned(task.points)
    rate, third = slope(points), len(points) // 3
    first, last = points[0], points[-1]
    level = statistics.median(point.memory_bytes for point in points[-3:])
    growth = rate * (last.at - first.at)
    if growth < _GROWTH_BYTES or trend(points) < _TREND or rate < _FASTER * max(0.0, old_slope):
        return None
    parts = [slope(part) for part in (points[: third + 1], points[third:-third], points[-third - 1 :])]
    if min(parts) < _THROUGHOUT * rate or parts[-1] < _STEADY * parts[0]:
        return None
    ceiling = _CEILING * max(old_level, float(first.memory_bytes))
    if task.memory_limit_bytes is not None:
        ceiling = min(ceiling, float(task.memory_limit_bytes))
    return rate if level + rate * HORIZON_S > ceiling else None


def _long_enough(points: Sequence[UsagePoint]) -> bool:
    return len(points) >= _POINTS and points[-1].at - points[0].at >= _SPAN_S


def _thinned(points: Sequence[UsagePoint]) -> Sequence[UsagePoint]:
    step = math.ceil(len(points) / _AT_MOST_POINTS)
    return points[(len(points) - 1) % step :: step]


def slope(points: Sequence[UsagePoint]) -> float:
    """Return Theil and Sen's slope of the memory: the median over all pairs, in bytes a second."""
    rates = [
        (later.memory_bytes - earlier.memory_bytes) / (later.at - earlier.at)
        for earlier, later in combinations(_thinned(points), 2)
        if later.at > earlier.at
    ]
    return statistics.median(rates) if rates else 0.0


def trend(points: Sequence[UsagePoint]) -> float:
    """Return Mann and Kendall's statistic of the memory, in standard deviations."""
    number = len(points)
    if number < 3:
        return 0.0
    score = sum(
        (later.memory_bytes > earlier.memory_bytes) - (later.memory_bytes < earlier.memory_bytes)
        for earlier, later in combinations(points, 2)
    )
    spread = math.sqrt(number * (number - 1) * (2 * number + 5) / 18)
    return (score - math.copysign(1, score)) / spread if score else 0.0


def cpu(spec: MeasureSpec, service: str, tasks: Tasks) -> Reading:
    """Return what the CPU of both revisions' tasks says.

    The new one is worse only if its tasks use more each, and, where both get requests, more for each request too.
    """
    new, old = _median_cores(tasks.new), _median_cores(tasks.old)
    if new is None:
        return Reading(facts=f"{service}: CPU", error="no task of the new revision was measured")
    facts = f"{service}: a task of the new revision uses {new:.2g} cores" + (
        "" if old is None else f", of the old one {old:.2g}"
    )
    failed = ""
    if spec.at_most is not None and new > spec.at_most:
        failed = f"more than the {spec.at_most:g} that are allowed"
    elif spec.compare and old is not None and _costs_more(spec, tasks, new, old):
        failed = f"more than {spec.tolerance * 100:g} % more"
    settled = any(len(task.points) >= _SETTLED_POINTS for task in tasks.new)
    return Reading(
        facts=facts,
        failed=failed if settled else "",
        waiting="" if settled else "not yet looked at for long enough",
        new=new,
        old=old,
        samples_new=sum(len(task.points) for task in tasks.new),
        samples_old=sum(len(task.points) for task in tasks.old),
    )


def _costs_more(spec: MeasureSpec, tasks: Tasks, new: float, old: float) -> bool:
    if new <= old * (1 + spec.tolerance) or new - old <= _MORE_CORES:
        return False
    if not tasks.requests_new or not tasks.requests_old:
        return True
    each_new = new * len(tasks.new) / tasks.requests_new
    return each_new > old * len(tasks.old) / tasks.requests_old * (1 + spec.tolerance)


def restarts(spec: MeasureSpec, service: str, *, new: tuple[int, int], old: tuple[int, int] | None) -> Reading:
    """Return what tasks that ended by themselves say; each pair is how many did, and how many tasks there are.

    One is an accident unless the file allows none; more are a failure if the old revision's end less often.
    """
    ended, tasks = new
    allowed = 1 if spec.at_most is None else math.floor(spec.at_most)
    facts = f"{service}: {ended} tasks of the new revision ended by themselves since the start" + (
        "" if old is None else f", {old[0]} of the old one"
    )
    each_old = old[0] / max(1, old[1]) if old is not None and spec.compare else 0.0
    worse = ended > allowed and ended / max(1, tasks) > each_old * (1 + spec.tolerance)
    return Reading(
        facts=facts,
        failed=f"more than the {allowed} that are allowed" if worse else "",
        new=float(ended),
        old=None if old is None else float(old[0]),
        samples_new=tasks,
        samples_old=0 if old is None else old[1],
    )


def _median_memory(tasks: Sequence[TaskUsage]) -> float | None:
    levels = [statistics.median(point.memory_bytes for point in task.points[-3:]) for task in tasks if task.points]
    return float(statistics.median(levels)) if levels else None


def _median_cores(tasks: Sequence[TaskUsage]) -> float | None:
    levels = [
        statistics.fmean(point.cpu_cores for point in task.points[-_SETTLED_POINTS:]) for task in tasks if task.points
    ]
    return statistics.median(levels) if levels else None
