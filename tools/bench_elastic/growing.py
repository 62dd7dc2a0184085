"""Load that grows tenfold within a second, on an app that is scaled by what it measures."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from tools.bench.model import Row
from tools.bench_cluster.session import Session
from tools.bench_elastic.moving import Moving

from testbed.load import Load, Outcome, Report, load, percentile

_WORK_MS: Final = 20
_SERVERS: Final = 2
_CAPACITY: Final = 1000 / _WORK_MS * _SERVERS
"""Requests a second that a task can do."""
_TARGET_RPS: Final = 50
_STEP: Final = 10
_BASE: Final = 60.0
_REST_S: Final = 30.0
_LOADED_S: Final = 120.0
_TARGET_MS: Final = 250.0
_WINDOW_S: Final = 2.0
_LEAST_S: Final = 30.0


def measure(session: Session) -> Iterator[Row]:
    """Yield how long it took until the app was fast again, what failed, and how often the number of tasks turned."""
    env = {"WORK_MS": str(_WORK_MS), "SERVERS": str(_SERVERS), "SEED": "11"}
    scale = f"{{min: 2, max: 20, rps: {_TARGET_RPS}}}"
    moving = Moving(product=session.trio(), app="grow", replicas=2, env=env, scale=scale)
    moving.first()
    try:
        with _counting(moving) as counts:
            base = Load(
                targets=moving.product.gateways, host=moving.host, rate=_BASE, duration_s=7200.0, timeout_s=60.0
            )
            more = Load(
                targets=moving.product.gateways,
                host=moving.host,
                rate=_BASE * (_STEP - 1),
                duration_s=max(_LEAST_S, _LOADED_S * session.share),
                timeout_s=60.0,
            )
            with load(base) as running:
                time.sleep(_REST_S)
                session.say("grow: ten times the load")
                begun = time.monotonic()
                with load(more) as added:
                    second = added.wait()
                first = running.stop()
    finally:
        moving.remove()
    outcomes = sorted((*first.outcomes, *second.outcomes), key=lambda each: each.at)
    loaded = [each for each in outcomes if begun <= each.at < begun + more.duration_s]
    fast_at = _fast_again(loaded, begun)
    within = [count for at, count in counts if begun <= at < begun + more.duration_s]
    failed = [each for each in outcomes if not each.ok]
    yield Row(
        name="load × 10: p99 under its target again",
        value=fast_at - begun,
        bar=30.0,
        unit="s",
        digits=1,
        figures=(
            f"{_BASE:.0f} to {_BASE * _STEP:.0f} requests/s; a task can do {_CAPACITY:.0f}, target {_TARGET_RPS}; "
            f"p99 over {_WINDOW_S:.0f} s under {_TARGET_MS:.0f} ms from then on; tasks {_told(within)}; "
            f"{Report(outcomes=tuple(loaded)).summary()}"
        ),
    )
    yield Row(
        name="load × 10: requests that failed or took over 30 s",
        value=len(failed) + sum(each.ok and each.latency_s > 30.0 for each in outcomes),
        bar=0,
        unit="",
        digits=0,
        figures=f"of {len(outcomes):,}; {Report(outcomes=tuple(outcomes)).listed(3)}",
    )
    yield Row(
        name="load × 10: turns of the number of tasks",
        value=_turns(within),
        bar=1,
        unit="",
        digits=0,
        figures=_told(within),
    )


def _fast_again(outcomes: Sequence[Outcome], begun: float) -> float:
    """Return from when on the p99 of every window stayed under the target."""
    fast = begun
    for number in itertools.count():
        at = begun + number * _WINDOW_S
        part = [each.latency_s * 1e3 for each in outcomes if at <= each.at < at + _WINDOW_S]
        if not part:
            return fast
        if percentile(part, 99) > _TARGET_MS:
            fast = at + _WINDOW_S
    raise AssertionError


def _turns(counts: Sequence[int]) -> int:
    """Return how often the direction changed."""
    moves = [after - before for before, after in itertools.pairwise(counts) if after != before]
    return sum((before > 0) != (after > 0) for before, after in itertools.pairwise(moves))


def _told(counts: Sequence[int]) -> str:
    return " → ".join(str(count) for count, _ in itertools.groupby(counts))


class _counting:  # noqa: N801 - reads as the context manager that it is
    """Asks each half second how many tasks the app is to have."""

    def __init__(self, moving: Moving) -> None:
        self._moving = moving
        self._ended = threading.Event()
        self._counts: list[tuple[float, int]] = []
        self._thread = threading.Thread(target=self._count)

    def __enter__(self) -> list[tuple[float, int]]:
        self._thread.start()
        return self._counts

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _count(self) -> None:
        while not self._ended.wait(0.5):
            shown = self._moving.product.api.call("GET", f"/v1/apps/{self._moving.app}")
            web = next(each for each in shown["services"] if each["name"] == "web")
            self._counts.append((time.monotonic(), int(web["wanted"])))
