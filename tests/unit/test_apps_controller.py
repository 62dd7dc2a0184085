"""The room of apps on the engine's fake: deploys converge, failures are told, what others changed is put right."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hunqi.apps.model import DeployState, Grant, PayloadSpec
from hunqi.engine.fake.behaviour import Behaviour
from support_apps import IMAGE, service, spec, web
from support_cluster import ANN, Cluster, cluster


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with cluster(tmp_path) as made, made.running():
        yield made


async def test_app_of_two_services_is_deployed(room: Cluster) -> None:
    deploy = await room.ended("shop", await room.release(spec(web(), service("worker"))))

    assert deploy.state is DeployState.SUCCEEDED
    assert await room.names() == {"shop_web-r1", "shop_worker-r1"}
    serving = room.routing.force["shop"]
    assert serving.shares["web"][0].backend == "shop_web-r1"
    view = await room.apps.operations.views.show("shop")
    assert (view.state, view.revision, [each.running for each in view.services]) == ("running", 1, [2, 1])


async def test_logs_are_rotated_unless_the_file_or_the_engine_says_where_they_go(room: Cluster) -> None:
    syslog = {"LogDriver": {"Name": "syslog", "Options": {}}}
    await room.deployed(spec(web(), service("worker", template=syslog)))

    made = {each.name: each.spec["TaskTemplate"]["LogDriver"] for each in await room.swarm.services.list()}

    assert made["shop_worker-r1"] == syslog["LogDriver"]
    assert made["shop_web-r1"] == {"Name": "json-file", "Options": {"max-size": "20m", "max-file": "3"}}


async def test_second_deploy_replaces_what_changed_and_drains_it(room: Cluster) -> None:
    await room.deployed(spec(web(), service("worker")))
    await room.deployed(spec(web(version=2), service("worker")))

    assert await room.names() == {"shop_web-r2", "shop_worker-r1"}
    assert any("shop_web-r1" in serving.draining for serving in room.routing.changes)


async def test_deploy_of_what_runs_does_nothing_and_says_so(room: Cluster) -> None:
    await room.deployed(spec(web()))
    deploy = await room.ended("shop", await room.release(spec(web())))

    assert deploy.sentence == "nothing to do: revision 1 runs exactly this already"
    assert deploy.revision == 1


async def test_failing_deploy_tells_exit_code_and_last_lines_and_the_old_serves(room: Cluster) -> None:
    await room.deployed(spec(web()))
    image = IMAGE.format(name="web", digest=f"{2:064x}")
    room.swarm.behave(image, Behaviour(exit_code=3, lines=("starting", "no such table: users")))
    quick = {"RestartPolicy": {"Condition": "any", "Delay": 50_000_000}}

    deploy = await room.ended("shop", await room.release(spec(web(version=2, template=quick))))

    assert deploy.state is DeployState.FAILED
    assert deploy.problem is not None
    assert deploy.problem.exit_code == 3
    assert "no such table: users" in deploy.problem.log
    await room.until(lambda: _only(room, {"shop_web-r1"}))
    assert room.routing.force["shop"].shares["web"][0].backend == "shop_web-r1"


async def test_service_that_nobody_checks_counts_when_it_has_run_for_a_while(tmp_path: Path) -> None:
    quick = {"RestartPolicy": {"Condition": "any", "Delay": 50_000_000}}
    image = IMAGE.format(name="worker", digest=f"{1:064x}")
    async with cluster(tmp_path) as room:
        room.settle_s = 1.0
        room.swarm.behave(image, Behaviour(exit_code=3, run_s=0.3, lines=("no module named shop",)))
        async with room.running():
            crashing = await room.ended("shop", await room.release(spec(service("worker", template=quick))))
            begun = time.monotonic()
            good = await room.ended("shop", await room.release(spec(service("worker", version=2, template=quick))))

    assert crashing.state is DeployState.FAILED
    assert crashing.problem is not None
    assert (crashing.problem.code, crashing.problem.exit_code) == ("deploy.task-failed", 3)
    assert good.state is DeployState.SUCCEEDED
    assert time.monotonic() - begun >= room.settle_s


async def test_service_whose_tasks_end_in_good_order_again_and_again_fails_too(room: Cluster) -> None:
    quick = {"RestartPolicy": {"Condition": "any", "Delay": 50_000_000}}
    image = IMAGE.format(name="web", digest=f"{1:064x}")
    room.swarm.behave(image, Behaviour(exit_code=0, run_s=0.0))
    deploy = await room.ended("shop", await room.release(spec(web(template=quick))))

    assert deploy.state is DeployState.FAILED
    assert deploy.problem is not None
    assert (deploy.problem.code, deploy.problem.exit_code) == ("deploy.task-failed", 0)


async def _only(room: Cluster, names: set[str]) -> bool:
    return await room.names() == names


async def test_service_removed_by_somebody_else_comes_again_with_an_event(room: Cluster) -> None:
    await room.deployed(spec(web()))
    await room.swarm.services.remove("shop_web-r1")

    await room.until(lambda: _only(room, {"shop_web-r1"}))
    await room.until(lambda: room.apps.controller.idle)


async def test_app_is_removed_with_all_that_is_its(room: Cluster) -> None:
    await room.deployed(spec(web(), service("worker")))
    await room.apps.operations.lifecycle.remove("shop", ANN, volumes=True)

    async def gone() -> bool:
        return await room.store.names() == []

    await room.until(gone)
    assert await room.names() == set()
    assert await room.swarm.networks.list({"io.hunqi.app": "shop"}) == []
    assert room.volumes.removed == ["shop"]


async def test_name_that_somebody_else_has_fails_the_deploy_and_is_not_touched(room: Cluster) -> None:
    body = {"Name": "shop_web-r1", "TaskTemplate": {"ContainerSpec": {"Image": "theirs"}}, "Mode": {"Global": {}}}
    theirs = await room.swarm.services.create(body)

    deploy = await room.ended("shop", await room.release(spec(web())))

    assert deploy.problem is not None
    assert deploy.problem.code == "app.not-ours"
    assert (await room.swarm.services.inspect("shop_web-r1")).id == theirs


async def test_external_secret_that_is_not_there_fails_the_deploy_by_name(room: Cluster) -> None:
    payloads = {"key": PayloadSpec(name="key", external="theirs")}
    made = spec(web(secrets=(Grant(source="key", target="key"),)), secrets=payloads)

    deploy = await room.ended("shop", await room.release(made))

    assert deploy.problem is not None
    assert deploy.problem.code == "app.external-missing"
    await room.swarm.secrets.create("theirs", b"x")
    await room.deployed(made)


async def test_node_that_goes_down_is_said_and_the_app_is_whole_again_elsewhere(tmp_path: Path) -> None:
    async with cluster(tmp_path, nodes=3) as room, room.running():
        await room.deployed(spec(web(replicas=3)))
        room.swarm.lose_node("node2")

        async def whole() -> bool:
            tasks = await room.apps.operations.views.tasks("shop")
            running = [task for task in tasks if (task.state, task.desired) == ("running", "running")]
            left = {task.state for task in tasks if task.node == "node2"}
            return len([task for task in running if task.node != "node2"]) == 3 and "running" not in left

        await room.until(whole)


async def test_docker_that_is_away_is_waited_for(room: Cluster) -> None:
    await room.deployed(spec(web()))
    room.swarm.go_away()
    deploy = await room.release(spec(web(version=2)))
    await room.until(lambda: room.observer.stale)
    room.swarm.come_back()

    assert (await room.ended("shop", deploy)).state is DeployState.SUCCEEDED
