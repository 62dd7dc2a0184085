"""The room of apps on a real Docker daemon: deploys, failures, removal. The gateways are the tests' own."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from hunqi.apps.lanes import ALL_USERS
from hunqi.apps.model import AppSpec, DeployState, Grant, Mount, PayloadSpec, ServiceSpec, VolumeSpec
from hunqi.apps.operations import LogQuery, RunRequest
from hunqi.apps.rollout_spec import RolloutSpec
from hunqi.apps.shifting import Shifting, Verdict
from hunqi.engine.client import Docker
from support_apps import service, spec, stop_first, web
from support_cluster import ANN, Cluster, cluster
from testbed.sample import HEALTHCHECK, SAMPLE, give_sample
from testbed.swarm import ONE_NODE, Bed

pytestmark = [pytest.mark.real, ONE_NODE]
CHECK = {"Test": list(HEALTHCHECK), "Interval": 300_000_000, "Timeout": 2_000_000_000, "Retries": 2}
QUICK = {"drain_s": 0.0, "stop_grace_s": 1.0}


@pytest.fixture
async def room(tmp_path: Path, one_node: Bed) -> AsyncGenerator[Cluster]:
    give_sample(one_node)
    async with (
        Docker(one_node.first.docker_url) as docker,
        cluster(tmp_path, engine=docker) as made,
    ):
        try:
            async with made.running():
                yield made
        finally:
            one_node.clear()


def shop(version: int, *more: ServiceSpec, env: tuple[str, ...] = (), **given: Any) -> AppSpec:
    """An app of two services; only ``web`` differs from version to version."""
    container = {"Env": [f"VERSION={version}", *env], "Healthcheck": CHECK}
    restart = {"Condition": "any", "Delay": 200_000_000}
    front = web(template={"ContainerSpec": container, "RestartPolicy": restart}, **QUICK)
    made = spec(front, service("worker", **QUICK), *more, **given)
    services = {name: dataclasses.replace(each, image=SAMPLE) for name, each in made.services.items()}
    return dataclasses.replace(made, services=services)


async def test_two_services_are_deployed_replaced_and_removed(room: Cluster) -> None:
    await room.deployed(shop(1))
    assert await room.names() == {"shop_web-r1", "shop_worker-r1"}
    tasks = await room.apps.operations.views.tasks("shop")
    assert [task.state for task in tasks] == ["running"] * 3

    await room.deployed(shop(2))
    assert await room.names() == {"shop_web-r2", "shop_worker-r1"}

    async def gone() -> bool:
        return await room.store.names() == []

    await room.apps.operations.lifecycle.remove("shop", ANN)
    await room.until(gone)
    assert await room.names() == set()
    assert await room.engine.networks.list({"io.hunqi.app": "shop"}) == []


async def test_app_that_ends_at_once_fails_the_deploy_with_its_lines(room: Cluster) -> None:
    await room.deployed(shop(1))

    deploy = await room.ended("shop", await room.release(shop(2, env=("EXIT=7",))))

    assert deploy.state is DeployState.FAILED
    assert deploy.problem is not None
    assert (deploy.problem.code, deploy.problem.exit_code) == ("deploy.task-failed", 7)
    assert deploy.problem.log

    async def only_old() -> bool:
        return await room.names() == {"shop_web-r1", "shop_worker-r1"}

    await room.until(only_old)


async def test_secret_is_shown_and_rotated_and_volume_pins_its_service(room: Cluster) -> None:
    def with_secret(value: bytes) -> tuple[AppSpec, dict[str, bytes]]:
        digest = hashlib.sha256(value).hexdigest()
        mount = Mount(kind="volume", source="data", target="/data")
        db = stop_first(service("db", mounts=(mount,), secrets=(Grant(source="key", target="key"),), **QUICK))
        payloads = {"key": PayloadSpec(name="key", digest=digest)}
        return shop(1, db, secrets=payloads, volumes={"data": VolumeSpec(name="data")}), {digest: value}

    for number, value in enumerate((b"one", b"two"), start=1):
        made, payloads = with_secret(value)
        await room.ended("shop", await room.release(made, payloads=payloads))
        assert f"shop_db-r{number}" in await room.names()
        run = await room.apps.operations.runs.run(
            "shop", RunRequest(service="db", command=("cat", "/run/secrets/key")), ANN
        )

        async def done(id_: str = run.id) -> bool:
            return (await room.apps.operations.runs.find("shop", id_)).state == "succeeded"

        await room.until(done)
        async with room.apps.operations.runs.logs("shop", run.id, follow=False) as lines:
            assert [line.text async for line in lines] == [value.decode()]
    node = next(iter(await room.engine.nodes.list()))
    db = await room.engine.services.inspect("shop_db-r2")
    assert db.spec["TaskTemplate"]["Placement"]["Constraints"] == [f"node.id=={node.id}"]

    async def one_secret() -> bool:
        return len(await room.engine.secrets.list()) == 1

    await room.until(one_secret)


async def test_what_somebody_else_changed_is_put_back_and_logs_outlive_their_service(room: Cluster) -> None:
    await room.deployed(shop(1))
    there = await room.engine.services.inspect("shop_worker-r1")
    changed = dict(there.spec)
    task = dict(changed["TaskTemplate"])
    task["ContainerSpec"] = {**task["ContainerSpec"], "Env": ["VERSION=evil"]}
    changed["TaskTemplate"] = task
    await room.engine.services.update(there.id, there.version, changed)

    async def right() -> bool:
        container = (await room.engine.services.inspect("shop_worker-r1")).spec["TaskTemplate"]["ContainerSpec"]
        return not container.get("Env")

    await room.until(right)
    await room.deployed(shop(2))
    query = LogQuery(services=("web",), removed=True)

    async def kept() -> bool:
        async with room.apps.operations.logs.open("shop", query) as lines:
            return any([line.revision == 1 async for line in lines])

    await room.until(kept)


async def test_deploy_moves_by_decisions_and_a_service_sleeps_and_wakes(room: Cluster) -> None:
    await room.deployed(shop(1))
    deploy = await room.release(shop(2, rollout=RolloutSpec()))
    shifts, sizes = room.apps.shifts, room.apps.sizes

    async def decided(**changes: Any) -> None:
        now = await in_force()
        made = dataclasses.replace(now.shift, number=now.shift.number + 1, decided_at=0.0, **changes)
        await shifts.decide("shop", deploy, made)

    async def in_force() -> Shifting:
        found: list[Shifting] = []

        async def there() -> bool:
            now = await shifts.find("shop")
            found[:] = [now] if now else []
            return now is not None and now.shifting and now.ready and now.in_force == now.shift.number

        await room.until(there, lambda: str(found))
        return found[0]

    await decided(weight=1000)
    await in_force()
    lane = room.routing.force["shop"].lane
    assert lane is not None
    assert (lane.name, lane.weight, lane.shares["web"][0].backend) == ("r2", 1000, "shop_web-r2")
    running = [task.revision for task in await room.apps.operations.views.tasks("shop") if task.state == "running"]
    assert sorted(running) == [1, 1, 1, 2]
    await decided(weight=ALL_USERS, verdict=Verdict.PROMOTE)
    assert (await room.ended("shop", deploy)).state is DeployState.SUCCEEDED
    assert await room.names() == {"shop_web-r2", "shop_worker-r1"}

    async def tasks(number: int) -> bool:
        found = await sizes.find("shop")
        [front] = [each for each in found.services if each.service == "web"] if found else []
        return len(front.tasks) == front.ready == number

    await room.until(lambda: tasks(2))
    await sizes.set("shop", "web", 0, sentence="nobody asks")
    await room.until(lambda: tasks(0))

    async def unserved() -> bool:
        return "web" not in room.routing.force["shop"].shares

    await room.until(unserved)
    await sizes.set("shop", "web", 1, sentence="somebody asks")
    await room.until(lambda: tasks(1))
