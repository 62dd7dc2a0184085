"""The algorithm of Kubernetes' HorizontalPodAutoscaler, as pure functions of what was measured.

Rules and their order are those of the page *Horizontal Pod Autoscaling* ("Algorithm details", "Configurable scaling
behavior") and, where it is silent (rounding, which events count), of its controller in 1.30. Where the two differ, the
page holds: a task without a value counts as 100 % of the *target* on the way down, not of what it reserves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hunqi.apps.scale_spec import Behavior, PolicyKind, Rules, Select

CPU_INITIALISATION_S: Final = 300.0
"""How long after its start a task's CPU counts only once it has been ready for a whole window of measuring."""
READINESS_DELAY_S: Final = 30.0
"""A task that became unready within this time of its start was never ready."""
_MOST_MARKS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSeen:
    """A task that is to go on. Times are seconds since the epoch."""

    id: str
    started_at: float = 0.0
    ready: bool = True
    changed_at: float = 0.0
    """When it became ready, or unready."""
    pending: bool = False
    """Whether it does not run yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a task used on average over ``window_s`` seconds up to ``at``."""

    value: float
    at: float = math.inf
    window_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What one measure asks for. ``average`` is without those set aside, as the HPA reports it."""

    measure: str
    replicas: int | None
    """None where it says nothing: it is in error, or has no opinion."""
    target: float = 0.0
    average: float | None = None
    ratio: float | None = None
    counted: int = 0
    missing: int = 0
    unready: int = 0
    error: str = ""
    """Why it cannot be had; keeps the service from being scaled down."""
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Tasks by what their values are worth."""

    counted: tuple[TaskSeen, ...]
    missing: tuple[TaskSeen, ...]
    unready: tuple[TaskSeen, ...]


def sort_out(tasks: Sequence[TaskSeen], readings: Mapping[str, Reading], *, cpu: bool, now: float) -> Groups:
    """Set aside tasks without values, and those whose values say nothing yet."""
    counted: list[TaskSeen] = []
    missing: list[TaskSeen] = []
    unready: list[TaskSeen] = []
    for task in tasks:
        reading = readings.get(task.id)
        if task.pending:
            unready.append(task)
        elif reading is None:
            missing.append(task)
        elif cpu and _is_initialising(task, reading, now):
            unready.append(task)
        else:
            counted.append(task)
    return Groups(counted=tuple(counted), missing=tuple(missing), unready=tuple(unready))


def _is_initialising(task: TaskSeen, reading: Reading, now: float) -> bool:
    if now < task.started_at + CPU_INITIALISATION_S:
        return not task.ready or reading.at < task.changed_at + reading.window_s
    return not task.ready and task.changed_at < task.started_at + READINESS_DELAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A measure of each task: ``target`` is what a task is to have on average."""

    measure: str
    target: float
    readings: Mapping[str, Reading]
    cpu: bool = False


def by_tasks(current: int, tasks: Sequence[TaskSeen], measured: Measured, rules: Behavior, *, now: float) -> Proposal:
    """Return what a measure of each task asks for: desired = ceil(current × (value / target))."""
    groups = sort_out(tasks, measured.readings, cpu=measured.cpu, now=now)
    values = [measured.readings[each.id].value for each in groups.counted]
    numbers = Proposal(
        measure=measured.measure,
        replicas=None,
        target=measured.target,
        counted=len(groups.counted),
        missing=len(groups.missing),
        unready=len(groups.unready),
    )
    if not values:
        return replace(numbers, error="no task that is ready has been measured")
    average = sum(values) / len(values)
    ratio = average / measured.target
    numbers = replace(numbers, average=average, ratio=ratio)
    dampened = bool(groups.unready) and ratio > 1.0
    if not dampened and not groups.missing:
        if _tolerated(ratio, rules):
            return replace(numbers, replicas=current, sentence="within tolerance of its target")
        return replace(numbers, replicas=_ceil(ratio * len(values)))
    supposed = [measured.target if ratio < 1.0 else 0.0] * (len(groups.missing) if ratio != 1.0 else 0)
    if dampened:
        supposed += [0.0] * len(groups.unready)
    considered = [*values, *supposed]
    again = sum(considered) / len(considered) / measured.target
    if _tolerated(again, rules) or (again - 1.0) * (ratio - 1.0) < 0:
        return replace(numbers, replicas=current, sentence="tasks without values or not ready yet may account for it")
    wanted = _ceil(again * len(considered))
    if (again < 1.0 and wanted > current) or (again > 1.0 and wanted < current):
        return replace(numbers, replicas=current, sentence="tasks without values or not ready yet may account for it")
    return replace(numbers, replicas=wanted)


def by_total(measure: str, total: float, per_task: float, current: int, rules: Behavior) -> Proposal:
    """Return what a total asks for of which ``per_task`` is one task's (AverageValue): ceil(total / per_task)."""
    average = total / current if current else total
    numbers = Proposal(measure=measure, replicas=None, target=per_task, average=average, counted=current)
    if current == 0:
        return replace(numbers, replicas=_ceil(total / per_task))
    ratio = total / (per_task * current)
    if _tolerated(ratio, rules):
        return replace(numbers, ratio=ratio, replicas=current, sentence="within tolerance of its target")
    return replace(numbers, ratio=ratio, replicas=_ceil(total / per_task))


