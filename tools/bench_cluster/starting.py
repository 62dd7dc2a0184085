"""One fresh machine: `hunqi up`, the first app, the platform's weight at rest; and the weight of a worker.

Docker runs already and has no image; the accelerator has the app's image when the app is deployed.
"""

from __future__ import annotations

import http.client
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tools.bench.model import Row, Samples
from tools.bench_cluster.session import Session

from testbed.processes import pss_bytes
from testbed.product import IMAGE, Api, Node, Product, eventually, shop, upstream
from testbed.swarm import swarm

_UP_S: Final = 15.0
_ROUTED_S: Final = 20.0
_MANAGER_MB: Final = 250.0
_WORKER_MB: Final = 120.0
_IDLE_S: Final = 30.0
_MB: Final = 1e6
_SECOND: Final = """\
  api:
    image: bench/app:1
    environment: {PORT: "9000", TASK: "{{.Task.Name}}"}
    depends_on: {web: {condition: service_healthy}}
    healthcheck: {test: ["CMD", "/app", "check"], interval: 1s, timeout: 2s, retries: 3, start_period: 10s}
    x-hunqi:
      health: /health
      routes: [{host: api.test, port: 9000, tls: "off"}]
"""


def measure(session: Session) -> Iterator[Row]:
    """Yield the rows of a first machine."""
    found = Samples()
    parts: Counter[str] = Counter()
    for number in range(session.rounds):
        session.say(f"first machine: round {number + 1} of {session.rounds}")
        parts = _round(session, number, found)
    yield _row(found, "up", "`hunqi up` on a machine with Docker, until it is ready", _UP_S)
    yield _row(found, "routed", "first app of two services, from `deploy` until both are routed", _ROUTED_S)
    yield Row(
        name="idle weight of everything Hunqi runs on one node, manager",
        value=statistics.median(found.of("weight")) / _MB,
        bar=_MANAGER_MB,
        unit="MB",
        digits=0,
        figures=f"{found.text('weight', scale=1 / _MB, digits=0)} MB, each page once; {_told(parts)}",
    )


def measure_worker(session: Session) -> Iterator[Row]:
    """Yield the weight of a worker of the three machines."""
    worker = session.trio().nodes[2]
    eventually(lambda: bool(worker.envoy_pids()), timeout_s=60.0, what=lambda: "the worker's gateway")
    time.sleep(session.seconds(_IDLE_S))
    yield Row(
        name="idle weight of everything Hunqi runs on one node, worker",
        value=worker.weight_bytes() / _MB,
        bar=_WORKER_MB,
        unit="MB",
        digits=0,
        figures=f"each page once; {_told(_parts(worker))}",
    )


def _round(session: Session, number: int, found: Samples) -> Counter[str]:
    folder = session.folder(f"starting{number}")
    with swarm(1, joined=0) as bed, upstream(bed, folder) as url:
        node = Node(bed.first, env={"DOCKER_IO": url})
        product = Product(bed, [node], Api(host=bed.first.address))
        try:
            begun = time.monotonic()
            token = node.up()
            found.add("up", time.monotonic() - begun)
            product.api.set_up(token or "")
            _warm(node)
            begun = time.monotonic()
            product.begin_deploy("shop", shop(replicas=1) + _SECOND)
            eventually(lambda: _routed(node), timeout_s=90.0, what=lambda: "both services to be routed")
            found.add("routed", time.monotonic() - begun)
            product.remove("shop")
            time.sleep(session.seconds(_IDLE_S))
            found.add("weight", float(node.weight_bytes()))
            return _parts(node)
        finally:
            node.hunqi("down", check=False)


def _warm(node: Node) -> None:
    """Have the accelerator, but not the engine, hold the app's image."""
    name = f"127.0.0.1:5000/docker.io/{IMAGE}"
    node.machine.docker("pull", name)
    node.machine.docker("rmi", name)


def _routed(node: Node) -> bool:
    return all(_status(node.machine.address, host) == 200 for host in ("shop.test", "api.test"))


def _status(address: str, host: str) -> int:
    connection = http.client.HTTPConnection(address, 80, timeout=2.0)
    try:
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def _row(found: Samples, key: str, name: str, bar: float) -> Row:
    return Row(name=name, value=found.median(key), bar=bar, unit="s", digits=1, figures=f"{found.text(key)} s")


def _parts(node: Node) -> Counter[str]:
    """Return the proportional set size of each of the processes, by name."""
    found: Counter[str] = Counter()
    for pid, name in node.names().items():
        found[name] += pss_bytes(pid)
    return found


def _told(parts: Counter[str]) -> str:
    return ", ".join(f"{name} {size / _MB:.0f}" for name, size in parts.most_common(6))
