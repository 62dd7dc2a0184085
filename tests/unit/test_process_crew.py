"""Workers come when one is busy, at once, and go when all have been quiet for long."""

from __future__ import annotations

import os

from hunqi.mirror.process.crew import LOOK_S, QUIET_S, Crew, used_s


def test_one_busy_worker_brings_all() -> None:
    crew = Crew(rest=1, most=4)
    assert crew.size == 1
    assert not crew.look(10.0, {1: 5.0})
    assert crew.look(11.0, {1: 5.6})
    assert crew.size == 4


def test_a_little_work_brings_nobody() -> None:
    crew = Crew(rest=1, most=4)
    assert not any(crew.look(float(second), {1: second * 0.4}) for second in range(1000))


def test_they_go_only_after_a_long_quiet() -> None:
    crew = Crew(rest=1, most=2, size=2)
    used = 0.0
    for second in range(int(3 * QUIET_S)):
        used += 0.3 if second % 100 == 0 else 0.01
        assert not crew.look(float(second), {1: used, 2: 0.0}), "something was done every 100 seconds"
    begun = 3 * QUIET_S
    changed = [second for second in range(400) if crew.look(begun + second, {1: used, 2: 0.0})]
    assert len(changed) == 1
    assert QUIET_S - 100 <= changed[0] <= QUIET_S
    assert crew.size == 1


def test_a_worker_that_was_just_started_is_not_taken_for_busy() -> None:
    crew = Crew(rest=1, most=2)
    crew.look(1.0, {1: 0.1})
    assert not crew.look(2.0, {7: 300.0})


def test_where_all_are_to_stay_nothing_is_looked_at() -> None:
    crew = Crew(rest=2, most=2)
    assert not crew.is_due(1.0)
    varying = Crew(rest=1, most=2)
    assert varying.is_due(0.0)
    varying.look(0.0, {})
    assert not varying.is_due(LOOK_S / 2)


def test_after_a_reload_there_are_as_many_as_before_within_the_new_bounds() -> None:
    assert Crew(rest=4, most=4, size=2).size == 4
    assert Crew(rest=1, most=2, size=4).size == 2
    assert Crew(rest=1, most=4, size=4).size == 4


def test_what_a_process_used_is_read() -> None:
    before = used_s(os.getpid())
    assert before is not None
    assert sum(number * number for number in range(3_000_000)) > 0
    after = used_s(os.getpid())
    assert after is not None
    assert after > before
    assert used_s(2**22 + 1) is None
