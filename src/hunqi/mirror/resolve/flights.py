"""Single flight: of many equal questions one goes out, the others get its answer or its error.

Questions that come from other mirrors carry *hops*. Two mirrors that ask one another in a circle must not wait for each
other's flights until a deadline, so a question only joins a flight that has passed at least as many mirrors as itself.
Along a chain of waits the number of hops then always grows, and the question comes round to where the loop is seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar, cast

from hunqi.mirror.resolve.errors import UpstreamUnavailable

T = TypeVar("T")


class _Flight(Generic[T]):
    """One call under way."""

    __slots__ = ("depth", "done", "error", "result")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.done = threading.Event()
        self.result: T | None = None
        self.error: BaseException | None = None


class Flights:
    """The calls under way, by key. Thread-safe; a key belongs to one type of result."""

    def __init__(self, *, background: Callable[[Callable[[], None]], None], wait_s: float) -> None:
        """``background`` runs what it is given some time, or raises; a follower waits at most ``wait_s`` seconds."""
        self._background = background
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._flights: dict[Hashable, list[_Flight[object]]] = {}
        self._scheduled: set[Hashable] = set()

    def do(self, key: Hashable, call: Callable[[], T], *, depth: int = 0) -> T:
        """Return what ``call()`` or an equal call under way returns, or raise what it raises.

        ``depth`` is how many mirrors the question has passed. Raises
        :class:`~hunqi.mirror.resolve.errors.UpstreamUnavailable` when the call under way takes too long.
        """
        flight, leads = self._join(key, depth)
        if leads:
            return self._lead(key, cast("_Flight[T]", flight), call)
        if not flight.done.wait(self._wait_s):
            raise UpstreamUnavailable(str(key), (f"an equal question has had no answer for {self._wait_s:g} s",))
        if flight.error is not None:
            raise flight.error
        return cast("T", flight.result)

    def start(self, key: Hashable, call: Callable[[], object], *, depth: int = 0) -> None:
        """Have ``call()`` run behind the answer unless that is already due; what it raises is dropped."""
        with self._lock:
            if key in self._scheduled or key in self._flights:
                return
            self._scheduled.add(key)
        try:
            self._background(lambda: self._run(key, call, depth))
        except Exception:
            # The answer is at hand and must not fail for a pool that is full or shut; the next question has it run.
            self._unschedule(key)

    def _run(self, key: Hashable, call: Callable[[], object], depth: int) -> None:
        try:
            self.do(key, call, depth=depth)
        except Exception:
            # A task's boundary: the answer was given; the next question meets the error itself.
            return
        finally:
            self._unschedule(key)

    def _unschedule(self, key: Hashable) -> None:
        with self._lock:
            self._scheduled.discard(key)

    def _join(self, key: Hashable, depth: int) -> tuple[_Flight[object], bool]:
        with self._lock:
            flights = self._flights.setdefault(key, [])
            for flight in flights:
                if flight.depth >= depth:
                    return flight, False
            flight = _Flight[object](depth)
            flights.append(flight)
            return flight, True

    def _lead(self, key: Hashable, flight: _Flight[T], call: Callable[[], T]) -> T:
        try:
            flight.result = call()
            return flight.result
        except BaseException as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                flights = self._flights[key]
                flights.remove(cast("_Flight[object]", flight))
                if not flights:
                    del self._flights[key]
            flight.done.set()
