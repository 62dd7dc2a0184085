"""Foresight: used where a replay proves a pattern, and by itself left where there is none or it is wrong."""

from __future__ import annotations

from tools.simulate_scaling import CASES, by_minute, noisy, simulate

from hunqi.scaling.foresight import foresee, history_of, try_all
from hunqi.scaling.predict import DAY, SEASONS, History, Sizing, back_test, worse_lately
from hunqi.telemetry.model import Point

SIZING = Sizing(per_task=50, low=2, high=60, lead=2)


def history(case: str, days: int = 4, *, seed: int = 1) -> History:
    return History(start=0.0, values=tuple(by_minute(noisy(CASES[case], days, seed))))


def test_a_morning_that_comes_again_is_foretold_with_half_the_time_over_target_for_a_tenth_more_at_most() -> None:
    without, foretold = simulate("daily", 2, hours=10)
    assert foretold.over_s <= 0.5 * without.over_s
    assert foretold.replica_hours <= 1.10 * without.replica_hours
    assert without.over_s > 300


def test_a_flat_service_is_never_switched_on_since_wrong_hours_help_it_as_much() -> None:
    for seed in (1, 2):
        assert not back_test(history("flat", seed=seed), SEASONS[0], SIZING).helps


def test_too_little_history_says_so() -> None:
    found = back_test(history("daily", 2), SEASONS[0], SIZING)
    assert not found.helps
    assert "days of history" in found.sentence


def test_a_holiday_switches_it_off_by_itself_and_the_next_morning_is_no_reason_to_distrust() -> None:
    usual = history("daily", 5)
    morning = 4 * DAY + 9 * 60
    quiet = History(start=0.0, values=(*usual.values[: 4 * DAY + 7 * 60], *[100.0] * 120))
    assert len(quiet.values) == morning
    assert worse_lately(quiet, SEASONS[0], 2)[0]
    assert not worse_lately(History(start=0.0, values=usual.values[:morning]), SEASONS[0], 2)[0]


def test_what_was_not_measured_is_not_zero() -> None:
    points = [Point(at=60.0 * minute, value=5.0) for minute in (0, 1, 4)]
    assert history_of(points, end=360.0).values == (5.0, 5.0, None, None, 5.0, None)
    held = list(history("daily", 5).values)
    held[3 * DAY : 4 * DAY] = [None] * DAY
    tests = try_all(History(start=0.0, values=tuple(held)), SIZING)
    assert next(each for each in tests if each.season == "daily").helps
    gone = History(start=0.0, values=tuple(held[: 3 * DAY + 300]))
    assert not foresee(gone, tests, SIZING, now=0.0).on
