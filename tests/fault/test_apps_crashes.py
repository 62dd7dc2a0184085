"""The reconciler is killed right after each of its steps, and a new one brings what was begun to its end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hunqi.apps.digests import Digests
from hunqi.apps.model import AppSpec, DeployState, Grant, PayloadSpec
from hunqi.apps.operations import Change, Replacing
from hunqi.apps.overlay import Overlay, with_overlay
from hunqi.engine.fake.behaviour import Behaviour
from support_apps import IMAGE, service, spec, stop_first, web
from support_cluster import ANN, Cluster, cluster

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


def shop(version: int) -> AppSpec:
    return spec(web(version=version), stop_first(service("worker", version=version)), service("cache", version=1))


async def serves(room: Cluster, web_service: str) -> None:
    serving = room.routing.force["shop"]
    assert [share.backend for share in serving.shares["web"]] == [web_service]
    assert serving.draining == frozenset()


async def test_deploy_ends_well_from_every_step(tmp_path: Path) -> None:
    async def prepare(room: Cluster) -> None:
        await room.deployed(shop(1))

    async def act(room: Cluster) -> str:
        return await room.release(shop(2))

    async def check(room: Cluster, deploy: str) -> None:
        assert (await room.apps.operations.deploys.find("shop", deploy)).state is DeployState.SUCCEEDED
        assert await room.names() == {"shop_web-r2", "shop_worker-r2", "shop_cache-r1"}
        await serves(room, "shop_web-r2")

    assert await crash_everywhere(tmp_path, prepare, act, check) > 8


async def test_failing_deploy_leaves_the_old_one_from_every_step(tmp_path: Path) -> None:
    async def prepare(room: Cluster) -> None:
        await room.deployed(shop(1))
        image = IMAGE.format(name="worker", digest=f"{2:064x}")
        room.swarm.behave(image, Behaviour(missing=True))

    async def act(room: Cluster) -> str:
        made = shop(2)
        quick = {"RestartPolicy": {"Condition": "any", "Delay": 20_000_000}}
        worker = stop_first(service("worker", version=2, template=quick))
        return await room.release(spec(*[each for name, each in made.services.items() if name != "worker"], worker))

    async def check(room: Cluster, deploy: str) -> None:
        assert (await room.apps.operations.deploys.find("shop", deploy)).state is DeployState.FAILED
        assert await room.names() == {"shop_web-r1", "shop_worker-r1", "shop_cache-r1"}
        await serves(room, "shop_web-r1")

    assert await crash_everywhere(tmp_path, prepare, act, check) > 6


async def test_rollback_ends_well_from_every_step(tmp_path: Path) -> None:
    async def prepare(room: Cluster) -> None:
        await room.deployed(shop(1))
        await room.deployed(shop(2))

    async def act(room: Cluster) -> str:
        return (await room.apps.operations.deploys.rollback("shop", 1, ANN)).id

    async def check(room: Cluster, deploy: str) -> None:
        assert (await room.apps.operations.deploys.find("shop", deploy)).state is DeployState.SUCCEEDED
        assert await room.names() == {"shop_web-r3", "shop_worker-r3", "shop_cache-r1"}
        web_service = await room.engine.services.inspect("shop_web-r3")
        image = web_service.spec["TaskTemplate"]["ContainerSpec"]["Image"]
        assert image == IMAGE.format(name="web", digest=f"{1:064x}")
        assert room.images.asked == []

    assert await crash_everywhere(tmp_path, prepare, act, check) > 8


async def test_secret_rotation_ends_well_from_every_step(tmp_path: Path) -> None:
    change = Change(actor="ann")

    async def prepare(room: Cluster) -> None:
        grant = (Grant(source="key", target="key"),)
        base = spec(web(secrets=grant), service("worker"), secrets={"key": PayloadSpec(name="key", external="token")})
        first = {hashlib.sha256(b"one").hexdigest(): b"one"}
        await room.deployed(spec(web(), service("worker")))
        await room.apps.operations.secrets.put("shop", "token", b"one", change)
        kept = with_overlay(base, Overlay(secrets={"token": next(iter(first))}))
        await room.ended("shop", await room.release(kept, payloads=first))

    async def act(room: Cluster) -> str:
        deploy = await room.apps.operations.secrets.put("shop", "token", b"two", change)
        assert deploy is not None
        return deploy.id

    async def check(room: Cluster, deploy: str) -> None:
        assert (await room.apps.operations.deploys.find("shop", deploy)).state is DeployState.SUCCEEDED
        names = [secret.name for secret in await room.engine.secrets.list()]
        assert names == [f"shop_key-{Digests(room.seal).of('shop', b'two')[:12]}"]
        assert await room.names() == {"shop_web-r3", "shop_worker-r1"}

    assert await crash_everywhere(tmp_path, prepare, act, check) > 6


async def never_less(room: Cluster) -> None:
    """See that the gateways always have as many tasks of ``web`` to send to as are wanted."""
    while True:
        services = {each.id: each.name for each in await room.engine.services.list()}
        serving = [services.get(task.service_id) for task in await room.engine.tasks.list() if task.serving]
        shares = [share.backend for share in room.routing.force["shop"].shares["web"]]
        assert sum(name in shares for name in serving) >= REPLICAS, (shares, serving)
        await asyncio.sleep(0.005)


async def test_batches_end_well_from_every_step_and_never_serve_with_less(tmp_path: Path) -> None:
    async def prepare(room: Cluster) -> None:
        await room.deployed(spec(web(replicas=REPLICAS)))

    async def act(room: Cluster) -> str:
        return await room.release(spec(web(version=2, replicas=REPLICAS)), replacing=Replacing.BATCHES)

    async def check(room: Cluster, deploy: str) -> None:
        assert (await room.apps.operations.deploys.find("shop", deploy)).state is DeployState.SUCCEEDED
        assert await room.names() == {"shop_web-r2"}
        await serves(room, "shop_web-r2")

    assert await crash_everywhere(tmp_path, prepare, act, check, never_less) > 10


async def test_batches_cut_short_come_back_from_every_step_and_never_serve_with_less(tmp_path: Path) -> None:
    async def prepare(room: Cluster) -> None:
        await room.deployed(spec(web(replicas=REPLICAS)))
        room.swarm.behave(IMAGE.format(name="web", digest=f"{2:064x}"), Behaviour(start_s=0.01))
        deploy = await room.release(spec(web(version=2, replicas=REPLICAS)), replacing=Replacing.BATCHES)

        async def half_way() -> bool:
            return (await room.engine.services.inspect("shop_web-r1")).replicas == REPLICAS - 1

        await room.until(half_way)
        began.append(deploy)

    async def act(room: Cluster) -> str:
        deploys = room.apps.operations.deploys
        await deploys.cancel("shop", began[-1], ANN)
        return began[-1]

    async def check(room: Cluster, deploy: str) -> None:
        assert (await room.apps.operations.deploys.find("shop", deploy)).state is DeployState.CANCELLED
        assert await room.names() == {"shop_web-r1"}
        await serves(room, "shop_web-r1")

    began: list[str] = []
    assert await crash_everywhere(tmp_path, prepare, act, check, never_less) > 2
