"""Some of the simulated rollouts of docs/analysis.md, by their seeds: the equal ones pass, the bad ones end soon."""

from __future__ import annotations

import pytest
from tools.simulate_rollouts import EQUAL, WORSE, World, leak, run, share_between

from hunqi.rollouts.analysis.model import Outcome

WORLDS = {world.name: world for world in (*EQUAL, *WORSE)}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("nothing else", 6),
        ("… and jump (σ 1, memory 0.8)", 4),
        ("each task fails for 1 s, 20 times an hour", 4),
        ("each task pauses for 0.5 s, 600 times an hour", 3),
    ],
)
def test_an_equal_revision_is_not_aborted(name: str, count: int) -> None:
    courses = [run(WORLDS[name], seed) for seed in range(count)]

    assert [course.outcome for course in courses] == [Outcome.SUCCESS] * count


@pytest.mark.parametrize(
    ("name", "within_s"),
    [
        ("5 % of errors", 45),
        ("all latencies × 4", 30),
        ("p99 × 4: 2 % of requests on a slow path", 60),
        ("p99 × 4 on a slow path, all tasks pause for 0.3 s, 120 times an hour", 80),
    ],
)
def test_a_bad_revision_is_aborted_while_few_users_have_it(name: str, within_s: float) -> None:
    courses = [run(WORLDS[name], seed) for seed in range(8)]

    assert [course.outcome for course in courses] == [Outcome.FAILURE] * 8
    assert max(course.at_s for course in courses) <= within_s
    assert max(course.weight for course in courses) <= 0.1


def test_a_leak_is_found_within_a_minute_and_none_where_there_is_none() -> None:
    assert max(leak(rate, seed) or 999 for seed in range(10) for rate in (1.0, 3.0, 10.0)) <= 60
    assert [leak(0.0, seed) for seed in range(20)] == [None] * 20


def test_equal_seeds_are_equal_rollouts() -> None:
    world = World(name="any", rps=50)

    assert run(world, 3, schedule=((0.1, 30.0),)) == run(world, 3, schedule=((0.1, 30.0),))


def test_interval_of_a_share() -> None:
    assert share_between(0, 2000) == pytest.approx((0.0, 0.00184), abs=1e-5)
    assert share_between(5, 100) == pytest.approx((0.01643, 0.11283), abs=1e-4)
