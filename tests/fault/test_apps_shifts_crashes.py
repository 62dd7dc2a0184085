"""The reconciler is killed right after each of its steps while a deploy moves by decisions: it goes on, and ends."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from hunqi.apps.errors import DeployEndedError
from hunqi.apps.lanes import ALL_USERS
from hunqi.apps.model import AppSpec, DeployState
from hunqi.apps.operations import Problem
from hunqi.apps.rollout_spec import RolloutSpec
from hunqi.apps.shifting import Shift, Verdict
from hunqi.apps.transitions import OvertakenError
from support_apps import service, spec, stop_first, web
from support_cluster import Cluster
from support_crashes import REPLICAS, crash_everywhere, never_less, serves


def shop(version: int) -> AppSpec:
    worker = stop_first(service("worker", version=version))
    rollout = RolloutSpec(keep_s=0.2)
    return spec(web(version=version, replicas=REPLICAS), worker, service("cache"), rollout=rollout)


async def prepare(room: Cluster) -> None:
    await room.deployed(shop(1))


async def act(room: Cluster) -> str:
    return await room.release(shop(2))


def deciding(end: Callable[[Shift], Shift]) -> Callable[[Cluster], Awaitable[None]]:
    """Watch what serves, and decide as a rollout does: one user in ten when the lane is there, then the end."""

    async def decide(room: Cluster) -> None:
        while True:
            now = await room.apps.shifts.find("shop")
            if now is not None and now.shifting and now.ready and now.in_force == now.shift.number:
                shift = dataclasses.replace(now.shift, number=now.shift.number + 1, decided_at=0.0)
                shift = end(shift) if now.shift.weight else dataclasses.replace(shift, weight=1000)
                with suppress(OvertakenError, DeployEndedError):
                    await room.apps.shifts.decide("shop", now.deploy, shift)
            await asyncio.sleep(0.01)

    async def watch(room: Cluster) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(never_less(room))
            group.create_task(decide(room))

    return watch


async def test_promotion_ends_well_from_every_step_and_never_serves_with_less(tmp_path: Path) -> None:
    def promote(shift: Shift) -> Shift:
        return dataclasses.replace(shift, weight=ALL_USERS, verdict=Verdict.PROMOTE)

    async def check(room: Cluster, deploy: str) -> None:
        assert (await room.apps.operations.deploys.find("shop", deploy)).state is DeployState.SUCCEEDED
        assert await room.names() == {"shop_web-r2", "shop_worker-r2", "shop_cache-r1"}
        await serves(room, "shop_web-r2")
        assert room.routing.force["shop"].lane is None

    assert await crash_everywhere(tmp_path, prepare, act, check, deciding(promote)) > 9


async def test_abort_ends_well_from_every_step_and_never_serves_with_less(tmp_path: Path) -> None:
    problem = Problem(code="rollout.failed", message="its answers were errors")

    def abort(shift: Shift) -> Shift:
        return dataclasses.replace(shift, weight=0, verdict=Verdict.ABORT, problem=problem)

    async def check(room: Cluster, deploy: str) -> None:
        ended = await room.apps.operations.deploys.find("shop", deploy)
        assert (ended.state, ended.problem) == (DeployState.FAILED, problem)
        assert await room.names() == {"shop_web-r1", "shop_worker-r1", "shop_cache-r1"}
        await serves(room, "shop_web-r1")
        assert room.routing.force["shop"].lane is None

    assert await crash_everywhere(tmp_path, prepare, act, check, deciding(abort)) > 5
