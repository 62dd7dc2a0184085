"""The measures of tasks: leaks are told from warming up; CPU, memory and restarts are held to the old revision's."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec
from hunqi.rollouts.analysis.usage import Tasks, cpu, leaking, memory, restarts, slope
from hunqi.telemetry.model import TaskUsage, UsagePoint

MIB = 1024 * 1024
MEMORY = MeasureSpec(name="memory", kind=MeasureKind.MEMORY)
CPU = MeasureSpec(name="cpu", kind=MeasureKind.CPU)
RESTARTS = MeasureSpec(name="restarts", kind=MeasureKind.RESTARTS)


def task(
    level: Callable[[float], float], *, span_s: float = 50.0, limit: int | None = None, cores: float = 0.1
) -> TaskUsage:
    """A task whose memory (MiB) is ``level`` of the seconds since it began, looked at each five seconds."""
    points = tuple(
        UsagePoint(at=1000.0 + at, cpu_cores=cores, memory_bytes=int(level(at) * MIB))
        for at in (5.0 * step for step in range(int(span_s / 5) + 1))
    )
    return TaskUsage(task="abcdef", node="one", revision=8, points=points, memory_limit_bytes=limit)


def noisy(seed: int, level: Callable[[float], float], spread: float = 1.0) -> Callable[[float], float]:
    source = random.Random(seed)
    return lambda at: level(at) + source.gauss(0, spread)


OLD = [task(lambda _: 200.0) for _ in range(3)]


@pytest.mark.parametrize("rate", [1.0, 3.0, 10.0])
def test_a_leak_of_some_megabytes_a_second_is_found_within_a_minute(rate: float) -> None:
    found = [
        leaking(Tasks(new=[task(noisy(seed, lambda at: 100 + rate * at), span_s=50)], old=OLD)) for seed in range(20)
    ]

    assert sum(map(bool, found)) >= 18
    assert "of 1 tasks grow by" in next(filter(None, found))
    assert "without slowing down" in next(filter(None, found))


@pytest.mark.parametrize(
    "level",
    [
        lambda at: 100 + 300 * (1 - math.exp(-at / 20)),
        lambda at: 100 + 300 * (1 - math.exp(-at / 45)),
        lambda at: 100 + (150 if at > 20 else 0),
        lambda at: 100 + 40 * ((at / 5) % 3),
        lambda at: 100 + 0.05 * at,
        lambda _: 200,
    ],
    ids=["warms up", "warms up slowly", "steps once", "is collected", "creeps", "stands"],
)
def test_what_ends_or_slows_down_is_no_leak(level: Callable[[float], float]) -> None:
    found = [
        leaking(Tasks(new=[task(noisy(seed * 100 + int(span), level), span_s=span)], old=OLD))
        for seed in range(20)
        for span in (40, 45, 50, 55, 60)
    ]

    assert sum(map(bool, found)) == 0


def test_growth_that_the_old_ones_have_too_is_no_leak() -> None:
    growing = [task(noisy(seed, lambda at: 100 + 3 * at)) for seed in range(4)]

    assert leaking(Tasks(new=growing[:1], old=growing[1:])) == ""


def test_one_task_of_three_is_not_the_revision() -> None:
    leak, well = task(lambda at: 100 + 3 * at), task(lambda _: 100.0)

    assert leaking(Tasks(new=[leak, well, well], old=OLD)) == ""
    assert leaking(Tasks(new=[leak, leak, well], old=OLD)) != ""


def test_growth_to_what_the_old_ones_have_is_a_cache_that_fills() -> None:
    filling = task(lambda at: 100 + 0.4 * at)

    assert leaking(Tasks(new=[filling], old=OLD)) == ""
    assert leaking(Tasks(new=[task(lambda at: 100 + 0.4 * at, limit=256 * MIB)], old=OLD)) != ""


def test_slope_is_the_median_of_all_pairs() -> None:
    points = [UsagePoint(at=at, cpu_cores=0, memory_bytes=int(2 * at)) for at in (0.0, 10.0, 20.0, 30.0)]
    spoilt = [*points, UsagePoint(at=15.0, cpu_cores=0, memory_bytes=10_000)]

    assert slope(points) == 2.0
    assert slope(sorted(spoilt, key=lambda point: point.at)) == pytest.approx(2.0, abs=0.5)


def test_memory_far_above_the_old_ones_fails_and_above_the_limit_too() -> None:
    new = [task(lambda _: 300.0)]
    allowed = MeasureSpec(name="memory", kind=MeasureKind.MEMORY, at_most=250 * MIB, compare=False)

    assert memory(MEMORY, "web", Tasks(new=new, old=OLD)).failed == "more than 25 % more"
    assert memory(MEMORY, "web", Tasks(new=[task(lambda _: 220.0)], old=OLD)).failed == ""
    assert "allowed" in memory(allowed, "web", Tasks(new=new, old=OLD)).failed
    assert memory(MEMORY, "web", Tasks(new=[task(lambda _: 900.0, span_s=10)], old=OLD)).waiting != ""
    assert memory(MEMORY, "web", Tasks(new=[], old=OLD)).error != ""


def test_cpu_counts_by_task_and_by_request() -> None:
    hot, cool = [task(lambda _: 1, cores=0.4)], [task(lambda _: 1, cores=0.1)]
    busy = Tasks(new=hot, old=cool, requests_new=400, requests_old=100)
    wasteful = Tasks(new=hot, old=cool, requests_new=100, requests_old=100)

    assert cpu(CPU, "web", busy).failed == ""
    assert cpu(CPU, "web", wasteful).failed == "more than 25 % more"
    assert cpu(CPU, "web", Tasks(new=cool, old=hot)).failed == ""


def test_one_task_that_ends_is_an_accident_and_two_are_not() -> None:
    strict = MeasureSpec(name="restarts", kind=MeasureKind.RESTARTS, at_most=0)

    assert restarts(RESTARTS, "web", new=(1, 3), old=(0, 3)).failed == ""
    assert restarts(RESTARTS, "web", new=(2, 3), old=(0, 3)).failed != ""
    assert restarts(RESTARTS, "web", new=(2, 3), old=(2, 3)).failed == ""
    assert restarts(strict, "web", new=(1, 3), old=None).failed != ""
