"""Health memory and limits, in virtual time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import pytest

from hunqi.mirror.sources.errors import Blame
from hunqi.mirror.sources.health import Admission, HealthMemory
from hunqi.mirror.sources.limits import Bandwidth, ConnectionSlots, Use
from hunqi.mirror.sources.model import SourceKind


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Named:
    id: str
    kind: SourceKind


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> HealthMemory:
    return HealthMemory(clock)


def test_an_unknown_source_may_be_asked(memory: HealthMemory) -> None:
    assert memory.admit("a") is Admission.OPEN


def test_a_dead_source_is_out_at_once_and_probed_by_one(memory: HealthMemory, clock: Clock) -> None:
    memory.failed("a", Blame.HARD)
    assert memory.admit("a") is Admission.DOWN
    clock.now += 1.0
    assert [memory.admit("a") for _ in range(3)] == [Admission.PROBE, Admission.DOWN, Admission.DOWN]
    memory.succeeded("a")
    assert memory.admit("a") is Admission.OPEN


def test_back_off_doubles_up_to_a_minute(memory: HealthMemory, clock: Clock) -> None:
    waits: list[float] = []
    memory.failed("a", Blame.HARD)
    for _ in range(9):
        down_until_s = memory.state("a").down_until_s
        assert down_until_s is not None
        waits.append(down_until_s - clock.now)
        clock.now = down_until_s - 0.01
        assert memory.admit("a") is Admission.DOWN
        clock.now = down_until_s
        assert memory.admit("a") is Admission.PROBE
        memory.failed("a", Blame.SOFT)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_failures_of_one_event_count_once(memory: HealthMemory, clock: Clock) -> None:
    for _ in range(8):
        memory.failed("a", Blame.HARD)
    assert memory.state("a").down_until_s == clock.now + 1.0


def test_soft_failures_put_out_only_in_a_row(memory: HealthMemory) -> None:
    for _ in range(3):
        memory.failed("a", Blame.SOFT)
        memory.failed("a", Blame.SOFT)
        memory.succeeded("a")
    assert memory.admit("a") is Admission.OPEN
    for _ in range(3):
        memory.failed("a", Blame.SOFT)
    assert memory.admit("a") is Admission.DOWN


def test_a_refusal_is_a_sign_of_life(memory: HealthMemory, clock: Clock) -> None:
    memory.failed("a", Blame.HARD)
    clock.now += 1
    assert memory.admit("a") is Admission.PROBE
    memory.failed("a", Blame.ANSWERED)
    assert memory.admit("a") is Admission.OPEN


def test_our_own_abort_frees_the_probe_for_another(memory: HealthMemory, clock: Clock) -> None:
    memory.failed("a", Blame.HARD)
    clock.now += 1
    assert memory.admit("a") is Admission.PROBE
    memory.failed("a", Blame.OURS)
    assert memory.admit("a") is Admission.PROBE


def test_a_probe_that_is_never_reported_is_forgotten(memory: HealthMemory, clock: Clock) -> None:
    memory.failed("a", Blame.HARD)
    clock.now += 1
    assert memory.admit("a") is Admission.PROBE
    clock.now += 30
    assert memory.admit("a") is Admission.PROBE


def test_order_is_by_kind_health_and_speed(memory: HealthMemory) -> None:
    upstream, relay = Named("u", SourceKind.UPSTREAM), Named("r", SourceKind.RELAY)
    slow, fast, new, dead = (Named(name, SourceKind.PEER) for name in ("slow", "fast", "new", "dead"))
    memory.measured("slow", 1 << 20, 1.0)
    memory.measured("fast", 1 << 20, 0.1)
    memory.failed("dead", Blame.HARD)
    assert memory.order([dead, upstream, slow, relay, fast, new]) == [new, fast, slow, relay, upstream, dead]


def test_speed_is_a_moving_average_that_ignores_small_samples(memory: HealthMemory) -> None:
    memory.measured("a", 1_000_000, 1.0)
    memory.measured("a", 10, 1e-6)
    memory.measured("a", 2_000_000, 1.0)
    assert memory.state("a").speed == pytest.approx(1_300_000)


def test_bandwidth_is_kept_over_time(clock: Clock) -> None:
    bucket = Bandwidth(1000, clock)
    began, sent = clock.now, 0
    while clock.now - began < 100:
        sent += 50
        clock.now += bucket.spend(50)
    assert sent == pytest.approx(100_000, rel=0.01)


def test_bandwidth_does_not_save_up_more_than_a_burst(clock: Clock) -> None:
    bucket = Bandwidth(1000, clock)
    clock.now += 3600
    assert bucket.spend(250) == 0.0
    assert bucket.spend(500) == pytest.approx(0.5)
    assert bucket.piece_bytes == 250


def test_the_last_slot_is_for_small_requests() -> None:
    slots = ConnectionSlots(3)
    assert slots.acquire(Use.BULK, 0)
    assert slots.acquire(Use.BULK, 0)
    assert not slots.acquire(Use.BULK, 0)
    assert slots.acquire(Use.SMALL, 0)
    assert not slots.acquire(Use.SMALL, 0)
    slots.release()
    assert not slots.acquire(Use.BULK, 0)
    slots.release()
    assert slots.acquire(Use.BULK, 0)


def test_a_single_slot_serves_both() -> None:
    slots = ConnectionSlots(1)
    assert slots.acquire(Use.BULK, 0)
    assert not slots.acquire(Use.SMALL, 0.01)


def test_a_waiter_gets_the_slot_that_comes_free() -> None:
    slots = ConnectionSlots(1)
    slots.acquire(Use.SMALL, 0)
    timer = threading.Timer(0.05, slots.release)
    timer.start()
    began = time.monotonic()
    assert slots.acquire(Use.SMALL, 5)
    assert time.monotonic() - began < 2
    timer.join()