def by_value(measure: str, value: float, target: float, current: int, ready: int, rules: Behavior) -> Proposal:
    """Return what a value asks for that is to have a target as a whole (Value): ceil(ready × (value / target))."""
    ratio = value / target
    numbers = Proposal(measure=measure, replicas=None, target=target, average=value, ratio=ratio, counted=ready)
    if current == 0:
        return replace(numbers, replicas=_ceil(ratio))
    if _tolerated(ratio, rules):
        return replace(numbers, replicas=current, sentence="within tolerance of its target")
    return replace(numbers, replicas=_ceil(ratio * ready))


def _tolerated(ratio: float, rules: Behavior) -> bool:
    tolerance = rules.up.tolerance if ratio > 1.0 else rules.down.tolerance
    return abs(ratio - 1.0) <= tolerance + 1e-9


def _ceil(value: float) -> int:
    """Round up; what floats add in their last digits is no whole task."""
    return math.ceil(value - 1e-9)


def combine(proposals: Sequence[Proposal], current: int) -> tuple[int | None, str]:
    """Return the largest that is asked for, and why; None where scaling is skipped.

    A measure in error keeps the service from being scaled down, not up.
    """
    broken = [each for each in proposals if each.error]
    said = [each for each in proposals if each.replicas is not None]
    if not said:
        return None, "; ".join(f"{each.measure}: {each.error}" for each in broken) or "nothing was measured"
    first = max(said, key=lambda each: each.replicas or 0)
    wanted = first.replicas or 0
    if broken and wanted < current:
        lost = " and ".join(each.measure for each in broken)
        return None, f"{first.measure} asks for {wanted}, but {lost} cannot be had: not scaled down"
    return wanted, f"{first.measure} asks for {wanted}"


@dataclass(frozen=True, slots=True)
class Mark:
    """A number at a moment: what was recommended, or how many tasks came or went."""

    at: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the algorithm must not forget over a restart; bounded."""

    recommendations: tuple[Mark, ...] = ()
    ups: tuple[Mark, ...] = ()
    downs: tuple[Mark, ...] = field(default=())


def stabilise(memory: Memory, desired: int, current: int, behavior: Behavior, *, now: float) -> tuple[int, Memory]:
    """Return what the stabilisation windows leave of ``desired``, and the memory with it.

    Never above the smallest of the up window, nor below the largest of the down window, else where it is.
    """
    marks = memory.recommendations or (Mark(now, current),)
    up_since, down_since = now - behavior.up.window_s, now - behavior.down.window_s
    highest_rise = min([desired, *(each.count for each in marks if each.at > up_since)])
    lowest_fall = max([desired, *(each.count for each in marks if each.at > down_since)])
    stable = min(max(current, highest_rise), lowest_fall)
    kept = [each for each in marks if each.at > min(up_since, down_since)]
    return stable, replace(memory, recommendations=_needed([*kept, Mark(now, desired)], behavior))


def _needed(marks: list[Mark], behavior: Behavior) -> tuple[Mark, ...]:
    """Drop marks that a later one outdoes both ways: they decide nothing any more."""
    kept: list[Mark] = []
    high, low = -math.inf, math.inf
    for mark in reversed(marks):
        if mark.count > high or (behavior.up.window_s > 0 and mark.count < low):
            kept.append(mark)
        high, low = max(high, mark.count), min(low, mark.count)
    return tuple(reversed(kept[:_MOST_MARKS]))


def limit_rate(memory: Memory, desired: int, current: int, behavior: Behavior, *, now: float) -> int:
    """Return ``desired`` within what the policies allow now."""
    if desired > current:
        return min(desired, max(current, _up_limit(memory, current, behavior.up, now)))
    if desired < current:
        return max(desired, min(current, _down_limit(memory, current, behavior.down, now)))
    return desired


def _at_start(memory: Memory, current: int, period_s: float, now: float) -> int:
    """Return how many there were when the period began."""
    since = now - period_s
    added = sum(each.count for each in memory.ups if each.at > since)
    removed = sum(each.count for each in memory.downs if each.at > since)
    return current - added + removed


def _up_limit(memory: Memory, current: int, rules: Rules, now: float) -> int:
    if rules.select is Select.DISABLED:
        return current
    limits: list[int] = []
    for policy in rules.policies:
        start = _at_start(memory, current, policy.period_s, now)
        if policy.kind is PolicyKind.TASKS:
            limits.append(start + policy.value)
        else:
            limits.append(_ceil(start * (1 + policy.value / 100)))
    return (min if rules.select is Select.MIN else max)(limits)


def _down_limit(memory: Memory, current: int, rules: Rules, now: float) -> int:
    if rules.select is Select.DISABLED:
        return current
    limits: list[int] = []
    for policy in rules.policies:
        start = _at_start(memory, current, policy.period_s, now)
        if policy.kind is PolicyKind.TASKS:
            limits.append(start - policy.value)
        else:
            limits.append(math.floor(start * (1 - policy.value / 100) + 1e-9))
    return (max if rules.select is Select.MIN else min)(limits)


def note_change(memory: Memory, before: int, after: int, behavior: Behavior, *, now: float) -> Memory:
    """Return the memory with a change that is being made, which counts against the policies."""
    longest = max(each.period_s for rules in (behavior.up, behavior.down) for each in rules.policies)
    ups = [each for each in memory.ups if each.at > now - longest]
    downs = [each for each in memory.downs if each.at > now - longest]
    if after > before:
        ups.append(Mark(now, after - before))
    elif after < before:
        downs.append(Mark(now, before - after))
    return replace(memory, ups=tuple(ups[-_MOST_MARKS:]), downs=tuple(downs[-_MOST_MARKS:]))


def bounded(desired: int, low: int, high: int) -> int:
    """Return ``desired`` within the bounds."""
    return max(low, min(desired, high))
