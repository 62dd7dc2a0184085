"""Equal questions go out once; nobody waits for a flight that may wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hunqi.mirror.resolve.errors import UpstreamUnavailable
from hunqi.mirror.resolve.flights import Flights


def now(job: Callable[[], None]) -> None:
    job()


class Call:
    """A call that waits to be let through, and counts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.count = 0
        self._error = error

    def __call__(self) -> int:
        self.count += 1
        self.entered.set()
        assert self.gate.wait(5.0)
        if self._error:
            raise self._error
        return 7


def test_followers_get_the_leaders_result() -> None:
    flights, call = Flights(background=now, wait_s=5.0), Call()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(flights.do, "key", call) for _ in range(8)]
        assert call.entered.wait(5.0)
        call.gate.set()
        assert {one.result(5.0) for one in answers} == {7}
    # A thread may have come only after the first flight had ended; none flew beside another.
    assert call.count < 8


def test_followers_get_the_leaders_error_and_the_next_question_goes_out_again() -> None:
    flights, call = Flights(background=now, wait_s=5.0), Call(ValueError("no"))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flights.do, "key", call)
        assert call.entered.wait(5.0)
        second = pool.submit(flights.do, "key", lambda: 1)
        call.gate.set()
        with pytest.raises(ValueError, match="no"):
            first.result(5.0)
        assert second.exception(5.0) is first.exception(5.0) or second.result(5.0) == 1
    assert flights.do("key", lambda: 2) == 2


def test_a_follower_waits_no_longer_than_its_deadline() -> None:
    flights, call = Flights(background=now, wait_s=0.05), Call()
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(flights.do, "key", call)
        assert call.entered.wait(5.0)
        with pytest.raises(UpstreamUnavailable):
            flights.do("key", lambda: 1)
        call.gate.set()
        assert leader.result(5.0) == 7


def test_a_question_that_has_passed_more_mirrors_does_not_wait_for_one_that_has_passed_fewer() -> None:
    flights, call = Flights(background=now, wait_s=5.0), Call()
    with ThreadPoolExecutor(2) as pool:
        local = pool.submit(flights.do, "key", call, depth=1)
        assert call.entered.wait(5.0)
        assert flights.do("key", lambda: "own", depth=2) == "own"
        call.gate.set()
        assert local.result(5.0) == 7


def test_a_question_joins_one_that_has_passed_as_many_mirrors() -> None:
    flights, call = Flights(background=now, wait_s=0.05), Call()
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(flights.do, "key", call, depth=2)
        assert call.entered.wait(5.0)
        for depth in (1, 2):
            with pytest.raises(UpstreamUnavailable):  # it waits, so it has joined
                flights.do("key", lambda: "own", depth=depth)
        call.gate.set()
        assert leader.result(5.0) == 7


def test_background_work_is_due_once_however_often_it_is_asked_for() -> None:
    jobs: list[Callable[[], None]] = []
    flights = Flights(background=jobs.append, wait_s=5.0)
    done: list[int] = []
    for _ in range(3):
        flights.start("key", lambda: done.append(1))
    assert len(jobs) == 1
    jobs[0]()
    assert done == [1]
    flights.start("key", lambda: done.append(2))
    assert len(jobs) == 2


def test_background_failures_stay_behind_and_a_full_pool_does_not_harm() -> None:
    jobs: list[Callable[[], None]] = []
    flights = Flights(background=jobs.append, wait_s=5.0)

    def fail() -> None:
        raise ValueError

    flights.start("key", fail)
    jobs.pop()()

    def refuse(_: Callable[[], None]) -> None:
        raise RuntimeError("full")

    full = Flights(background=refuse, wait_s=5.0)
    full.start("key", lambda: None)
    full.start("key", lambda: None)
    flights.start("key", lambda: None)
    assert len(jobs) == 1
