"""An agent with its real gateway on a real Docker: scaling loses nothing, and apps end in their own time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from support_agent import running, until
from support_agents import HOST, Load, world
from testbed.swarm import ONE_NODE, Bed

pytestmark = [pytest.mark.real, pytest.mark.slow, ONE_NODE]


async def test_scaling_up_and_down_under_load_loses_no_request(one_node: Bed, tmp_path: Path) -> None:
    async with world(one_node, tmp_path, app="load", replicas=2) as it:
        load = Load(urls=it.urls)
        async with running(load.run()):
            for replicas in (4, 1, 3, 2):
                await it.scale(replicas)
                await asyncio.sleep(1.0)
            # The drained ones need a second to stop; requests go on meanwhile.
            await asyncio.sleep(2.0)
        assert load.failures == []
        assert set(load.answers) == {200}
        assert len(load.answers) > 500


async def test_the_app_gets_its_signal_with_its_sockets_open(one_node: Bed, tmp_path: Path) -> None:
    async with (
        world(one_node, tmp_path, app="sock", replicas=1) as it,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{it.urls[0]}/ws", headers={"Host": HOST}) as socket,
    ):
        await socket.send_str("hello")
        assert (await socket.receive(timeout=5)).data == "hello"
        (task,) = await it.docker.tasks.list(services=[it.backend])
        container = task.container_id or ""
        service = await it.docker.services.inspect(it.backend)
        spec = {**service.spec, "Mode": {"Replicated": {"Replicas": 0}}}
        await it.docker.services.update(service.id, service.version, spec)

        def log() -> str:
            return one_node.first.docker("logs", container, check=False).stdout

        await until(lambda: "signal SIGURG" in log(), timeout_s=20)
        began = time.monotonic()
        await socket.send_str("still")
        assert (await socket.receive(timeout=5)).data == "still"
        closed = await socket.receive(timeout=40)
        assert closed.type is aiohttp.WSMsgType.CLOSE, "the app itself says goodbye"
        assert closed.data == 1001
        assert "signal SIGTERM sockets=1" in log()
        assert 10 < time.monotonic() - began < 25, "it had its drain time"
