"""An app without tasks: how long its first request waits, and whether a crowd that arrives at once is all answered."""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tools.bench.model import Row
from tools.bench_cluster.session import Session
from tools.bench_elastic.moving import Moving

from testbed.product import eventually

_ROUNDS: Final = 5
_CROWD: Final = 200
_SCALE: Final = "{min: 0, max: 4, concurrency: 100, zero: {cooldown: 5s}}"
_PATIENCE_S: Final = 60.0
_ASLEEP_S: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    took_s: float


def measure(session: Session) -> Iterator[Row]:
    """Yield a row for the first request and one for a crowd."""
    product = session.trio()
    moving = Moving(product=product, app="asleep", replicas=1, scale=_SCALE)
    plain = Moving(product=product, app="awake", replicas=1)
    moving.first()
    plain.first()
    begun: list[float] = []
    first: list[_Answer] = []
    try:
        for number in range(session.acts(_ROUNDS)):
            session.say(f"from zero: round {number + 1}")
            begun.append(_start_s(plain))
            _await_sleep(moving)
            first += _ask(moving, 1)
        session.say("from zero: a crowd")
        _await_sleep(moving)
        crowd = _ask(moving, _CROWD)
    finally:
        moving.remove()
        plain.remove()
    start_s, over = statistics.median(begun), [each.took_s for each in first]
    lost = sum(each.status != 200 for each in first)
    yield Row(
        name="first request to an app at zero, beyond the start of its task",
        value=statistics.median(over) - start_s if not lost else float("inf"),
        bar=1.0,
        unit="s",
        figures=(
            f"{len(first)} rounds, {lost} not answered: median {statistics.median(over):.2f}, most {max(over):.2f} s; "
            f"a task starts in {start_s:.2f} s, from the order to its first answer through the gateway"
        ),
    )
    missed = [each for each in crowd if each.status != 200]
    yield Row(
        name=f"{_CROWD} requests at once to an app at zero: lost",
        value=len(missed),
        bar=0,
        unit="",
        digits=0,
        figures=f"the last was answered after {max(each.took_s for each in crowd):.2f} s",
    )


def _start_s(plain: Moving) -> float:
    """Return the time from the order to start one task until it answers."""
    plain.product.scale(plain.app, web=0)
    begun = time.monotonic()
    plain.product.api.call("POST", f"/v1/apps/{plain.app}/scale", {"replicas": {"web": 1}})
    found = _ask(plain, 1)
    if found[0].status != 200:
        raise RuntimeError(f"{plain.app} answered {found[0].status}")
    return time.monotonic() - begun


def _await_sleep(moving: Moving) -> None:
    """Wait until the app has no task left."""
    seen: dict[str, Any] = {}

    def asleep() -> bool:
        tasks = [each for each in moving.product.tasks(moving.app, "web") if each["state"] == "running"]
        seen["tasks"] = len(tasks)
        return not tasks

    eventually(asleep, timeout_s=_ASLEEP_S, what=lambda: f"{moving.app} to sleep: {seen}")
    time.sleep(1.0)


def _ask(moving: Moving, count: int) -> list[_Answer]:
    """Send so many requests at once, each on a connection of its own."""
    found: list[_Answer] = []
    lock, gate = threading.Lock(), threading.Barrier(count)

    def ask(number: int) -> None:
        address, port = moving.product.gateways[number % len(moving.product.gateways)]
        connection = http.client.HTTPConnection(address, port, timeout=_PATIENCE_S)
        gate.wait()
        begun = time.monotonic()
        try:
            connection.request("GET", "/", headers={"Host": moving.host})
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status = 0
        with lock:
            found.append(_Answer(status=status, took_s=time.monotonic() - begun))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
