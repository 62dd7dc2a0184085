"""Control killed again and again for a minute under load, and a gateway restarted meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Final

from tools.bench.model import BenchError, Row
from tools.bench_cluster.session import Session

from testbed.product import Product, eventually, kept_dead, shop

_AWAY_S: Final = 60.0
_BACK_S: Final = 2.0
_RETURN_S: Final = 60.0


def measure(session: Session) -> Iterator[Row]:
    """Yield the rows of control's absence."""
    product = session.trio()
    second = product.nodes[1]
    with session.watched("alone") as found:
        with kept_dead(product.first, "control"):
            session.say("alone: control is dead")
            time.sleep(session.seconds(_AWAY_S) / 2)
            pids = second.envoy_pids()
            if not pids:
                raise BenchError("no Envoy was found on the second machine")
            session.say("alone: a gateway is killed")
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            time.sleep(session.seconds(_AWAY_S) / 2)
        returned = time.monotonic()
        session.say("alone: control is back")
        eventually(lambda: _answers(found.product), timeout_s=_RETURN_S, what=lambda: "control's return")
        back_s = time.monotonic() - returned
        env = {**found.compose, "REVISION": "2"}
        product.deploy("alone", shop(host="alone.test", env=env))
    elsewhere = found.found.where(lambda outcome: outcome.target != 1)
    yield Row(
        name="control dead for 60 s, a gateway killed meanwhile: failed through the other gateways",
        value=len(elsewhere.failures) + len(found.duplicates()),
        bar=0.0,
        unit="failed",
        digits=0,
        figures=f"{elsewhere.summary()}; control answers {back_s:.1f} s after its last death and deploys at once",
    )
    there = found.found.where(lambda outcome: outcome.target == 1)
    first = min((outcome.ended_at for outcome in there.outcomes if outcome.ok and outcome.at > killed), default=None)
    last = max((outcome.ended_at for outcome in there.failures), default=killed)
    yield Row(
        name="the killed gateway serves again by its last table",
        value=float("inf") if first is None else max(first, last) - killed,
        bar=_BACK_S,
        unit="s",
        figures=f"after SIGKILL, without control; {there.summary()}",
    )


def _answers(product: Product) -> bool:
    try:
        product.api.call("GET", "/ready")
    except Exception:  # a connection refused, a problem: not yet
        return False
    return True
