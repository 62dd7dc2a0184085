"""A node that is cut off without a word: no more packets, no resets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hunqi.apps.model import HealthSpec
from hunqi.gateway.model import Endpoint
from testbed.gateway import Gateway, backend, cluster, gateway, holding, route, table
from testbed.programs import Daemon, accepts, find_program, run

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("gateway")]

_SERVER = """
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        if self.path == "/slow": time.sleep(0.3)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        # In one piece: an answer that has begun cannot be asked for again elsewhere.
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
    do_POST = do_GET
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


class Far:
    """A task on a machine of its own, behind a cable."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    def cut(self) -> None:
        for chain in ("INPUT", "OUTPUT"):
            run([*self.inside, "iptables", "-P", chain, "DROP"])

    def heal(self) -> None:
        for chain in ("INPUT", "OUTPUT"):
            run([*self.inside, "iptables", "-P", chain, "ACCEPT"])

    @property
    def inside(self) -> list[str]:
        return ["nsenter", f"--net=/var/run/netns/{self.name}"]


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    find_program("ip")
    number = os.getpid() % 200 + 20
    name, here = f"hqg{number}", f"10.198.{number}.1"
    there = Far(name, f"10.198.{number}.2")
    with contextlib.ExitStack() as stack:
        stack.callback(run, ["ip", "netns", "delete", name], check=False)
        run(["ip", "netns", "add", name])
        run(["ip", "link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name])
        stack.callback(run, ["ip", "link", "delete", f"{name}v"], check=False)
        run(["ip", "addr", "add", f"{here}/24", "dev", f"{name}v"])
        run(["ip", "link", "set", f"{name}v", "up"])
        run(["ip", "-n", name, "addr", "add", f"{there.address}/24", "dev", "eth0"])
        run(["ip", "-n", name, "link", "set", "eth0", "up"])
        server = Daemon([*there.inside, sys.executable, "-c", _SERVER], log=tmp_path / "server.log")
        stack.callback(server.stop)
        await asyncio.to_thread(server.wait_until, lambda: accepts(there.address, 8080), timeout_s=15.0)
        yield there


async def test_no_safe_request_fails_and_the_others_soon_do_not(far: Far, tmp_path: Path) -> None:
    """The bars: safe requests 0 failed; the last other failure 2.5 s after the cut at most."""
    async with gateway(tmp_path / "e") as running, backend("near") as near:
        health = HealthSpec(path="/healthz", interval_s=1.0, timeout_s=2.0)
        away = Endpoint(address=far.address, port=8080, task="far", node="n2")
        wanted = table(cluster(near, away, health=health, hold_s=10.0), routes=(route(),))
        await running.apply(wanted)
        await running.healthy(2)
        async with holding(running, wanted):
            loads = [Load(running, "GET", "/"), Load(running, "GET", "/slow"), Load(running, "POST", "/")]
            async with asyncio.TaskGroup() as group:
                for each in loads:
                    group.create_task(each.run())
                await asyncio.sleep(1.0)
                began = time.monotonic()
                await asyncio.to_thread(far.cut)
                await asyncio.sleep(8.0)
                for each in loads:
                    each.stop.set()
            after = [at - began for each in loads for at, _ in each.failures]
            print("failures", [(each.method, each.path, len(each.failures), each.count) for each in loads], after)
            assert loads[0].failures == []
            assert loads[1].failures == []
            assert all(each < 2.6 for each in after), after
            await asyncio.to_thread(far.heal)
            await running.healthy(2, timeout_s=15.0)


class Load:
    """Open loop: a request every 20 ms, each on whatever connection is free."""

    def __init__(self, at: Gateway, method: str, path: str) -> None:
        self.at = at
        self.method = method
        self.path = path
        self.stop = asyncio.Event()
        self.failures: list[tuple[float, object]] = []
        self.count = 0

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=20)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as client, asyncio.TaskGroup() as group:
            while not self.stop.is_set():
                group.create_task(self._one(client))
                await asyncio.sleep(0.02)

    async def _one(self, client: aiohttp.ClientSession) -> None:
        self.count += 1
        body = b"x" if self.method == "POST" else None
        try:
            async with client.request(
                self.method, self.at.url(self.path), headers={"host": "shop.test"}, data=body
            ) as answer:
                await answer.read()
                if answer.status != 200:
                    self.failures.append((time.monotonic(), answer.status))
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append((time.monotonic(), error))
