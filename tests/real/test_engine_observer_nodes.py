"""The observer on a manager, with tasks on other machines: of these Docker's events say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from hunqi.engine.client import Docker
from hunqi.engine.model import LABEL_CLUSTER, Snapshot, Task
from hunqi.engine.observer import Observer
from support_engine import LABELS, spec
from testbed.sample import give_sample
from testbed.swarm import THREE_NODES, Bed

pytestmark = [pytest.mark.real, THREE_NODES]


async def seen(observer: Observer, look: Callable[[Snapshot], bool], timeout_s: float) -> Snapshot:
    async with asyncio.timeout(timeout_s):
        async for snapshot in observer.follow():
            if look(snapshot):
                return snapshot
    raise AssertionError


def serving(snapshot: Snapshot) -> list[Task]:
    return [task for task in snapshot.tasks_of("shop_web-r1") if task.serving]


async def test_a_task_that_dies_on_another_machine_is_seen_soon_and_so_is_its_replacement(three_nodes: Bed) -> None:
    bed = three_nodes
    give_sample(bed)
    third = bed.machines[2]
    async with Docker(bed.machines[1].docker_url) as docker, asyncio.TaskGroup() as group:
        observer = Observer(docker, cluster=LABELS[LABEL_CLUSTER])
        observing = group.create_task(observer.run())
        try:
            await docker.services.create(spec("shop_web-r1", replicas=3))
            snapshot = await seen(observer, lambda s: len(serving(s)) == 3, 60.0)
            assert {snapshot.nodes[task.node_id or ""].hostname for task in serving(snapshot)} == {
                "node1",
                "node2",
                "node3",
            }
            victim = next(task for task in serving(snapshot) if snapshot.nodes[task.node_id or ""].hostname == "node3")
            await asyncio.sleep(1.5)
            await asyncio.to_thread(third.docker, "kill", str(victim.container_id))
            await seen(observer, lambda s: victim.id not in {task.id for task in serving(s)}, 5.0)
            await seen(observer, lambda s: len(serving(s)) == 3, 60.0)
        finally:
            observing.cancel()
            await asyncio.to_thread(bed.clear)
