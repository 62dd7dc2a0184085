"""How exactly the gateways split: requests without a cookie, and users with one, as the weight rises."""

from __future__ import annotations

import http.client
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tools.bench.model import BenchError, Row
from tools.bench_cluster.session import Session
from tools.bench_elastic.moving import Moving, revision_of

from testbed.load import Load, load

_WEIGHTS: Final = (1, 5, 10, 50)
_REQUESTS: Final = 20_000
_RATE: Final = 1_000.0
_USERS: Final = 2_000
_Z_99: Final = 2.5758
_ROLLOUT: Final = "\n    measures: {}\n    steps:\n" + "".join(
    f"      - weight: {each}\n      - pause\n" for each in _WEIGHTS
)


def measure(session: Session) -> Iterator[Row]:
    """Yield a row for requests and one for users."""
    moving = Moving(product=session.trio(), app="split")
    moving.first()
    users = _Users(moving, session.acts(_USERS))
    worst, figures, shares, back = 0.0, [], [], 0
    try:
        moving.begin({}, _ROLLOUT)
        for weight in _WEIGHTS:
            session.say(f"split at {weight} %")
            moving.await_weight(weight)
            total, new = _requests(moving, session.acts(_REQUESTS))
            sigmas = _sigmas(new, total, weight / 100)
            worst = max(worst, sigmas)
            figures.append(f"{weight} %: {new:,} of {total:,} ({sigmas:.1f} σ)")
            on_new, returned = users.ask_all()
            back += returned
            shares.append((weight, on_new, _sigmas(on_new, users.count, weight / 100)))
            moving.act("promote")
        moving.await_end(timeout_s=180.0)
    finally:
        moving.remove()
    yield Row(
        name="split of requests without a cookie, furthest from its weight",
        value=worst,
        bar=_Z_99,
        unit="σ",
        figures="; ".join(figures),
    )
    yield Row(
        name="split of users, furthest from its weight",
        value=max(sigmas for _, _, sigmas in shares),
        bar=_Z_99,
        unit="σ",
        figures="; ".join(f"{weight} %: {new:,} of {users.count:,}" for weight, new, _ in shares),
    )
    yield Row(name="users who went back", value=back, bar=0, unit="users", digits=0, figures=f"of {users.count:,}")


def _sigmas(found: int, total: int, share: float) -> float:
    """Return how many standard deviations of a binomial ``found`` is away."""
    return abs(found - total * share) / math.sqrt(total * share * (1 - share))


def _requests(moving: Moving, count: int) -> tuple[int, int]:
    spec = Load(targets=moving.product.gateways, host=moving.host, rate=_RATE, duration_s=count / _RATE)
    with load(spec) as running:
        report = running.wait()
    if report.failures:
        raise BenchError(f"{len(report.failures)} requests failed: {report.listed(3)}")
    new = sum(revision_of(found.task) == moving.number for found in report.outcomes)
    return len(report.outcomes), new


class _Users:
    """People with a cookie each, who come back; each time by whichever gateway."""

    def __init__(self, moving: Moving, count: int) -> None:
        self.count = count
        self._moving = moving
        self._cookies: dict[int, str] = {}
        self._on_new: set[int] = set()
        self._lock = threading.Lock()

    def ask_all(self) -> tuple[int, int]:
        """Have each come once; return how many were on the new revision, and how many were back on the old one."""
        parts = 8
        with ThreadPoolExecutor(parts) as pool:
            found = [user for part in pool.map(self._ask, range(parts), [parts] * parts) for user in part]
        back = len(self._on_new - set(found))
        self._on_new |= set(found)
        return len(found), back

    def _ask(self, first: int, step: int) -> list[int]:
        address, port = self._moving.product.gateways[first % len(self._moving.product.gateways)]
        connection = http.client.HTTPConnection(address, port, timeout=10.0)
        on_new: list[int] = []
        for user in range(first, self.count, step):
            headers = {"Host": self._moving.host, **({"Cookie": self._cookies[user]} if user in self._cookies else {})}
            connection.request("GET", "/", headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise BenchError(f"user {user} got {answer.status}")
            if given := answer.headers["set-cookie"]:
                with self._lock:
                    self._cookies[user] = given.partition(";")[0]
            if revision_of(answer.headers["x-task"] or "") == self._moving.number:
                on_new.append(user)
        connection.close()
        return on_new
