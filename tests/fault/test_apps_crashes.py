"""The reconciler is killed right after each of its steps, and a new one brings what was begun to its end."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hunqi.apps.digests import Digests
from hunqi.apps.model import AppSpec, DeployState, Grant, PayloadSpec
from hunqi.apps.operations import Change, Replacing
from hunqi.apps.overlay import Overlay, with_overlay
from hunqi.engine.fake.behaviour import Behaviour
from support_apps import IMAGE, service, spec, stop_first, web
from support_cluster import ANN, Cluster
from support_crashes import REPLICAS, crash_everywhere, never_less, serves


def shop(version: int) -> AppSpec:
    return spec(web(version=version), stop_first(service("worker", version=version)), service("cache", version=1))


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
