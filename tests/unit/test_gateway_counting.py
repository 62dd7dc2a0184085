"""Counts of Envoys put together: what is told grows, whatever Envoys come, go and begin anew."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.gateway.counting import REMEMBER_S, Counted, Ledger, Reading, grid_bucket, parse_counts
from hunqi.telemetry.histogram import bucket_of, upper_ms
from hunqi.telemetry.wire import ClusterCounts
from support_agent import table_of

TABLE = table_of("t1")
WEB = next(iter(TABLE.clusters.values()))
NAMED = replace(TABLE, clusters={WEB.name: replace(WEB, app="shop", service="web", revision=7)})
STAT = "shop_web-r7_8080"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    made = Ledger(clock)
    made.name(NAMED)
    return made


def reading(requests: int, uptime_s: float, *, stat: str = STAT, **classes: int) -> Reading:
    counted = Counted(requests, {2: requests} | {int(key[1:]): held for key, held in classes.items()}, {40: requests})
    return Reading(uptime_s, {stat: counted})


def told(ledger: Ledger) -> ClusterCounts:
    (only,) = ledger.counts()
    return only


def test_a_cluster_without_a_request_is_told_as_none_of_them(ledger: Ledger) -> None:
    assert told(ledger) == ClusterCounts(backend="shop_web-r7", app="shop", service="web", revision=7, port=8080)


def test_an_envoy_that_began_after_the_ledger_counts_from_its_beginning(ledger: Ledger, clock: Clock) -> None:
    clock.now += 30
    ledger.take("a", reading(5, 10.0))
    assert (told(ledger).requests, dict(told(ledger).classes)) == (5, {2: 5})
    assert dict(told(ledger).latency.counts) == {40: 5}


def test_what_an_older_envoy_counted_before_is_not_told_again(ledger: Ledger, clock: Clock) -> None:
    ledger.take("a", reading(1000, 3600.0))
    assert told(ledger).requests == 0
    clock.now += 5
    ledger.take("a", reading(1007, 3605.0))
    assert (told(ledger).requests, dict(told(ledger).classes)) == (7, {2: 7})


def test_two_envoys_are_added_and_what_the_one_that_went_counted_stays(ledger: Ledger, clock: Clock) -> None:
    clock.now += 100
    ledger.take("a", reading(10, 90.0))
    ledger.take("b", reading(3, 1.0))
    assert told(ledger).requests == 13
    ledger.take("b", reading(9, 20.0))
    assert told(ledger).requests == 19


def test_an_envoy_that_was_killed_begins_at_zero_and_nothing_is_lost_or_twice(ledger: Ledger, clock: Clock) -> None:
    clock.now += 100
    ledger.take("a", reading(10, 90.0))
    ledger.take("a", reading(30, 2.0))
    assert told(ledger).requests == 40, "even where it counted more meanwhile than before"
    ledger.take("a", reading(31, 3.0))
    assert told(ledger).requests == 41


def test_a_cluster_that_left_its_envoy_and_came_again_begins_at_zero(ledger: Ledger, clock: Clock) -> None:
    clock.now += 100
    ledger.take("a", reading(10, 90.0))
    ledger.take("a", reading(4, 95.0))
    assert told(ledger).requests == 14


def test_a_cluster_that_has_left_the_table_is_told_of_for_a_while(ledger: Ledger, clock: Clock) -> None:
    clock.now += 10
    ledger.take("a", reading(10, 5.0))
    ledger.name(replace(NAMED, clusters={}))
    clock.now += REMEMBER_S - 1
    ledger.take("a", reading(11, REMEMBER_S))
    assert told(ledger).requests == 11
    clock.now += 2
    assert ledger.counts() == ()


@given(steps=st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["on", "restart", "other"])), max_size=30))
def test_what_is_told_only_grows_and_is_the_sum(steps: list[tuple[int, str]]) -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.name(NAMED)
    at, up, number, expected, before = 0, 0.0, 0, 0, 0
    for step, (more, what) in enumerate(steps):
        clock.now += 5
        if what == "other":
            number, at, up = number + 1, 0, 0.0
        elif what == "restart":
            at, up = 0, 0.0
        at, up, expected = at + more, up + (5 if what == "on" else 1 / (step + 2)), expected + more
        ledger.take(f"envoy{number}", reading(at, up))
        assert told(ledger).requests >= before
        before = told(ledger).requests
    assert before == expected


@given(value_ms=st.integers(0, 100_000).map(lambda ms: ms + 0.5))
def test_a_latency_lands_near_its_own_bucket(value_ms: float) -> None:
    """As Envoy does it: whole milliseconds, then two digits."""
    whole = int(value_ms)
    width = 0.0 if whole == 0 else 10.0 ** (len(str(whole)) - 2)
    lower = whole if whole < 10 else whole // int(width) * width
    bucket = grid_bucket(lower, width)
    assert abs(bucket - bucket_of(value_ms)) <= 1
    assert upper_ms(bucket) >= value_ms * 0.95 - 0.5


def test_an_answer_of_envoy_is_read() -> None:
    said = {
        "stats": [
            {"name": "cluster.shop_web-r7_8080.upstream_rq_2xx", "value": 3},
            {"name": "cluster.shop_web-r7_8080.upstream_rq_5xx", "value": 1},
            {"name": "cluster.shop_web-r7_8080.upstream_rq_completed", "value": 4},
            {"name": "server.uptime", "value": 61},
            {
                "histograms": {
                    "supported_percentiles": [50],
                    "details": [
                        {
                            "name": "cluster.shop_web-r7_8080.upstream_rq_time",
                            "totals": [
                                {"lower_bound": 0, "width": 0, "count": 1},
                                {"lower_bound": 120, "width": 10, "count": 3},
                            ],
                            "intervals": [],
                            "percentiles": [],
                        }
                    ],
                }
            },
        ]
    }
    found = parse_counts(json.dumps(said).encode())
    assert found.uptime_s == 61
    expected = Counted(4, {2: 3, 5: 1}, {bucket_of(0.5): 1, bucket_of(125.0): 3})
    assert found.clusters == {STAT: expected}
