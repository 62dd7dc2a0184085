"""A reconciler that is killed right after each of its steps, and a new one that brings what was begun to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from support_cluster import Cluster, cluster

MOST = 40
"""Steps that no scenario has."""
SILENT_S = 0.1
REPLICAS = 3


class Crash(BaseException):
    """The process is gone."""


def arm(room: Cluster, after: int) -> None:
    """Let the reconciler die once it has done so many steps, before it has noted the last one."""
    controller: Any = room.apps.controller
    left = [after]

    def dying(do: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def done(*args: Any, **more: Any) -> None:
            await do(*args, **more)
            left[0] -= 1
            if left[0] == 0:
                raise Crash

        return done

    controller._parts.acts.do = dying(controller._parts.acts.do)
    controller._transitions.do = dying(controller._transitions.do)


async def nothing(_: Cluster) -> None:
    """Watch nothing."""


async def crash_everywhere(
    folder: Path,
    prepare: Callable[[Cluster], Awaitable[object]],
    act: Callable[[Cluster], Awaitable[str]],
    check: Callable[[Cluster, str], Awaitable[None]],
    watch: Callable[[Cluster], Awaitable[None]] = nothing,
) -> int:
    """Return after how many steps the scenario was over without a crash; ``watch`` runs from its beginning to its end.

    What begins again knows nothing of the gateways until they have reported to it.
    """
    for after in range(1, MOST):
        (folder / str(after)).mkdir()
        async with cluster(folder / str(after)) as room, asyncio.TaskGroup() as group:
            async with room.running():
                await prepare(room)
            watching = group.create_task(watch(room))
            deploy: list[str] = []
            crashed = True
            try:
                async with room.running():
                    arm(room, after)
                    deploy.append(await act(room))
                    await room.ended("shop", deploy[0])
                    await room.until(lambda room=room: settled(room))
                    crashed = False
            except* Crash:
                pass
            room.routing.restart(SILENT_S if watch is not nothing else 0.0)
            async with room.running():
                if not deploy:
                    deploy.append((await room.apps.operations.deploys.deploys("shop", limit=1))[0].id)
                await room.ended("shop", deploy[0])
                await room.until(lambda room=room: settled(room), lambda room=room: sentence(room))
                await check(room, deploy[0])
            watching.cancel()
            if not crashed:
                return after
    raise AssertionError("the scenario has no end")


async def settled(room: Cluster) -> bool:
    outcome = room.apps.controller.outcome("shop")
    return outcome is not None and outcome.plan.settled and not outcome.plan.steps


def sentence(room: Cluster) -> str:
    outcome = room.apps.controller.outcome("shop")
    return outcome.sentence if outcome else "never looked at"


async def serves(room: Cluster, web_service: str) -> None:
    serving = room.routing.force["shop"]
    assert [share.backend for share in serving.shares["web"]] == [web_service]
    assert serving.draining == frozenset()


async def never_less(room: Cluster) -> None:
    """See that the gateways always have as many tasks of ``web`` to send to as are wanted."""
    while True:
        services = {each.id: each.name for each in await room.engine.services.list()}
        serving = [services.get(task.service_id) for task in await room.engine.tasks.list() if task.serving]
        shares = [share.backend for share in room.routing.force["shop"].shares["web"]]
        assert sum(name in shares for name in serving) >= REPLICAS, (shares, serving)
        await asyncio.sleep(0.005)
