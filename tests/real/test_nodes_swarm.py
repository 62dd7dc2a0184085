"""Emptying a node of a real Swarm of three, behind three real gateways, under load."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hunqi.engine.model import TaskState
from hunqi.nodes.controller import NodeController, NodeWorld
from hunqi.nodes.store import NodeStore
from hunqi.state.database import open_database
from support_agent import running
from support_agents import Load, World, world
from testbed.swarm import THREE_NODES, Bed

pytestmark = [pytest.mark.real, pytest.mark.slow, THREE_NODES]


async def places(it: World) -> list[str]:
    """Return the host names of the nodes that have a running task."""
    names = {node.id: node.hostname for node in await it.docker.nodes.list()}
    tasks = await it.docker.tasks.list(services=[it.backend])
    return sorted(names[each.node_id or ""] for each in tasks if each.state is TaskState.RUNNING)


async def test_a_node_is_emptied_and_taken_up_again_without_a_lost_request(three_nodes: Bed, tmp_path: Path) -> None:
    told: list[str] = []

    async def tell(node: str, sentence: str) -> None:
        told.append(f"{node}: {sentence}")

    async with (
        world(three_nodes, tmp_path, app="drain", replicas=3) as it,
        open_database(str(tmp_path / "state.db")) as database,
    ):
        controller = NodeController(
            NodeWorld(
                store=NodeStore(database),
                observer=it,
                services=it.docker.services,
                nodes=it.docker.nodes,
                gateways=it.publisher,
                now=lambda: datetime.now(UTC),
                tell=tell,
            )
        )
        load = Load(urls=it.urls)
        try:
            async with running(load.run(), controller.run()):
                await asyncio.sleep(1.0)
                await controller.drain("node2")
                async with asyncio.timeout(90):
                    while not told or not told[-1].endswith("node2 is empty"):
                        await asyncio.sleep(0.2)
                found = await places(it)
                assert "node2" not in found
                assert len(found) == 3
                assert (await it.docker.services.inspect(it.backend)).replicas == 3
                await controller.activate("node2")
                async with asyncio.timeout(30):
                    while not told[-1].endswith("node2 is active"):
                        await asyncio.sleep(0.2)
                await asyncio.sleep(1.0)
            assert load.failures == [], told
            assert set(load.answers) == {200}
            assert len(load.answers) > 300
        finally:
            for node in await it.docker.nodes.list():
                if node.availability != "active":
                    await it.docker.nodes.update(node, availability="active")


async def test_somebody_elses_drain_loses_nothing_either(three_nodes: Bed, tmp_path: Path) -> None:
    async def tell(_node: str, _sentence: str) -> None:
        return

    async with (
        world(three_nodes, tmp_path, app="caught", replicas=3) as it,
        open_database(str(tmp_path / "state.db")) as database,
    ):
        controller = NodeController(
            NodeWorld(
                store=NodeStore(database),
                observer=it,
                services=it.docker.services,
                nodes=it.docker.nodes,
                gateways=it.publisher,
                now=lambda: datetime.now(UTC),
                tell=tell,
            )
        )
        load = Load(urls=it.urls)
        try:
            async with running(load.run(), controller.run()):
                await asyncio.sleep(1.0)
                await asyncio.to_thread(three_nodes.first.docker, "node", "update", "--availability", "drain", "node2")
                controller.wake()
                async with asyncio.timeout(90):
                    while "node2" in await places(it) or len(await places(it)) != 3 or controller.surge().extra:
                        await asyncio.sleep(0.3)
                await asyncio.sleep(1.0)
            assert load.failures == []
            assert set(load.answers) == {200}
            assert (await it.docker.services.inspect(it.backend)).replicas == 3
        finally:
            for node in await it.docker.nodes.list():
                if node.availability != "active":
                    await it.docker.nodes.update(node, availability="active")
