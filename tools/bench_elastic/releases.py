"""Revisions that are bad in one way each, and good ones, released under load as only ``rollout: gray`` says.

Each release draws its own errors and latencies. Several apps are released side by side, each under its own load.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from tools.bench.model import Row
from tools.bench_cluster.session import Session
from tools.bench_elastic.moving import Moving, revision_of

from testbed.load import Load, Report, load

_SEEDS: Final = 20
_RATE: Final = 200.0
_SIDE_BY_SIDE: Final = 2
_ROLLOUT: Final = "{strategy: gray, interval: 5s, keep: 5s}"
_LONGEST_S: Final = 900.0
_REST_S: Final = 10.0
_OLD: Final[Mapping[str, str]] = {"LATENCY_MS": "4", "TAIL_PERMILLE": "20", "TAIL_MS": "40", "ERROR_PERMILLE": "1"}
_KINDS: Final[Mapping[str, Mapping[str, str]]] = {
    "5 % errors": {"ERROR_PERMILLE": "50"},
    "p99 × 4": {"TAIL_MS": "160"},
    "a leak of 4 MiB/s": {"LEAK_KIB_S": "4096"},
    "nothing wrong": {},
}
_GOOD: Final = "nothing wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What came of one release."""

    kind: str
    state: str
    sentence: str
    took_s: float
    """From the first user on the new revision to the end."""
    most_weight: float
    samples: int
    """Requests that the new revision answered until the end."""
    last_after_s: float
    """From the decision to abort until the last request that was sent to the new revision; 0 of others."""
    failed: int
    """Requests that failed otherwise than by the errors that were asked for."""


def measure(session: Session) -> Iterator[Row]:
    """Yield the rows of bad releases, of good ones, and of how fast an abort is."""
    seeds = session.acts(_SEEDS)
    jobs = [(kind, seed) for seed in range(1, seeds + 1) for kind in _KINDS]
    halves = [jobs[number::_SIDE_BY_SIDE] for number in range(_SIDE_BY_SIDE)]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        parts = pool.map(lambda given: _release_all(session, *given), enumerate(halves))
        released = [each for part in parts for each in part]
    for kind in _KINDS:
        yield from _rows(kind, [each for each in released if each.kind == kind])
    aborted = [each for each in released if each.state == "aborted"]
    yield Row(
        name="abort: from the decision to the last request on the new revision",
        value=max((each.last_after_s for each in aborted), default=float("inf")),
        bar=2.0,
        unit="s",
        figures=f"{len(aborted)} aborts, median {_median([each.last_after_s for each in aborted]):.2f} s",
    )
    yield Row(
        name="requests that failed during releases, but by errors of the app itself",
        value=sum(each.failed for each in released),
        bar=0,
        unit="",
        digits=0,
        figures=f"of {len(released)} releases",
    )


def _rows(kind: str, found: list[Released]) -> Iterator[Row]:
    took = [each.took_s for each in found]
    samples = [each.samples for each in found]
    text = (
        f"{len(found)} releases: {_spread(took, 's')}, {_spread(samples, 'requests on the new one')}, "
        f"most weight {max((each.most_weight for each in found), default=0):g} %"
    )
    if kind == _GOOD:
        good = sum(each.state == "succeeded" for each in found)
        wrong = " · ".join(each.sentence for each in found if each.state != "succeeded")
        yield Row(
            name="good revisions promoted",
            value=good / max(1, len(found)) * 100,
            bar=95.0,
            unit="%",
            digits=0,
            at_least=True,
            figures=text + (f"; {wrong}" if wrong else ""),
        )
        return
    out = [each for each in found if each.state == "aborted" and each.most_weight <= 10.0]
    missed = " · ".join(each.sentence for each in found if each not in out)
    yield Row(
        name=f"{kind}: turned away before over 10 % of traffic",
        value=len(out) / max(1, len(found)) * 100,
        bar=100.0,
        unit="%",
        digits=0,
        at_least=True,
        figures=text + (f"; {missed}" if missed else ""),
    )
    yield Row(name=f"{kind}: slowest abort", value=max(took, default=0.0), bar=60.0, unit="s", digits=0, figures=text)


def _release_all(session: Session, number: int, jobs: list[tuple[str, int]]) -> list[Released]:
    moving = Moving(product=session.trio(), app=f"gray{number}", replicas=2)
    moving.first({**_OLD, "SEED": "1"})
    spec = Load(targets=moving.product.gateways, host=moving.host, rate=_RATE, duration_s=7200.0)
    found: list[Released] = []
    try:
        for kind, seed in jobs:
            session.say(f"{moving.app}: release {len(found) + 1} of {len(jobs)}, {kind}")
            with load(spec) as running:
                time.sleep(session.seconds(_REST_S))
                moving.begin({**_OLD, **_KINDS[kind], "SEED": str(seed + 1)}, _ROLLOUT)
                seen = _watch(moving)
                time.sleep(2.5)
                report = running.stop()
            found.append(_released(kind, moving, seen, report))
    finally:
        moving.remove()
    return found


@dataclass(slots=True, kw_only=True)
class _Seen:
    shown: dict[str, Any]
    most_weight: float
    first_at: float
    ended_at: float


def _watch(moving: Moving) -> _Seen:
    """Watch the rollout to its end; times are of the monotonic clock."""
    moving.await_begun()
    most, first_at = 0.0, 0.0
    while True:
        shown = moving.rollout()
        at = time.monotonic()
        most = max(most, float(shown["weight"]))
        if most and not first_at:
            first_at = at
        if shown["state"] in {"aborted", "succeeded", "failed", "superseded"}:
            return _Seen(shown=shown, most_weight=most, first_at=first_at or at, ended_at=at)
        if shown["state"] == "paused" or at - (first_at or at) > _LONGEST_S:
            moving.act("abort")
            moving.await_end(timeout_s=60.0)
            shown["state"] = "paused"
            return _Seen(shown=shown, most_weight=most, first_at=first_at or at, ended_at=at)
        time.sleep(0.1)


def _released(kind: str, moving: Moving, seen: _Seen, report: Report) -> Released:
    new = [each for each in report.outcomes if revision_of(each.task) == moving.number]
    decided = min(seen.ended_at, _decided_at(seen.shown, seen.ended_at))
    last = max((each.at for each in new), default=decided)
    aborted = seen.shown["state"] == "aborted"
    return Released(
        kind=kind,
        state=seen.shown["state"],
        sentence=f"{seen.shown['state']}: {seen.shown['sentence']}",
        took_s=(decided if aborted else seen.ended_at) - seen.first_at,
        most_weight=seen.most_weight,
        samples=sum(each.at <= decided for each in new),
        last_after_s=max(0.0, last - decided) if aborted else 0.0,
        failed=sum(not each.ok and each.status != 500 for each in report.outcomes),
    )


def _decided_at(shown: Mapping[str, Any], otherwise: float) -> float:
    """Return when the end was decided, by the monotonic clock; the API tells it by the wall's."""
    at = shown.get("decided_at")
    return otherwise if not at else float(at) - (time.time() - time.monotonic())


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else 0.0


def _spread(values: list[Any], unit: str) -> str:
    if not values:
        return f"no {unit}"
    return f"median {statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f}) {unit}"
