"""Decisions of elastic scaling, whatever is seen: bounds, panic, zero, foresight, latency, the clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from hunqi.apps.scale_spec import Behavior, ScaleSpec, Slot, Zero
from hunqi.kit.codec import dumps, loads
from hunqi.scaling.clock import bounds_at
from hunqi.scaling.decide import Look, decide
from hunqi.scaling.hpa import by_total
from hunqi.scaling.latency import IN_VAIN, Latency, LatencyMemory, by_latency
from hunqi.scaling.model import Foreseen, Remembered, Room
from hunqi.scaling.panic import Panic, panicked

SPEC = ScaleSpec(min=2, max=30, rps=10)
LOADS = st.lists(
    st.tuples(st.floats(0, 2000), st.booleans(), st.integers(0, 40), st.sampled_from([None, 3, 8])),
    min_size=1,
    max_size=60,
)


def look(now: float, current: int, load: float, spec: ScaleSpec = SPEC, **more: object) -> Look:
    said = Look(
        app="a",
        service="s",
        spec=spec,
        now=now,
        current=current,
        ready=current,
        proposals=(by_total("rps", load, 10, current, spec.behavior),),
        active=load > 0,
    )
    return replace(said, **more)  # pyright: ignore[reportArgumentType]


@given(LOADS)
@settings(max_examples=150, deadline=None)
def test_it_stays_within_bounds_and_room_never_falls_in_panic_or_frozen_and_its_memory_survives(
    loads_: list[tuple[float, bool, int, int | None]],
) -> None:
    memory, current, now = Remembered(), 5, 1000.0
    for load, frozen, foreseen, room in loads_:
        now += 7
        seen = look(
            now,
            current,
            load,
            burst=int(load // 10),
            frozen="a rollout" if frozen else "",
            foreseen=Foreseen(on=True, replicas=foreseen),
            room=Room(most=room),
        )
        decision, memory = decide(seen, memory)
        assert 2 <= decision.wanted <= 30
        if decision.panic or frozen:
            assert decision.wanted >= current
        if room is not None:
            assert decision.wanted <= max(room, current)
        assert decision.sentence
        assert loads(Remembered, dumps(memory)) == memory
        current = decision.wanted


@given(st.floats(1, 250), st.integers(2, 30))
@settings(max_examples=60, deadline=None)
def test_under_constant_load_it_does_not_flap(load: float, current: int) -> None:
    memory, now, sizes = Remembered(), 1000.0, [current]
    for _ in range(300):
        now += 2
        decision, memory = decide(look(now, sizes[-1], load), memory)
        sizes.append(decision.wanted)
    steps = [after - before for before, after in pairwise(sizes) if after != before]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)


def test_foresight_can_only_add() -> None:
    memory = Remembered()
    more, _ = decide(look(1000, 5, 50, foreseen=Foreseen(on=True, replicas=9, sentence="the daily pattern")), memory)
    fewer, _ = decide(look(1000, 5, 50, foreseen=Foreseen(on=True, replicas=2)), memory)
    off, _ = decide(look(1000, 5, 50, foreseen=Foreseen(on=False, replicas=9)), memory)
    assert (more.wanted, fewer.wanted, off.wanted) == (9, 5, 5)
    assert "ahead of load" in more.sentence


def test_a_burst_is_answered_at_once_beyond_the_policies_and_ends_after_a_stable_window() -> None:
    decision, memory = decide(look(1000, 2, 20, burst=15), Remembered())
    assert (decision.wanted, decision.panic) == (15, True)
    quiet, memory = decide(look(1030, 15, 20, burst=2), memory)
    assert (quiet.wanted, quiet.panic) == (15, True)
    calm, memory = decide(look(1061, 15, 20, burst=2), memory)
    assert not calm.panic


def test_panic_begins_at_200_percent_of_the_ready_and_is_bounded() -> None:
    assert not panicked(Panic(), asked=7, ready=4, current=4, now=0).on
    assert panicked(Panic(), asked=8, ready=4, current=4, now=0).most == 8
    assert panicked(Panic(), asked=10**9, ready=2, current=2, now=0).most == 2000


def test_zero_after_the_cooldown_not_in_the_initial_one_and_awake_with_what_there_is_to_do() -> None:
    spec = ScaleSpec(min=2, max=9, rps=10, zero=Zero(cooldown_s=100, initial_cooldown_s=300))
    memory = Remembered()
    for now, wanted in ((1000.0, 2), (1150.0, 2), (1301.0, 0)):
        decision, memory = decide(look(now, 2, 0, spec), memory)
        assert decision.wanted == wanted, now
    asleep, memory = decide(look(1400, 0, 0, spec, active=None), memory)
    assert asleep.wanted == 0
    awake, _ = decide(look(1500, 0, 50, spec, active=True), memory)
    assert awake.wanted == 5


def test_the_slot_whose_moment_came_last_holds_in_its_own_time_zone() -> None:
    day = Slot(cron="0 8 * * 1-5", min=4, timezone="Europe/Berlin")
    night = Slot(cron="0 20 * * *", min=1, max=3, timezone="Europe/Berlin")
    spec = ScaleSpec(min=2, max=10, rps=1, schedule=(day, night), zero=Zero())

    def at(text: str) -> tuple[int, int, bool]:
        found = bounds_at(spec, datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
        return found.low, found.high, found.zero

    assert at("2026-11-24T06:59:59") == (1, 3, False)
    assert at("2026-11-24T07:00:00") == (4, 10, False)
    assert at("2026-11-24T19:00:00") == (1, 3, False)
    assert at("2026-11-29T12:00:00") == (1, 3, False)  # a Sunday


def late(p95: float, current: int, *, ready: int | None = None, settled_at: float = 0.0) -> Latency:
    return Latency(
        p95_ms=p95, requests=100, current=current, ready=current if ready is None else ready, settled_at=settled_at
    )


def test_latency_asks_for_half_more_waits_for_it_and_stops_where_it_does_not_help() -> None:
    rules, memory, current, now = Behavior(), LatencyMemory(), 4, 1000.0
    said, memory = by_latency(100, late(400, current), memory, rules, now=now)
    assert said.replicas == 6
    waits, memory = by_latency(100, late(400, 6, ready=4), memory, rules, now=now + 5)
    assert waits.replicas == 6
    current = 6
    for _ in range(IN_VAIN):
        now += 20
        said, memory = by_latency(100, late(400, current), memory, rules, now=now)
        current = said.replicas or current
    now += 20
    said, memory = by_latency(100, late(400, current), memory, rules, now=now)
    assert said.replicas == current
    assert "not for want of tasks" in said.sentence


def test_latency_never_asks_for_fewer_and_near_its_target_keeps_what_there_is() -> None:
    rules = Behavior()
    assert by_latency(100, late(20, 9), LatencyMemory(), rules, now=0)[0].replicas is None
    assert by_latency(100, late(95, 9), LatencyMemory(), rules, now=0)[0].replicas == 9
    few = Latency(p95_ms=900, requests=3, current=2, ready=2, settled_at=0)
    assert by_latency(100, few, LatencyMemory(), rules, now=99)[0].replicas is None
