"""How long a change of a route, and of the endpoints behind one, takes until every gateway acts on it.

From the moment at which the change is sent to the API, or a task dies, until the last of the gateways answers
accordingly; each is asked every five milliseconds.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from typing import Final

from tools.bench.model import BenchError, Row
from tools.bench_cluster.session import Session

from testbed.load import percentile
from testbed.product import Product, shop

_CHANGES: Final = 50
_BAR_MS: Final = 300.0
_LOOK_S: Final = 0.005
_PATIENCE_S: Final = 15.0


def measure(session: Session) -> Iterator[Row]:
    """Yield the row of routes that are added and removed."""
    product = session.trio()
    product.deploy("effect", shop(host="effect.test"))
    took: list[float] = []
    try:
        for number in range(session.acts(_CHANGES)):
            session.say(f"route changes: {number + 1}")
            took += _there_and_back(product, f"r{number}.effect.test")
    finally:
        product.remove("effect")
    yield Row(
        name="change of a route until its effect in every gateway, p99",
        value=percentile(took, 99) * 1e3,
        bar=_BAR_MS,
        unit="ms",
        digits=0,
        figures=f"{len(took)} changes: p50 {percentile(took, 50) * 1e3:.0f}, most {max(took) * 1e3:.0f} ms",
    )


def _there_and_back(product: Product, host: str) -> Iterator[float]:
    spec = {"port": 8080, "hosts": [host], "tls": "off"}
    begun = time.monotonic()
    made = product.api.call("POST", "/v1/apps/effect/routes", {"service": "web", "spec": spec})
    yield _until(product, host, 200) - begun
    begun = time.monotonic()
    product.api.call("DELETE", f"/v1/apps/effect/routes/{made['id']}")
    yield _until(product, host, 404) - begun


def _until(product: Product, host: str, status: int) -> float:
    """Return when the last gateway answered so; raise :class:`BenchError` if one never does."""
    seen: dict[str, float] = {}
    threads = [
        threading.Thread(target=_ask, args=(address, port, host, status, seen)) for address, port in product.gateways
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(seen) < len(threads):
        raise BenchError(f"{host} did not come to {status} on every gateway: only on {sorted(seen)}")
    return max(seen.values())


def _ask(address: str, port: int, host: str, status: int, seen: dict[str, float]) -> None:
    connection = http.client.HTTPConnection(address, port, timeout=5.0)
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        if answer.status == status:
            seen[address] = time.monotonic()
            break
        time.sleep(_LOOK_S)
    connection.close()
