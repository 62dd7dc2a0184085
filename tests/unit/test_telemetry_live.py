"""What ``Live`` makes of samples: differences, resets, lost and late ones, gateways that are not heard."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.telemetry.differences import NodeCounts
from hunqi.telemetry.errors import NotMeasuredError
from hunqi.telemetry.live import Live
from hunqi.telemetry.model import Subject
from hunqi.telemetry.settings import LiveLimits
from hunqi.telemetry.wire import CustomValue, NodeSample
from support_telemetry import T0, Clock, Node, measuring

WEB = Subject(app="shop", service="web")
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("serve"), st.integers(1, 50)),
        st.tuples(st.just("poll"), st.floats(0.1, 30)),
        st.tuples(st.just("again"), st.just(0)),
        st.tuples(st.just("late"), st.just(0)),
        st.tuples(st.just("set clock"), st.floats(-4000, 4000)),
        st.tuples(st.just("reset"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("no gateway"), st.just(0)),
    ),
    max_size=60,
)


@given(ACTS)
def test_differences_add_up_to_what_was_counted(acts: list[tuple[str, float]]) -> None:
    """Over any order of requests, polls, lost, late and repeated answers, clocks set, and counts that begin anew."""
    node, counts, now = Node("a"), NodeCounts("a"), T0
    node.serve("web", 1, 7)
    counts.take(node.sample(now), now)
    same = [node.sample(now)]
    unasked = taken = expected = 0

    def hear(sample: NodeSample) -> int:
        nonlocal now
        now += 0.5
        change = counts.take(sample, now)
        got = sum(each.requests for each in change.requests) if change else 0
        assert got == (sum(sum(each.latency.values()) for each in change.requests) if change else 0)
        assert got == (sum(sum(each.classes) for each in change.requests) if change else 0)
        return got

    for act, amount in [*acts, ("poll", 1.0)]:
        now += amount if act == "poll" else 0.5
        if act == "serve":
            node.serve("web", 1, int(amount))
            unasked += int(amount)
        elif act == "set clock":  # a late answer of the time before could not be told from counts that began anew
            node.skew_s += amount
            same = [node.sample(now)]
            taken += hear(same[0])
            expected, unasked = expected + unasked, 0
        elif act == "again":
            assert hear(same[-1]) == 0
        elif act == "late":
            assert hear(same[0]) == 0
        elif act == "no gateway":
            assert hear(replace(node.sample(now), gateway=False, clusters=(), boot="")) == 0
        elif act == "restart":  # what was counted and not asked for is lost with the Envoy
            node.restart()
            unasked, same = 0, same[-1:]
        else:
            sample = node.sample(now)
            taken += hear(sample)
            expected, unasked = expected + unasked, 0
            same.append(sample)
            if act == "reset":  # of a cluster that was removed and came again
                node.requests["shop", "web", 1] = []
                now += 1
                same = [node.sample(now)]
                assert hear(same[0]) == 0
    assert taken == expected


def test_what_is_counted_before_the_first_sample_is_in_no_interval() -> None:
    world = measuring("a", "b")
    world.nodes["a"].serve("web", 1, 1000)
    world.poll()
    with pytest.raises(NotMeasuredError):
        world.live.traffic(WEB, start=0, end=world.clock.now)
    world.nodes["a"].serve("web", 1, 10, errors=2)
    world.nodes["b"].serve("web", 1, 30, ms=100)
    world.poll()
    found = world.live.traffic(WEB, start=0, end=world.clock.now)
    assert (found.requests, found.errors, found.latency.total) == (40, 2, 40)
    assert found.end - found.start == pytest.approx(5.02)
    assert found.active == 2
    assert found.latency.quantile_ms(0.5) == pytest.approx(100, rel=0.11)
    assert world.live.measured_until("shop") == found.end


def test_a_percentile_is_of_all_gateways_together() -> None:
    """Ninety-eight fast ones at one gateway, two slow at the other: the mean of both p95 would be 505 ms."""
    world = measuring("a", "b")
    world.nodes["a"].serve("web", 1, 0)
    world.nodes["b"].serve("web", 1, 0)
    world.poll()
    world.nodes["a"].serve("web", 1, 98, ms=10)
    world.nodes["b"].serve("web", 1, 2, ms=1000)
    world.poll()
    found = world.live.traffic(WEB, start=0, end=world.clock.now).latency
    assert found.quantile_ms(0.95) == pytest.approx(10, rel=0.11)
    assert found.quantile_ms(0.99) == pytest.approx(1000, rel=0.11)


def test_half_of_the_traffic_is_never_an_answer() -> None:
    world = measuring("a", "b")
    for node in world.nodes.values():
        node.serve("web", 1, 0)
    world.poll()
    world.poll()
    until = world.live.measured_until("shop")
    for node in world.nodes.values():
        node.serve("web", 1, 10)
    world.poll("a")
    world.poll("a")
    assert world.live.measured_until("shop") == until
    with pytest.raises(NotMeasuredError):
        world.live.traffic(WEB, start=until, end=world.clock.now)
    world.poll()
    intervals = world.live.traffic_by_interval(WEB, start=until, end=world.clock.now)
    assert [each.requests for each in intervals] == [20], "the lost polls make one long interval"
    assert intervals[0].end - intervals[0].start == pytest.approx(15, abs=0.1)


def test_a_node_that_died_holds_nothing_up_for_ever() -> None:
    world = measuring("a", "b")
    for node in world.nodes.values():
        node.serve("web", 1, 0)
    world.poll()
    world.poll()
    for _ in range(3):
        world.nodes["a"].serve("web", 1, 10)
        world.poll("a")
    assert world.live.measured_until("shop") < world.clock.now - 14
    for _ in range(4):
        world.nodes["a"].serve("web", 1, 10)
        world.poll("a")
    assert world.live.measured_until("shop") > world.clock.now - 1
    assert world.live.traffic(WEB, start=0, end=world.clock.now).requests == 70

    world.nodes["b"].serve("web", 1, 500)  # it was only cut off, and counted
    world.poll()
    world.nodes["b"].serve("web", 1, 5)
    world.poll()
    world.poll()
    intervals = world.live.traffic_by_interval(WEB, start=world.clock.now - 9, end=world.clock.now)
    assert [each.requests for each in intervals] == [5], "what it counted while away is in no interval"


def test_a_node_that_is_not_expected_any_more_is_not_waited_for() -> None:
    world = measuring("a", "b")
    world.nodes["a"].serve("web", 1, 0)
    world.poll()
    world.poll()
    world.expected.discard("b")
    world.poll("a")
    assert world.live.measured_until("shop") > world.clock.now - 1


def test_an_envoy_that_restarts_begins_at_zero() -> None:
    world = measuring("a")
    node = world.nodes["a"]
    node.serve("web", 1, 100)
    world.poll()
    node.serve("web", 1, 10)
    world.poll()
    node.restart()
    node.serve("web", 1, 3)
    world.poll()
    assert world.live.traffic(WEB, start=0, end=world.clock.now).requests == 13


def test_revisions_are_told_apart_and_zero_is_measured() -> None:
    world = measuring("a")
    node = world.nodes["a"]
    node.serve("web", 7, 0)
    node.serve("web", 8, 0)
    world.poll()
    node.serve("web", 7, 90)
    world.poll()
    live, now = world.live, world.clock.now
    assert live.traffic(replace(WEB, revision=7), start=0, end=now).requests == 90
    assert live.traffic(replace(WEB, revision=8), start=0, end=now).requests == 0
    assert live.traffic(WEB, start=0, end=now).requests == 90
    for unknown in (replace(WEB, revision=9), replace(WEB, service="db"), Subject(app="blog", service="web")):
        with pytest.raises(NotMeasuredError):
            live.traffic(unknown, start=0, end=now)
    with pytest.raises(NotMeasuredError):
        live.measured_until("blog")


def test_no_gateway_is_no_measurement() -> None:
    world = measuring("a")
    world.nodes["a"].serve("web", 1, 5)
    world.poll()
    world.poll()
    until = world.live.measured_until("shop")
    world.nodes["a"].gateway = False
    world.nodes["a"].cpu["shop", "web", 1, "t1"] = 1.0
    for _ in range(10):
        world.nodes["a"].cpu["shop", "web", 1, "t1"] += 2.5
        world.poll()
    assert world.live.measured_until("shop") == until
    with pytest.raises(NotMeasuredError):
        world.live.traffic(WEB, start=until, end=world.clock.now)
    (usage,) = world.live.usage(WEB, start=until, end=world.clock.now)
    assert [round(point.cpu_cores, 2) for point in usage.points] == [0.5] * 9


def test_held_requests_are_those_that_wait_now() -> None:
    world = measuring("a", "b")
    world.poll()
    world.nodes["a"].held["shop", "web"], world.nodes["b"].held["shop", "web"] = 3, 4
    world.poll()
    assert world.live.traffic(WEB, start=0, end=world.clock.now).held == 7
    world.nodes["a"].held["shop", "web"] = world.nodes["b"].held["shop", "web"] = 0
    world.poll()
    assert world.live.traffic(WEB, start=0, end=world.clock.now).held == 0


def test_counters_of_apps_are_given_per_second_and_gauges_as_they_are() -> None:
    world = measuring("a")

    def value(metric: str, now: float, *, grows: bool, labels: str = "") -> CustomValue:
        return CustomValue(
            task="t1", app="shop", service="web", revision=1, metric=metric, value=now, labels=labels, grows=grows
        )

    for jobs, queue in ((100, 5), (150, 6), (10, 7)):  # the third: the app was started again
        world.nodes["a"].custom = (
            value("jobs", jobs, grows=True),
            value("queue", queue, grows=False, labels='name="a"'),
            value("queue", 1, grows=False, labels='name="b"'),
        )
        world.poll()
    read = world.live.custom
    now = world.clock.now
    rates = read(WEB, "jobs", start=0, end=now)["t1"]
    assert [round(point.value, 1) for point in rates] == [10.0, 2.0]
    assert [point.value for point in read(WEB, "queue", start=0, end=now)["t1"]] == [6, 7, 8]
    assert [point.value for point in read(WEB, 'queue{name="b"}', start=0, end=now)["t1"]] == [1, 1, 1]
    with pytest.raises(NotMeasuredError):
        read(WEB, "absent", start=0, end=now)


def test_clocks_of_nodes_do_not_matter() -> None:
    world = measuring("a", "b")
    world.nodes["b"].skew_s = -3600
    world.nodes["b"].cpu["shop", "web", 1, "t1"] = 0.0
    for turn in range(4):
        world.nodes["b"].serve("web", 1, 10)
        world.nodes["b"].cpu["shop", "web", 1, "t1"] += 5
        if turn == 2:
            world.nodes["b"].skew_s = -7200
        world.poll()
    assert world.live.traffic(WEB, start=T0, end=world.clock.now).requests == 30
    (usage,) = world.live.usage(WEB, start=T0, end=world.clock.now)
    assert all(0.9 < point.cpu_cores < 1.1 for point in usage.points)


def test_a_clock_that_is_set_back_while_counts_begin_anew_stops_nothing_for_long() -> None:
    world = measuring("a")
    node = world.nodes["a"]
    node.serve("web", 1, 100)
    world.poll()
    node.requests["shop", "web", 1] = []
    node.skew_s = -3600
    for _ in range(5):
        node.serve("web", 1, 10)
        world.poll()
    assert world.live.traffic(WEB, start=T0, end=world.clock.now).requests == 50


def test_memory_is_bounded_in_time_numbers_and_series() -> None:
    clock, node = Clock(), Node("a")
    limits = LiveLimits(keep_s=400, most_numbers=8000, most_series=20, most_custom=10)
    live = Live(lambda: {"a"}, clock=clock, limits=limits)
    for turn in range(600):
        for service in range(8):
            node.serve(f"s{service}", turn // 50, 1, ms=1 + turn % 50)
        if turn % 50 == 49:
            node.requests.clear()
        node.custom = tuple(
            CustomValue(task="t", app="shop", service="s1", revision=1, metric="m", value=1, labels=f'n="{turn}-{n}"')
            for n in range(5)
        )
        clock.now += 1
        live.record(node.sample(clock.now))
    series = [each for service in live.kept.services.values() for each in service.revisions.values()]
    assert len(series) <= 20
    assert sum(each.numbers for each in series) <= 8000 * 1.2
    assert sum(len(each) for service in live.kept.services.values() for each in service.custom.values()) <= 10
    assert len(live.rounds) <= 600
    assert any("not measured" in problem for problem in live.problems)
