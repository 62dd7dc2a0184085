"""The gateway moves an app's traffic from one revision to the next, under load, and no request is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hunqi.apps.model import HealthSpec
from hunqi.gateway.model import Cluster, Endpoint, EndpointState, Target
from testbed.app import binary
from testbed.gateway import Gateway, cluster, gateway, route, table
from testbed.load import Load, load
from testbed.programs import Daemon, free_port

pytestmark = pytest.mark.real
SWITCHES = 4
TASKS = 2
PAUSE_S = 0.3


class _Revision:
    """Tasks of one revision, as processes on loopback."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.name = f"shop_web-r{number}:8080"
        self.ports = [free_port() for _ in range(TASKS)]
        self.tasks = [
            Daemon(
                [str(binary())],
                log=folder / f"r{number}.log",
                env={"PORT": str(port), "TASK": f"r{number}.{place}", "REVISION": str(number), "LATENCY_MS": "5"},
            )
            for place, port in enumerate(self.ports)
        ]

    def cluster(self, state: EndpointState = EndpointState.SERVING) -> Cluster:
        endpoints = [
            Endpoint(address="127.0.0.1", port=port, task=f"r{self.number}.{place}", node="n1", state=state)
            for place, port in enumerate(self.ports)
        ]
        health = HealthSpec(path="/health", interval_s=0.2, timeout_s=1.0)
        return cluster(*endpoints, name=self.name, health=health, revision=self.number)

    def end(self) -> list[int]:
        for task in self.tasks:
            os.kill(task.pid, signal.SIGTERM)
        return [task.process.wait(5.0) for task in self.tasks]


@contextlib.asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[Gateway]:
    async with gateway(folder / "envoy") as running:
        yield running


async def _switch(running: Gateway, old: _Revision, new: _Revision) -> None:
    to_old, to_new = (route("shop.test", Target(cluster=each.name)) for each in (old, new))
    both = table(old.cluster(), new.cluster(), routes=(to_old,))
    await running.apply(both)
    await running.healthy(TASKS, name=new.name)
    await asyncio.sleep(PAUSE_S)
    await running.apply(replace(both, routes=(to_new,)))
    await running.apply(table(old.cluster(EndpointState.DRAINING), new.cluster(), routes=(to_new,)))
    deadline = time.monotonic() + 10.0
    while any(host.active_requests for host in (await running.admin.clusters()).hosts if host.cluster == old.name):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert await asyncio.to_thread(old.end) == [0] * TASKS
    await running.apply(table(new.cluster(), routes=(to_new,)))


async def test_no_request_is_lost_when_revisions_are_switched_drained_and_ended(tmp_path: Path) -> None:
    async with _serving(tmp_path) as running:
        live = _Revision(1, tmp_path)
        await running.apply(table(live.cluster(), routes=(route("shop.test", Target(cluster=live.name)),)))
        await running.healthy(TASKS, name=live.name)
        spec = Load(targets=(("127.0.0.1", running.place.http_port),), host="shop.test", rate=300, posts=0.2)
        with load(spec) as loaded:
            for number in range(SWITCHES):
                following = _Revision(number + 2, tmp_path)
                await _switch(running, live, following)
                live = following
            await asyncio.sleep(PAUSE_S)
            report = await asyncio.to_thread(loaded.stop)
        live.end()
    assert not report.failures, report.listed()
    assert not report.duplicates
    revisions = {found.task.split(".")[0] for found in report.outcomes}
    assert revisions == {f"r{number}" for number in range(1, SWITCHES + 2)}
