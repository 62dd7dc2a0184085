"""Evidence of a table: exact against enumeration, a fair bet at the boundary, bounded in work."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hunqi.rollouts.analysis.evidence import ALTERNATIVES, Evidence, Table, comparing, exceeding
from hunqi.rollouts.analysis.past import Clumping


def law(table: Table, odds: float) -> dict[int, float]:
    """Fisher's noncentral hypergeometric law of the new revision's bad requests, by enumeration."""
    bad = table.new_bad + table.old_bad
    weights = {
        x: math.comb(table.new, x) * math.comb(table.old, bad - x) * odds**x
        for x in range(max(0, bad - table.old), min(table.new, bad) + 1)
    }
    total = math.fsum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


@st.composite
def tables(draw: st.DrawFn) -> Table:
    new, old = draw(st.integers(0, 40)), draw(st.integers(0, 60))
    return Table(new=new, new_bad=draw(st.integers(0, new)), old=old, old_bad=draw(st.integers(0, old)))


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from((1.0, 1.25, 2.0)))
def test_ratios_are_those_of_the_law(table: Table, null: float) -> None:
    below = law(table, null)[table.new_bad]
    expected = [math.log(law(table, null * times)[table.new_bad] / below) for times in ALTERNATIVES]

    assert comparing(table, null) == pytest.approx(expected, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(tables(), st.floats(0.1, 1.25), st.floats(1.0, 8.0), st.floats(0.5, 20.0))
def test_nobody_who_is_not_worse_can_be_expected_to_gain(table: Table, odds: float, temper: float, cap: float) -> None:
    bad = table.new_bad + table.old_bad
    gains = [0.0 for _ in ALTERNATIVES]
    for x, chance in law(table, odds).items():
        ratios = comparing(Table(new=table.new, new_bad=x, old=table.old, old_bad=bad - x), 1.25)
        for place, ratio in enumerate(ratios):
            gains[place] += chance * math.exp(min(cap, ratio / temper))

    assert all(gain <= 1 + 1e-9 for gain in gains)


def test_stakes_are_never_more_than_one_in_all() -> None:
    evidence = Evidence()
    for _ in range(500):
        evidence = evidence.after([1e-300] * len(ALTERNATIVES))

    assert Evidence().log == pytest.approx(0.0)
    assert -0.02 < evidence.log <= 1e-9


def test_a_fault_that_begins_late_is_found_about_as_soon() -> None:
    evidence, good, bad = (
        Evidence(),
        Table(new=500, new_bad=1, old=500, old_bad=1),
        Table(new=50, new_bad=5, old=950, old_bad=1),
    )
    for _ in range(200):
        evidence = evidence.after(comparing(good, 1.25))
    needed = 0
    while evidence.log < math.log(800):
        evidence = evidence.after(comparing(bad, 1.25))
        needed += 1

    assert needed <= 4


def test_a_threshold_is_a_bet_against_its_own_share() -> None:
    total, null = 60, 0.05
    odds = null / (1 - null)
    for place, times in enumerate(ALTERNATIVES):
        share = odds * times / (1 + odds * times)
        for bad in (0, 3, 20):
            expected = bad * math.log(share / null) + (total - bad) * math.log((1 - share) / (1 - null))
            assert exceeding(total, bad, null)[place] == pytest.approx(expected)


def test_work_is_bounded_for_busy_services() -> None:
    table = Table(new=500_000, new_bad=250_000, old=500_000, old_bad=250_000)
    begin = time.process_time()
    ratios = comparing(table)

    assert time.process_time() - begin < 1.0
    assert max(ratios) < 0


@pytest.mark.parametrize(
    ("counts", "low", "high"), [([1, 0, 2, 1, 0, 1] * 10, 1.0, 1.5), ([0] * 20 + [40] + [0] * 20, 20, 45)]
)
def test_clumps_are_known_by_their_size(counts: list[int], low: float, high: float) -> None:
    clumping = Clumping()
    for count in counts:
        clumping = clumping.after(1000, count, length_s=5)

    assert low <= clumping.factor <= high
    assert Clumping.of(json.loads(json.dumps(clumping.kept()))).factor == pytest.approx(clumping.factor, rel=1e-3)


def test_a_rate_that_rose_and_stays_is_no_clump() -> None:
    clumping = Clumping()
    for count in [1] * 30 + [50, 47, 53, 49, 51, 46, 52, 50, 48, 55]:
        clumping = clumping.after(1000, count, length_s=5)

    assert clumping.factor < 4
