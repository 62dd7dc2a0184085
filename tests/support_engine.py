"""The engine for contract tests: Docker in Swarm mode, and the fake with images that do the same."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from hunqi.engine.client import Docker
from hunqi.engine.fake.behaviour import Behaviour
from hunqi.engine.fake.swarm import FakeSwarm
from hunqi.engine.model import Task
from hunqi.engine.ports import WatchedEngine
from testbed.sample import CHANGES, SAMPLE, give_sample, sample_image
from testbed.swarm import ONE_NODE, Bed

T = TypeVar("T")
LABELS = {"io.hunqi.cluster": "contract"}
FAILS = "hunqi-sample:fails"
DONE = "hunqi-sample:done"
NOWHERE = "hunqi-nowhere:1"
WAIT_S = 30.0


@pytest.fixture(params=["fake", pytest.param("docker", marks=[pytest.mark.real, ONE_NODE])])
async def engine(request: pytest.FixtureRequest) -> AsyncGenerator[WatchedEngine]:
    """The fake, or a real Swarm of one node, with the same images."""
    if request.param == "fake":
        async with _fake() as swarm:
            yield swarm
        return
    bed: Bed = request.getfixturevalue("one_node")
    _give_images(bed)
    async with Docker(bed.first.docker_url) as docker:
        try:
            yield docker
        finally:
            await asyncio.to_thread(bed.clear)


@contextlib.asynccontextmanager
async def _fake() -> AsyncGenerator[FakeSwarm]:
    swarm = FakeSwarm()
    swarm.behave(SAMPLE, Behaviour(start_s=0.05, stop_s=0.05, lines=("started x",)))
    swarm.behave(FAILS, Behaviour(exit_code=3, lines=("about to fail",)))
    swarm.behave(DONE, Behaviour(exit_code=0))
    swarm.behave(NOWHERE, Behaviour(missing=True))
    async with asyncio.TaskGroup() as group:
        life = group.create_task(swarm.run())
        yield swarm
        life.cancel()


def _give_images(bed: Bed) -> None:
    give_sample(bed)
    for name, code in ((FAILS, 3), (DONE, 0)):
        if bed.first.docker("image", "inspect", name, check=False).returncode:
            bed.give_image(sample_image(), name, *CHANGES, f"ENV EXIT={code}")


def spec(name: str, image: str = SAMPLE, *, replicas: int = 1, **template: Any) -> dict[str, Any]:
    container = {"Image": image, "Labels": LABELS, **template.pop("container", {})}
    return {
        "Name": name,
        "Labels": LABELS,
        "TaskTemplate": {"ContainerSpec": container, "RestartPolicy": {"Delay": 0}, **template},
        "Mode": {"Replicated": {"Replicas": replicas}},
        "EndpointSpec": {"Mode": "dnsrr"},
    }


async def until(look: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Look until there is something to see."""
    deadline = time.monotonic() + WAIT_S
    while not (found := await look()):
        assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
        await asyncio.sleep(0.05)
    return found


async def running(engine: WatchedEngine, service: str, count: int = 1) -> list[Task]:
    async def look() -> list[Task] | None:
        tasks = [task for task in await engine.tasks.list(services=[service]) if task.serving]
        return tasks if len(tasks) == count else None

    return await until(look, f"{count} tasks of {service} running")
