"""The plan of a download: every byte once, in order, to the end; wants first; connections while they help."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hunqi.kit.extents import Extents
from hunqi.mirror.fetch import plan
from hunqi.mirror.fetch.plan import MIB, Pace, Ramp, Segment, Situation, is_too_slow, next_segment

SIZES = st.integers(1, 600 * MIB)
RATES = st.one_of(st.none(), st.floats(1, 1e9))


@given(SIZES, st.lists(st.tuples(st.integers(0, 600 * MIB), st.integers(1, 90 * MIB)), max_size=6), st.data())
@settings(max_examples=80, deadline=None)
def test_every_missing_byte_is_handed_out_once_and_in_order(
    size: int, resumed: list[tuple[int, int]], data: st.DataObject
) -> None:
    there = Extents((start, min(start + length, size)) for start, length in resumed)
    missing = size - there.total
    claimed = Extents()
    last = -1
    handed = 0
    for _ in range(2000):
        rate = data.draw(RATES) if handed < 20 * MIB else 1e7
        segment = next_segment(Situation(size=size, there=there, claimed=claimed, rate=rate, lanes=4))
        if segment is None:
            break
        assert segment.end is not None
        assert last < segment.start < segment.end <= size
        assert list(there.gaps(segment.start, segment.end)) == [(segment.start, segment.end)]
        assert list(claimed.gaps(segment.start, segment.end)) == [(segment.start, segment.end)]
        last = segment.start
        handed += segment.end - segment.start
        claimed.add(segment.start, segment.end)
    assert handed == missing


@given(SIZES, st.integers(0, 600 * MIB))
def test_a_want_is_served_first(size: int, at: int) -> None:
    at = min(at, size - 1)
    situation = Situation(size=size, there=Extents(), claimed=Extents(), wants=((at, size),), want_first=True)
    segment = next_segment(situation)
    assert segment is not None
    assert segment.start == at
    assert plan.unclaimed_want(situation)


def test_a_want_that_is_there_changes_nothing() -> None:
    situation = Situation(
        size=100 * MIB,
        there=Extents([(50 * MIB, 60 * MIB)]),
        claimed=Extents(),
        wants=((50 * MIB, 51 * MIB),),
        want_first=True,
    )
    assert next_segment(situation) == Segment(0, plan.FIRST_SEGMENT)
    assert not plan.unclaimed_want(situation)


def test_an_unknown_size_is_asked_for_by_one_connection() -> None:
    nothing = Situation(size=None, there=Extents(), claimed=Extents())
    assert next_segment(nothing) == Segment(0, plan.FIRST_SEGMENT)
    assert next_segment(Situation(size=None, there=Extents(), claimed=Extents([(0, 8 * MIB)]))) is None
    assert next_segment(Situation(size=None, there=Extents([(0, 5)]), claimed=Extents(), whole=True)) == Segment(
        5, None
    )


def test_one_connection_takes_all_that_is_missing() -> None:
    whole = Situation(size=300 * MIB, there=Extents([(0, 7)]), claimed=Extents(), whole=True)
    assert next_segment(whole) == Segment(7, 300 * MIB)


def test_segments_last_a_second_and_shrink_towards_the_end() -> None:
    assert plan.segment_bytes(32e6, free_bytes=1000 * MIB, lanes=8) == 32_000_000
    assert plan.segment_bytes(1e9, free_bytes=10_000 * MIB, lanes=8) == plan.MAX_SEGMENT
    assert plan.segment_bytes(1e3, free_bytes=1000 * MIB, lanes=8) == plan.MIN_SEGMENT
    assert plan.segment_bytes(32e6, free_bytes=64 * MIB, lanes=8) == plan.MIN_SEGMENT


def ramped(limit: int, rate_of: dict[int, float]) -> tuple[Ramp, list[int]]:
    ramp, now, received, levels = Ramp(limit), 0.0, 0.0, list[int]()
    for _ in range(100):
        now += 0.05
        received += 0.05 * rate_of[ramp.level]
        levels.append(ramp.observe(now, int(received), ramp.level))
    return ramp, levels


def test_a_connection_alone_asks_for_a_second_of_bytes_to_the_very_end() -> None:
    assert plan.segment_bytes(400e6, free_bytes=300 * MIB, lanes=1) == 400_000_000
    assert plan.segment_bytes(4e9, free_bytes=10_000 * MIB, lanes=1) == plan.MAX_SEGMENT_ALONE


def test_a_connection_that_fills_a_gigabit_link_stays_alone() -> None:
    ramp = Ramp(8)
    received = 0
    for tick in range(100):
        received += plan.FAST_BYTES_S // 18
        assert ramp.observe(tick / 20, received, 1) == 1


def test_connections_double_while_that_helps() -> None:
    _, levels = ramped(8, {1: 1e6, 2: 2e6, 4: 4e6, 8: 8e6})
    assert levels[-1] == 8
    assert levels.index(8) * 0.05 < 1.0


def test_connections_that_do_not_help_are_taken_back() -> None:
    _, levels = ramped(8, {1: 1e6, 2: 2e6, 4: 2.1e6, 8: 2.1e6})
    assert max(levels) == 4
    assert levels[-1] == 2


def test_a_refused_connection_caps_them() -> None:
    ramp, _ = ramped(8, {1: 1e6, 2: 2e6, 4: 4e6, 8: 8e6})
    ramp.cap(3)
    assert ramp.level == 3
    assert ramp.observe(100.0, 10**9, 3) == 3


def test_a_source_is_too_slow_only_beside_a_better_one() -> None:
    crawling = Pace(age_s=11, recent=1000, long=1000)
    assert is_too_slow(crawling, best_elsewhere=None, has_alternative=True)
    assert not is_too_slow(crawling, best_elsewhere=1e9, has_alternative=False)
    slower = Pace(age_s=3, recent=1e6, long=1e6)
    assert is_too_slow(slower, best_elsewhere=9e6, has_alternative=True)
    assert not is_too_slow(slower, best_elsewhere=7e6, has_alternative=True)
    assert not is_too_slow(Pace(age_s=1, recent=0, long=0), best_elsewhere=9e6, has_alternative=True)
