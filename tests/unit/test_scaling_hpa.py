"""The HPA's algorithm: each rule and example of its page as a case, named by what the page says."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hunqi.apps.scale_spec import DEFAULT_DOWN, DEFAULT_UP, Behavior, Policy, PolicyKind, Rules, Select
from hunqi.scaling.hpa import (
    Mark,
    Measured,
    Memory,
    Proposal,
    Reading,
    TaskSeen,
    bounded,
    by_tasks,
    by_total,
    by_value,
    combine,
    limit_rate,
    note_change,
    stabilise,
)

NOW = 10_000.0
RULES = Behavior()


def tasks(count: int, **more: object) -> list[TaskSeen]:
    return [TaskSeen(id=f"t{number}", **more) for number in range(count)]  # pyright: ignore[reportArgumentType]


def asked(
    values: list[float | None], target: float, seen: list[TaskSeen] | None = None, *, cpu: bool = False
) -> Proposal:
    """What is proposed where task number n has the n-th value; None is a missing one."""
    seen = seen or tasks(len(values))
    readings = {
        task.id: Reading(value=value, at=NOW) for task, value in zip(seen, values, strict=True) if value is not None
    }
    return by_tasks(len(seen), seen, Measured(measure="m", target=target, readings=readings, cpu=cpu), RULES, now=NOW)


# "desiredReplicas = ceil[currentReplicas * ( currentMetricValue / desiredMetricValue )]"
@pytest.mark.parametrize(
    ("values", "target", "replicas"),
    [
        pytest.param([200.0], 100.0, 2, id="the current metric value is 200m, the desired value is 100m: doubled"),
        pytest.param([50.0, 50.0], 100.0, 1, id="the current value is instead 50m: you'll halve the number"),
        pytest.param([200.0] * 3, 100.0, 6, id="3 at 200 for 100 are 6"),
        pytest.param([50.0] * 3, 100.0, 2, id="ceil: 3 x 0.5 are 2"),
        pytest.param([150.0] * 3, 100.0, 5, id="ceil: 3 x 1.5 are 5"),
        pytest.param([0.0] * 3, 100.0, 0, id="without load the bounds decide"),
        pytest.param([30.0, 90.0, 180.0], 50.0, 6, id="the average across all Pods"),
    ],
)
def test_desired_is_the_ratio_of_current_to_desired_value(values: list[float], target: float, replicas: int) -> None:
    assert asked(list(values), target).replicas == replicas


@pytest.mark.parametrize("value", [90.0, 95.0, 100.0, 105.0, 110.0])
def test_skips_any_scaling_action_if_the_ratio_is_sufficiently_close_to_1(value: float) -> None:
    assert asked([value] * 20, 100.0).replicas == 20


@pytest.mark.parametrize(("value", "replicas"), [(89.0, 18), (111.0, 23)])
def test_acts_just_outside_the_tolerance_of_0_1(value: float, replicas: int) -> None:
    assert asked([value] * 20, 100.0).replicas == replicas


def test_a_tolerance_of_its_own_holds_for_its_direction() -> None:
    rules = Behavior(up=Rules(window_s=0, policies=DEFAULT_UP.policies, tolerance=0.3))
    readings = {f"t{number}": Reading(value=125.0) for number in range(4)}
    assert by_tasks(4, tasks(4), Measured(measure="m", target=100, readings=readings), rules, now=NOW).replicas == 4


def test_missing_metrics_are_assumed_to_consume_100_percent_of_the_desired_value_in_case_of_a_scale_down() -> None:
    # (3 x 20 + 1 x 100) / 4 = 40 % of the target: 2, and without the missing one it would be 1
    assert asked([20.0, 20.0, 20.0, None], 100.0).replicas == 2
    assert asked([20.0, 20.0, 20.0], 100.0).replicas == 1


def test_missing_metrics_are_assumed_to_consume_0_percent_in_case_of_a_scale_up() -> None:
    # (2 x 300 + 0) / 3 = 200: 6
    assert asked([300.0, 300.0, None], 100.0).replicas == 6


def test_this_dampens_the_magnitude_of_any_potential_scale() -> None:
    # alone 140 % of 2 would be 3; with two of 0 it is 70 %, which reverses the direction
    assert asked([140.0, 140.0], 100.0).replicas == 3
    assert asked([140.0, 140.0, None, None], 100.0).replicas == 4


def test_if_the_new_ratio_reverses_the_scale_direction_no_action_is_taken() -> None:
    found = asked([150.0, None], 100.0)
    assert (found.replicas, found.ratio) == (2, 1.5)


def test_if_the_new_ratio_is_within_the_tolerance_no_action_is_taken() -> None:
    assert asked([160.0, 160.0, None], 100.0).replicas == 3  # 106 %
    assert asked([50.0, *[None] * 9], 100.0).replicas == 10  # 95 %


def test_not_yet_ready_pods_are_assumed_to_consume_0_percent_when_it_would_have_scaled_up() -> None:
    seen = [*tasks(2), TaskSeen(id="new", pending=True), TaskSeen(id="newer", pending=True)]
    found = asked([300.0, 300.0, None, None], 100.0, seen)
    assert (found.replicas, found.unready, found.missing) == (6, 2, 0)  # 150 % of 4


def test_not_yet_ready_pods_do_not_count_when_it_scales_down() -> None:
    seen = [*tasks(4), TaskSeen(id="new", pending=True)]
    assert asked([25.0] * 4 + [None], 100.0, seen).replicas == 1


def test_the_original_value_is_reported_without_factoring_in_not_yet_ready_or_missing() -> None:
    found = asked([300.0, 300.0, None], 100.0)
    assert (found.average, found.ratio) == (300.0, 3.0)


# "When scaling on CPU, if any pod has yet to become ready or the most recent metric point was before it became ready"
@pytest.mark.parametrize(
    ("task", "reading_at", "is_set_aside"),
    [
        pytest.param(
            TaskSeen(id="x", started_at=NOW - 100, ready=False, changed_at=NOW - 90),
            NOW,
            True,
            id="unready within 5 min",
        ),
        pytest.param(
            TaskSeen(id="x", started_at=NOW - 100, ready=True, changed_at=NOW - 10),
            NOW,
            True,
            id="window began unready",
        ),
        pytest.param(
            TaskSeen(id="x", started_at=NOW - 100, ready=True, changed_at=NOW - 60), NOW, False, id="ready for a window"
        ),
        pytest.param(
            TaskSeen(id="x", started_at=NOW - 400, ready=False, changed_at=NOW - 395),
            NOW,
            True,
            id="never ready: unready within 30 s of its start",
        ),
        pytest.param(
            TaskSeen(id="x", started_at=NOW - 400, ready=False, changed_at=NOW - 20),
            NOW,
            False,
            id="it was ready once, and became unready later than 30 s",
        ),
        pytest.param(
            TaskSeen(id="x", started_at=NOW - 400, ready=True, changed_at=NOW - 10),
            NOW,
            False,
            id="after 5 min it counts",
        ),
    ],
)
def test_cpu_of_a_pod_that_initialises_is_set_aside(task: TaskSeen, reading_at: float, *, is_set_aside: bool) -> None:
    seen = [*tasks(1), task]
    readings = {"t0": Reading(value=50.0), "x": Reading(value=50.0, at=reading_at, window_s=30.0)}
    found = by_tasks(2, seen, Measured(measure="cpu", target=100, readings=readings, cpu=True), RULES, now=NOW)
    assert (found.counted, found.unready) == ((1, 1) if is_set_aside else (2, 0))


def test_other_measures_than_cpu_do_not_ask_for_readiness() -> None:
    seen = [TaskSeen(id="t0", started_at=NOW - 5, ready=False, changed_at=NOW - 5)]
    assert asked([200.0], 100.0, seen).replicas == 2
    assert asked([200.0], 100.0, seen, cpu=True).error


def test_without_any_value_a_measure_is_in_error() -> None:
    assert asked([None, None], 100.0).replicas is None


# "this value can optionally be divided by the number of Pods before the comparison is made"
@pytest.mark.parametrize(
    ("total", "per_task", "current", "replicas"),
    [
        pytest.param(1000, 100, 5, 10, id="an average value: ceil(total / per task)"),
        pytest.param(1, 30, 0, 1, id="from zero without tolerance"),
        pytest.param(0, 30, 0, 0, id="nothing from zero"),
        pytest.param(108, 10, 10, 10, id="within tolerance of the average"),
        pytest.param(30, 30, 3, 1, id="down"),
    ],
)
def test_external_metrics_by_average_value(total: float, per_task: float, current: int, replicas: int) -> None:
    assert by_total("queue", total, per_task, current, RULES).replicas == replicas


@pytest.mark.parametrize(
    ("value", "current", "ready", "replicas"),
    [(200, 3, 3, 6), (105, 3, 3, 3), (200, 3, 2, 4), (300, 0, 0, 3), (50, 4, 4, 2)],
)
def test_external_metrics_by_value_take_the_ratio_of_ready_pods(
    value: float, current: int, ready: int, replicas: int
) -> None:
    assert by_value("queue", value, 100, current, ready, RULES).replicas == replicas


def proposal(replicas: int | None, error: str = "") -> Proposal:
    return Proposal(measure=f"m{replicas}", replicas=replicas, error=error)


def test_if_multiple_metrics_are_specified_the_largest_of_the_desired_replica_counts_is_chosen() -> None:
    assert combine([proposal(3), proposal(7), proposal(5)], 4)[0] == 7


def test_if_any_cannot_be_converted_and_a_scale_down_is_suggested_scaling_is_skipped() -> None:
    wanted, why = combine([proposal(3), proposal(None, "away")], 4)
    assert wanted is None
    assert "not scaled down" in why


def test_the_hpa_is_still_capable_of_scaling_up_if_one_metric_is_in_error() -> None:
    assert combine([proposal(6), proposal(None, "away")], 4)[0] == 6


def test_if_all_are_in_error_nothing_is_done() -> None:
    assert combine([proposal(None, "away")], 4)[0] is None


def test_a_measure_without_an_opinion_is_no_error() -> None:
    assert combine([proposal(3), proposal(None)], 4)[0] == 3


# "Stabilization window"
def recommended(*pairs: tuple[float, int]) -> Memory:
    return Memory(recommendations=tuple(Mark(NOW - ago, count) for ago, count in pairs))


def test_all_desired_states_from_the_past_5_minutes_are_considered_and_the_highest_is_used() -> None:
    assert stabilise(recommended((299, 8), (200, 5), (100, 4)), 3, 10, RULES, now=NOW)[0] == 8


def test_what_is_older_than_the_window_does_not_count() -> None:
    assert stabilise(recommended((301, 8), (100, 4)), 3, 10, RULES, now=NOW)[0] == 4


def test_a_custom_downscale_stabilization_window_of_1_minute() -> None:
    rules = Behavior(down=Rules(window_s=60, policies=DEFAULT_DOWN.policies))
    assert stabilise(recommended((100, 8), (59, 4)), 3, 10, rules, now=NOW)[0] == 4


def test_for_scaling_up_there_is_no_stabilization_window_the_target_is_scaled_up_immediately() -> None:
    assert stabilise(recommended((10, 2)), 9, 2, RULES, now=NOW)[0] == 9


def test_a_window_for_scaling_up_takes_the_lowest_recommendation_of_it() -> None:
    rules = Behavior(up=Rules(window_s=60, policies=DEFAULT_UP.policies))
    assert stabilise(recommended((50, 4), (20, 6)), 9, 2, rules, now=NOW)[0] == 4
    assert stabilise(recommended((70, 4), (20, 6)), 9, 2, rules, now=NOW)[0] == 6


def test_a_controller_that_begins_takes_the_present_number_as_recommended() -> None:
    assert stabilise(Memory(), 1, 10, RULES, now=NOW)[0] == 10


@given(st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 50)), max_size=80), st.sampled_from([0.0, 60.0, 300.0]))
@settings(max_examples=150, deadline=None)
def test_forgetting_what_decides_nothing_changes_no_decision(steps: list[tuple[int, int]], up_window: float) -> None:
    rules = Behavior(up=Rules(window_s=up_window, policies=DEFAULT_UP.policies))
    memory, every, now, current = Memory(recommendations=(Mark(0.0, 5),)), [Mark(0.0, 5)], 0.0, 5
    for wait, desired in steps:
        now += wait / 10
        stable, memory = stabilise(memory, desired, current, rules, now=now)
        rise = min([desired, *(each.count for each in every if each.at > now - up_window)])
        fall = max([desired, *(each.count for each in every if each.at > now - 300)])
        assert stable == min(max(current, rise), fall)
        every.append(Mark(now, desired))
        current = stable
        assert len(memory.recommendations) <= 2 * 51


# "Scaling policies"
TWO = Behavior(
    down=Rules(
        window_s=0,
        policies=(
            Policy(kind=PolicyKind.TASKS, value=4, period_s=60),
            Policy(kind=PolicyKind.PERCENT, value=10, period_s=60),
        ),
    )
)


def test_80_replicas_scaled_down_to_10_lose_8_then_8_and_below_40_4_at_a_time() -> None:
    current, now, memory, seen = 80, NOW, Memory(), [80]
    while current > 10:
        after = limit_rate(memory, 10, current, TWO, now=now)
        memory = note_change(memory, current, after, TWO, now=now)
        current, now = after, now + 61
        seen.append(current)
    assert seen[:3] == [80, 72, 64]  # "10% of the pods is 7.2 but the number is rounded up to 8"
    below = seen[next(index for index, count in enumerate(seen) if count <= 40) :]
    assert all(one - other in {4, one - 10} for one, other in pairwise(below))


def test_the_second_policy_will_only_be_used_when_there_are_more_than_40() -> None:
    assert limit_rate(Memory(), 1, 40, TWO, now=NOW) == 36
    assert limit_rate(Memory(), 1, 41, TWO, now=NOW) == 36
    assert limit_rate(Memory(), 1, 50, TWO, now=NOW) == 45


def test_period_seconds_is_the_length_of_time_in_the_past_for_which_the_policy_must_hold_true() -> None:
    memory = note_change(Memory(), 80, 72, TWO, now=NOW)
    assert limit_rate(memory, 10, 72, TWO, now=NOW + 30) == 72
    assert limit_rate(memory, 10, 72, TWO, now=NOW + 61) == 64


def test_limit_scale_down_rate_to_10_percent_per_minute() -> None:
    rules = Behavior(down=Rules(window_s=0, policies=(Policy(kind=PolicyKind.PERCENT, value=10, period_s=60),)))
    assert limit_rate(Memory(), 1, 100, rules, now=NOW) == 90


def test_no_more_than_5_pods_are_removed_per_minute_with_select_policy_min() -> None:
    policies = (
        Policy(kind=PolicyKind.PERCENT, value=10, period_s=60),
        Policy(kind=PolicyKind.TASKS, value=5, period_s=60),
    )
    rules = Behavior(down=Rules(window_s=0, policies=policies, select=Select.MIN))
    assert limit_rate(Memory(), 1, 100, rules, now=NOW) == 95
    assert limit_rate(Memory(), 1, 20, rules, now=NOW) == 18


def test_the_value_disabled_turns_off_scaling_the_given_direction() -> None:
    off = Rules(window_s=0, policies=DEFAULT_DOWN.policies, select=Select.DISABLED)
    assert limit_rate(Memory(), 1, 9, Behavior(down=off), now=NOW) == 9
    assert limit_rate(Memory(), 20, 9, Behavior(up=off), now=NOW) == 9


def test_by_default_100_percent_may_be_removed_so_that_it_goes_to_the_minimum_allowed() -> None:
    assert limit_rate(Memory(), 1, 100, RULES, now=NOW) == 1


@pytest.mark.parametrize(("current", "limit"), [(1, 5), (3, 7), (4, 8), (10, 20), (0, 4)])
def test_by_default_4_pods_or_100_percent_are_added_every_15_seconds_till_it_is_steady(
    current: int, limit: int
) -> None:
    assert limit_rate(Memory(), 100, current, RULES, now=NOW) == limit


def test_the_next_4_pods_or_100_percent_come_after_15_seconds() -> None:
    memory = note_change(Memory(), 1, 5, RULES, now=NOW)
    assert limit_rate(memory, 100, 5, RULES, now=NOW + 14) == 5
    assert limit_rate(memory, 100, 5, RULES, now=NOW + 15.1) == 10


def test_what_was_removed_in_the_period_may_come_back_beside_what_may_be_added() -> None:
    memory = note_change(Memory(), 10, 6, RULES, now=NOW)
    assert limit_rate(memory, 100, 6, RULES, now=NOW + 5) == 20


def test_takes_the_maximum_provided_that_this_is_not_larger_than_the_overall_maximum() -> None:
    assert (bounded(12, 2, 10), bounded(1, 2, 10), bounded(5, 2, 10)) == (10, 2, 5)
