"""Deploys that move by decisions, on the engine's fake: lanes come and go, and what serves goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hunqi.apps.errors import DeployEndedError
from hunqi.apps.lanes import ALL_USERS
from hunqi.apps.model import AppSpec, DeployState
from hunqi.apps.operations import Problem
from hunqi.apps.rollout_spec import RolloutSpec
from hunqi.apps.serving import Share
from hunqi.apps.shifting import Shift, Shifting, Verdict
from hunqi.apps.transitions import OvertakenError
from hunqi.engine.fake.behaviour import Behaviour
from hunqi.state.events import EventLog
from support_apps import IMAGE, service, spec, stop_first, web
from support_cluster import ANN, Cluster, cluster


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with cluster(tmp_path) as made, made.running():
        yield made


def shop(version: int, *, replicas: int = 2, keep_s: float = 0.0) -> AppSpec:
    worker = stop_first(service("worker", version=version))
    return spec(web(version=version, replicas=replicas), worker, service("cache"), rollout=RolloutSpec(keep_s=keep_s))


async def shifting(room: Cluster) -> Shifting:
    """Wait until the lane is there, and by the last decision."""
    found: list[Shifting] = []

    async def there() -> bool:
        now = await room.apps.shifts.find("shop")
        assert now is not None
        found[:] = [now]
        return now.shifting and now.ready and now.in_force == now.shift.number

    await room.until(there, lambda: str(found))
    return found[0]


async def decide(room: Cluster, **changes: object) -> Shift:
    now = await room.apps.shifts.find("shop")
    assert now is not None
    shift = dataclasses.replace(now.shift, number=now.shift.number + 1, decided_at=0.0, **changes)  # type: ignore[arg-type]
    await room.apps.shifts.decide("shop", now.deploy, shift)
    return shift


async def test_a_new_revision_comes_up_small_beside_the_old_and_moves_by_decisions(room: Cluster) -> None:
    await room.deployed(shop(1))
    deploy = await room.release(shop(2))
    at = await shifting(room)

    assert (at.changed, at.postponed) == (("web",), ("worker",))
    assert await room.names() == {"shop_web-r1", "shop_web-r2", "shop_worker-r1", "shop_cache-r1"}
    assert (await room.engine.services.inspect("shop_web-r2")).replicas == 1
    await decide(room, weight=500)
    await shifting(room)
    serving = room.routing.force["shop"]
    assert serving.shares["web"] == (Share(backend="shop_web-r1"),)
    assert serving.lane is not None
    assert (serving.lane.name, serving.lane.weight, serving.lane.salt) == ("r2", 500, deploy)
    assert serving.lane.shares["web"] == (Share(backend="shop_web-r2"),)

    await decide(room, weight=ALL_USERS, verdict=Verdict.PROMOTE)
    assert (await room.ended("shop", deploy)).state is DeployState.SUCCEEDED
    assert await room.names() == {"shop_web-r2", "shop_worker-r2", "shop_cache-r1"}
    assert (await room.engine.services.inspect("shop_web-r2")).replicas == 2
    assert room.routing.force["shop"].lane is None
    assert await room.apps.shifts.under_way() == []


async def test_an_abort_takes_the_lane_away_keeps_the_tasks_for_a_look_and_says_why(room: Cluster) -> None:
    await room.deployed(shop(1))
    deploy = await room.release(shop(2))
    await shifting(room)
    await decide(room, weight=1000)
    await shifting(room)
    problem = Problem(code="rollout.failed", message="5 % of the answers of revision 2 were errors")
    await decide(room, verdict=Verdict.ABORT, problem=problem, keep_s=1.0)

    async def gone() -> bool:
        now = await room.apps.shifts.find("shop")
        return now is not None and now.in_force == now.shift.number

    await room.until(gone)
    serving = room.routing.force["shop"]
    assert (serving.lane, serving.draining) == (None, {"shop_web-r2"})
    assert "shop_web-r2" in await room.names()
    ended = await room.ended("shop", deploy)
    assert (ended.state, ended.problem) == (DeployState.FAILED, problem)
    await room.until(lambda: only(room, {"shop_web-r1", "shop_worker-r1", "shop_cache-r1"}))


async def only(room: Cluster, names: set[str]) -> bool:
    return await room.names() == names


async def test_a_newer_deploy_replaces_the_new_revision_and_never_the_stable_one(room: Cluster) -> None:
    await room.deployed(shop(1))
    first = await room.release(shop(2))
    await shifting(room)
    await decide(room, weight=1000)
    await shifting(room)
    await room.release(shop(3))
    assert (await room.ended("shop", first)).state is DeployState.SUPERSEDED
    at = await shifting(room)

    assert (at.stable.number, at.target.number, at.shift.weight) == (1, 3, 0)
    await room.until(lambda: only(room, {"shop_web-r1", "shop_web-r3", "shop_worker-r1", "shop_cache-r1"}))
    assert all(
        [share.backend for share in serving.shares["web"]] == ["shop_web-r1"] and "shop_web-r1" not in serving.draining
        for serving in room.routing.changes
        if "web" in serving.shares
    )


async def test_decisions_follow_each_other_and_the_same_again_changes_nothing(room: Cluster) -> None:
    await room.deployed(shop(1))
    deploy = await room.release(shop(2))
    await shifting(room)
    shift = await decide(room, weight=500)
    await room.apps.shifts.decide("shop", deploy, shift)
    with pytest.raises(OvertakenError):
        await room.apps.shifts.decide("shop", deploy, dataclasses.replace(shift, weight=700))
    with pytest.raises(OvertakenError):
        await room.apps.shifts.decide("shop", deploy, dataclasses.replace(shift, number=3))
    with pytest.raises(DeployEndedError):
        await room.apps.shifts.decide("shop", "another", dataclasses.replace(shift, number=2))
    events = [each async for each in told(room)]
    assert [each for each in events if each[0] == "deploy.shift"] == [("deploy.shift", "5 % of users go to revision 2")]
    await decide(room, verdict=Verdict.ABORT)
    assert (await room.ended("shop", deploy)).state is DeployState.CANCELLED
    with pytest.raises(DeployEndedError):
        await room.apps.shifts.decide("shop", deploy, dataclasses.replace(shift, number=3))


async def told(room: Cluster) -> AsyncGenerator[tuple[str, str]]:
    for event in await EventLog(room.database).read(after=0, limit=500):
        yield event.kind, event.reason


async def test_tasks_of_the_lane_that_fail_end_nothing_by_themselves(room: Cluster) -> None:
    await room.deployed(shop(1))
    deploy = await room.release(shop(2))
    await shifting(room)
    room.swarm.behave(IMAGE.format(name="web", digest=f"{2:064x}"), Behaviour(exit_code=3))
    for task in await room.engine.tasks.list():
        if task.image.endswith(f"{2:064x}"):
            room.swarm.end_task(task.id, 3)

    async def unready() -> bool:
        now = await room.apps.shifts.find("shop")
        return now is not None and not now.ready and "web" in now.sentence

    await room.until(unready)
    assert (await room.apps.operations.deploys.find("shop", deploy)).state is DeployState.SHIFTING
    await room.apps.operations.deploys.cancel("shop", deploy, ANN)
    await room.until(lambda: only(room, {"shop_web-r1", "shop_worker-r1", "shop_cache-r1"}))


async def test_what_cannot_be_compared_moves_at_once(room: Cluster) -> None:
    assert (await room.deployed(shop(1))).state is DeployState.SUCCEEDED
    only_worker = dataclasses.replace(
        shop(1), services={**shop(1).services, "worker": stop_first(service("worker", version=2))}
    )
    await room.deployed(only_worker)
    await room.apps.operations.lifecycle.restart("shop", ["web"], ANN)
    newest = (await room.apps.operations.deploys.deploys("shop", limit=1))[0]
    assert (await room.ended("shop", newest.id)).state is DeployState.SUCCEEDED
    back = await room.apps.operations.deploys.rollback("shop", 1, ANN, direct=True)
    assert (await room.ended("shop", back.id)).state is DeployState.SUCCEEDED
