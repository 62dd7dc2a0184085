"""Deploys, rollbacks and scalings of an app under load, once a quick one and once a slow one that holds WebSockets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Final

from tools.bench.model import BenchError, Row
from tools.bench_cluster.session import Session

from testbed.product import shop
from testbed.watched import Watched

_DEPLOYS: Final = 20
_ROLLBACKS: Final = 10
_SCALINGS: Final = 20
_P99_MS: Final = 75.0
_P99_TIMES: Final = 3.0
_SLOW: Final = {"START_DELAY_MS": "2000", "STOP_DELAY_MS": "2000"}
_SLOW_DRAIN: Final = "3s"
_SOCKETS: Final = 12
_SIZES: Final = (5, 2, 4, 3)


def measure(session: Session) -> Iterator[Row]:
    """Yield the rows of an app that starts and stops at once."""
    with session.watched("shop") as found:
        acts = _act(session, found, drain="15s")
    yield _failed(found, f"{acts} of a 3-replica app under 300 requests/s")
    yield _late(found, "p99 during these")


def measure_slow(session: Session) -> Iterator[Row]:
    """Yield the rows of an app that needs two seconds to start and to stop, WebSockets held open."""
    with session.watched("slow", env=_SLOW, drain=_SLOW_DRAIN, websockets=_SOCKETS) as found:
        acts = _act(session, found, drain=_SLOW_DRAIN)
    yield _failed(found, f"{acts} of one that needs 2 s to start and 2 s to stop, {_SOCKETS} WebSockets held")
    yield _late(found, "p99 during these, slow app")
    yield _sockets(found)
    yield _stops(found)


def _act(session: Session, found: Watched, *, drain: str) -> str:
    """Deploy, go back and scale, in turns; return what was done."""
    deploys, rollbacks, scalings = (session.acts(each) for each in (_DEPLOYS, _ROLLBACKS, _SCALINGS))
    live = 1
    for number in range(max(deploys, rollbacks, scalings)):
        before = live
        if number < deploys:
            session.say(f"{found.app}: deploy {number + 1} of {deploys}")
            env = {**found.compose, "REVISION": str(number + 2)}
            live = int(
                found.product.deploy(found.app, shop(host=f"{found.app}.test", env=env, drain=drain))["revision"]
            )
        if number < rollbacks:
            session.say(f"{found.app}: rollback {number + 1} of {rollbacks}")
            live = int(found.product.roll_back(found.app, before)["revision"])
        if number < scalings:
            session.say(f"{found.app}: scaling {number + 1} of {scalings}")
            found.product.scale(found.app, web=_SIZES[number % len(_SIZES)])
    return f"{deploys} deploys, {rollbacks} rollbacks and {scalings} scalings"


def _failed(found: Watched, name: str) -> Row:
    return Row(name=name, value=found.failed(), bar=0.0, unit="failed", digits=0, figures=found.figures())


def _late(found: Watched, name: str) -> Row:
    rest = found.rest.latency_ms(99)
    return Row(
        name=name,
        value=found.acts.latency_ms(99),
        bar=round(max(_P99_MS, _P99_TIMES * rest), 1),
        unit="ms",
        digits=1,
        figures=f"at rest {rest:.1f} ms; the generator's own lateness, p99: {found.found.late_ms(99):.1f} ms",
    )


def _sockets(found: Watched) -> Row:
    ends = [held.end for held in found.found.sockets]
    if not ends:
        raise BenchError("no WebSocket was held")
    bad = len(ends) - ends.count("closed") - ends.count("held")
    return Row(
        name="WebSockets of the slow app that ended without the app's close frame",
        value=bad,
        bar=0.0,
        unit="of all",
        digits=0,
        figures=f"{len(ends)} were held: {ends.count('closed')} closed by a frame, {ends.count('held')} to the end, "
        f"{ends.count('cut')} cut, {ends.count('stalled')} silent, {ends.count('refused')} refused",
    )


def _stops(found: Watched) -> Row:
    told = [each for each in found.told.told("signal") if each.more["signal"] == int(signal.SIGTERM)]
    ended = {each.task: each for each in found.told.told("end")}
    held = [each for each in told if each.more["websockets"]]
    hasty = [each.task for each in told if each.task not in ended or ended[each.task].at - each.at < 1.9]
    return Row(
        name="tasks of the slow app killed before they had their 2 s to stop, or never told to",
        value=len(hasty),
        bar=0.0,
        unit="tasks",
        digits=0,
        figures=f"{len(told)} tasks got their stop signal, {len(held)} of them with WebSockets still open "
        f"({sum(each.more['websockets'] for each in held)} in all), {len(ended)} ended by themselves",
    )
