"""The interval set against the plainest model there is: a set of numbers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hunqi.kit.extents import Extents

NUMBERS = st.integers(0, 60)
INTERVALS = st.tuples(NUMBERS, NUMBERS)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard"]), INTERVALS), max_size=30)


def built(steps: list[tuple[str, tuple[int, int]]]) -> tuple[Extents, set[int]]:
    extents, model = Extents(), set[int]()
    for what, (start, end) in steps:
        if what == "add":
            extents.add(start, end)
            model |= set(range(start, end))
        else:
            extents.discard(start, end)
            model -= set(range(start, end))
    return extents, model


@given(STEPS)
def test_holds_what_was_put_in_and_not_taken_out(steps: list[tuple[str, tuple[int, int]]]) -> None:
    extents, model = built(steps)
    assert {number for start, end in extents for number in range(start, end)} == model
    assert extents.total == len(model)
    assert extents.end == max(model, default=-1) + 1
    assert bool(extents) == bool(model)


@given(STEPS)
def test_is_the_shortest_sorted_list(steps: list[tuple[str, tuple[int, int]]]) -> None:
    extents, _ = built(steps)
    flat = [number for interval in extents for number in interval]
    assert all(low < high for low, high in itertools.pairwise(flat))


@given(STEPS, INTERVALS)
def test_gaps_and_intervals_share_out_a_stretch(
    steps: list[tuple[str, tuple[int, int]]], stretch: tuple[int, int]
) -> None:
    extents, model = built(steps)
    start, end = stretch
    missing = [number for low, high in extents.gaps(start, end) for number in range(low, high)]
    assert missing == [number for number in range(start, end) if number not in model]
    assert extents.covers(start, end) == (not missing)


@given(STEPS, NUMBERS)
def test_end_from_is_the_first_number_that_is_missing(steps: list[tuple[str, tuple[int, int]]], position: int) -> None:
    extents, model = built(steps)
    end = extents.end_from(position)
    assert end not in model
    assert all(number in model for number in range(position, end))


@given(STEPS)
def test_a_tuple_makes_the_same_set_again(steps: list[tuple[str, tuple[int, int]]]) -> None:
    extents, _ = built(steps)
    again = Extents(extents.as_tuple())
    assert again == extents
    again.clear()
    assert again == Extents()
    assert repr(extents).startswith("Extents(")
