"""The first machine destroyed: its power is cut, its disk is gone. Control is rebuilt on another manager.

The last scenario of the three machines: nothing is put back. Two managers cannot elect a leader alone, so all three are
managers before.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Final

from tools.bench.model import Row
from tools.bench_cluster.cut import names_of
from tools.bench_cluster.session import Session

from testbed.product import Api, Product, eventually

_RECOVERED_S: Final = 60.0
_PATIENCE_S: Final = 180.0


def measure(session: Session) -> Iterator[Row]:
    """Yield the rows of a destroyed first machine."""
    product = session.trio()
    for name in names_of(product):
        product.first.machine.docker("node", "promote", name)
    lost, heir = product.nodes[0], product.nodes[1]
    others = tuple((node.machine.address, 80) for node in product.nodes[1:])
    with session.watched("heir", targets=others, timeout_s=15.0, keep=True) as found:
        session.say("recovery: the first machine is gone")
        lost.machine.cut()
        at = time.monotonic()
        lost.machine.kill()
        shutil.rmtree(lost.data)
        heir.recover(timeout_s=_PATIENCE_S)
        product.api = Api(host=heir.machine.address, token=product.api.token)
        eventually(lambda: _knows(product), timeout_s=_PATIENCE_S, what=lambda: "the recovered control")
        took_s = time.monotonic() - at
        product.scale("heir", web=4)
    away = found.found.where(lambda outcome: outcome.at >= at)
    safe = away.where(lambda outcome: outcome.method == "GET")
    yield Row(
        name="the first machine destroyed: control recovered on another manager",
        value=took_s,
        bar=_RECOVERED_S,
        unit="s",
        digits=1,
        figures="from the loss until `hunqi recover` there shows the app; a scaling by it follows",
    )
    yield Row(
        name="the first machine destroyed: failed GETs through the other gateways meanwhile",
        value=len(safe.failures),
        bar=0.0,
        unit="failed",
        digits=0,
        figures=away.summary(),
    )


def _knows(product: Product) -> bool:
    try:
        return product.api.call("GET", "/v1/apps/heir")["state"] == "running"
    except Exception:  # a connection refused, a problem: not yet
        return False
