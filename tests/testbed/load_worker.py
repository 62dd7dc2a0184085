"""The process of ``load.py``: ``load_worker.py SPEC.json REPORT.json``; the standard library alone, one thread.

Requests begin by a timer of the kernel (timerfd): the waits of select round up to milliseconds. SIGTERM begins no more.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import gc
import itertools
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from testbed.load_connections import Exchange, Pool, SocketHolder

_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class _Timer:
    """timerfd_create(2), by the clock of time.monotonic."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, at: float) -> None:
        """Wake up at ``at``; what is past wakes at once."""
        spec = _TimerSpec(_Timespec(0, 0), _Timespec(int(at), max(1, int(at % 1 * 1e9))))
        self._libc.timerfd_settime(self.fd, _ABSOLUTE, ctypes.byref(spec), None)

    def clear(self) -> None:
        """Take in that it went off."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)


class Worker:
    """The loop: begins what is due, ends what took too long, hands events to connections."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.stopping = False
        self._poll = select.epoll()
        self._timer = _Timer()
        self._poll.register(self._timer.fd, select.EPOLLIN)
        self._connections: dict[int, Any] = {}
        self._exchanges: list[Exchange] = []
        self._in_flight: collections.deque[Exchange] = collections.deque()
        self._pools = [Pool(self, number, spec) for number in range(len(spec["targets"]))]
        self._holders = [SocketHolder(self, spec, number) for number in range(spec["websockets"])]
        self._ended_sockets: list[dict[str, Any]] = []

    def watch(self, connection: Any, events: int) -> None:
        """Hand the events of a new connection's socket to it."""
        self._connections[connection.fd] = connection
        self._poll.register(connection.fd, events)

    def change(self, connection: Any, events: int) -> None:
        """Watch for other events."""
        self._poll.modify(connection.fd, events)

    def forget(self, connection: Any) -> None:
        """No events any more; the socket is about to be closed."""
        if self._connections.pop(connection.fd, None) is not None:
            self._poll.unregister(connection.fd)

    def note_socket(self, row: dict[str, Any]) -> None:
        """Take in what a WebSocket came to."""
        self._ended_sockets.append(row)

    def run(self) -> dict[str, Any]:
        """Run to the end and return the report."""
        rate, begun = self.spec["rate"], time.monotonic() + 0.05
        last = begun + self.spec["duration_s"]
        numbers = itertools.count()
        number, due = next(numbers), begun if rate else last
        while True:
            now = time.monotonic()
            while due <= now and due < last and not self.stopping:
                self._begin(number, due, now)
                number = next(numbers)
                due = begun + number / rate if rate else last
                now = time.monotonic()
            ended = self.stopping or now >= last
            self._expire(now)
            if ended and not self._in_flight:
                break
            wake = self._tick(now) if not ended else now + 1.0
            wake = min(wake, self._in_flight[0].deadline if self._in_flight else wake, due if not ended else wake)
            self._timer.set(min(wake, now + 1.0))
            self._handle(self._poll.poll(2.0))
        for holder in self._holders:
            holder.leave()
        return self._report(begun)

    def _begin(self, number: int, due: float, now: float) -> None:
        spec = self.spec
        target = number % len(self._pools)
        # Shares by accumulation: every tenth is a POST for 0.1, and evenly over targets.
        turn = number // len(self._pools)
        post = int((turn + 1) * spec["posts"]) > int(turn * spec["posts"])
        fresh = int((turn + 1) * spec["fresh"] + 0.5) > int(turn * spec["fresh"] + 0.5)
        exchange = Exchange(f"{os.getpid()}-{number}", due, target, post=post, fresh=fresh, timeout_s=spec["timeout_s"])
        exchange.late_s = now - due
        self._exchanges.append(exchange)
        self._in_flight.append(exchange)
        self._pools[target].send(exchange)

    def _expire(self, now: float) -> None:
        waiting = self._in_flight
        while waiting and (waiting[0].kind or waiting[0].deadline <= now):
            exchange = waiting.popleft()
            if not exchange.kind:
                exchange.end("timeout")
                if exchange.connection is not None:
                    exchange.connection.close()

    def _tick(self, now: float) -> float:
        return min((holder.tick(now) for holder in self._holders), default=now + 1.0)

    def _handle(self, events: list[tuple[int, int]]) -> None:
        for fd, mask in events:
            if fd == self._timer.fd:
                self._timer.clear()
            elif (connection := self._connections.get(fd)) is not None:
                connection.handle(mask)

    def _report(self, begun: float) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "outcomes": [exchange.row() for exchange in self._exchanges],
            "sockets": self._ended_sockets,
            "cpu_s": used.ru_utime + used.ru_stime,
            "took_s": time.monotonic() - begun,
        }


def main() -> None:
    """Run as the arguments say."""
    spec_file, report_file = map(Path, sys.argv[1:3])
    spec = json.loads(spec_file.read_text())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    worker = Worker(spec)

    def stop(_signal: int, _frame: object) -> None:
        worker.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    # A collection of thousands of outcomes would hold up those that are due.
    gc.disable()
    Path(f"{report_file}.begun").touch()
    report = worker.run()
    partial = report_file.with_suffix(".partial")
    partial.write_text(json.dumps(report))
    partial.rename(report_file)


if __name__ == "__main__":
    main()
