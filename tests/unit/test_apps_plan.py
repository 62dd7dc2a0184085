"""The planner: deploys, failures, removal, and every crash in between."""

from __future__ import annotations

import dataclasses

import pytest

from hunqi.apps.model import AppSpec, Condition, Dependency, DeployState, Mount, VolumeSpec
from hunqi.apps.operations import Replacing
from hunqi.apps.releasing import origin_of
from hunqi.apps.state import Desired
from hunqi.apps.steps import Fail, PutService
from hunqi.engine.model import TaskState
from support_apps import IMAGE, World, service, spec, stop_first, web


def running_shop(version: int = 1) -> World:
    world = World()
    world.release(spec(web(version=version), service("worker", order="start-first")))
    world.settle()
    return world


def test_first_deploy_starts_what_is_needed_and_routes_to_it_once_it_is_healthy() -> None:
    world = World()
    world.release(spec(web(), service("worker")))
    first = [world.look().steps, world.look().steps]
    assert [step.sentence for step in first[1]] == ["making the network shop_default"]

    routed = []
    for _ in range(20):
        world.look()
        world.pass_time()
        serves = world.taken is not None and bool(world.taken.spec.services["web"].routes)
        routed.append((serves, world.capacity("web")))

    assert world.ended[-1].state is DeployState.SUCCEEDED
    assert world.app.live == 1
    assert all(capacity == 2 for serves, capacity in routed if serves)


def test_nothing_is_to_be_done_for_what_is_as_it_should_be() -> None:
    world = running_shop()

    made = world.look()

    assert made.steps == ()
    assert made.settled
    assert made.sentence == "revision 1 serves and is as it should be"


def test_unchanged_service_keeps_its_swarm_service() -> None:
    world = running_shop()
    worker = world.services["shop_worker-r1"]

    world.release(spec(web(version=2), service("worker", order="start-first")))
    world.settle()

    assert set(world.services) == {"shop_web-r2", "shop_worker-r1"}
    assert world.services["shop_worker-r1"] == worker


def test_old_revision_serves_in_full_until_the_new_one_does() -> None:
    world = running_shop()
    world.release(spec(web(version=2), service("worker", order="start-first")))

    for _ in range(30):
        world.look()
        world.pass_time()
        assert world.capacity("web") == 2

    assert world.ended[-1].state is DeployState.SUCCEEDED
    assert set(world.services) == {"shop_web-r2", "shop_worker-r1"}


def test_old_tasks_are_not_stopped_while_they_have_requests() -> None:
    world = running_shop()
    world.busy = True
    world.release(spec(web(version=2)))

    for _ in range(20):
        world.look()
        world.pass_time()
    assert world.running("web") == {"shop_web-r1", "shop_web-r2"}
    assert world.deploy is not None
    assert world.deploy.state is DeployState.DRAINING

    world.busy = False
    world.settle()
    assert world.running("web") == {"shop_web-r2"}


def test_deploy_that_crashes_fails_and_leaves_the_old_one_serving() -> None:
    world = running_shop()
    world.broken.add(IMAGE.format(name="web", digest=f"{2:064x}"))
    world.release(spec(web(version=2)))

    for _ in range(30):
        made = world.look()
        assert world.capacity("web") == 2
        if any(isinstance(step, Fail) for step in made.steps):
            break
        world.pass_time()
    world.settle()

    assert "deploy.task-failed" in world.log
    assert world.ended[-1].state is DeployState.FAILED
    assert set(world.services) == {"shop_web-r1", "shop_worker-r1"}


def test_deploy_that_never_gets_healthy_fails_when_its_time_is_over() -> None:
    world = running_shop()
    world.release(spec(web(version=2, ready_timeout_s=30.0)))

    for _ in range(45):
        world.look()
        world.pass_time(ready=False)
    world.settle()

    assert "deploy.not-healthy" in world.log
    assert set(world.services) == {"shop_web-r1", "shop_worker-r1"}


def test_cluster_without_a_gateway_goes_by_docker_alone() -> None:
    world = World(gateways=0)
    world.release(spec(web()))
    world.settle()
    world.release(spec(web(version=2)))
    world.settle()
    assert set(world.services) == {"shop_web-r2"}


def test_gateway_that_takes_nothing_in_fails_the_deploy_and_not_what_serves() -> None:
    world = running_shop()
    world.release(spec(web(version=2)))
    while world.deploy is not None and world.deploy.state is not DeployState.SWITCHING:
        world.look()
        world.pass_time()
    taken = world.taken
    for _ in range(70):
        world.look()
        world.now += 1
        assert world.taken == taken
        assert world.capacity("web") == 2
    assert "deploy.switch" in world.log
    world.settle()
    assert set(world.services) == {"shop_web-r1", "shop_worker-r1"}


def test_cancelled_deploy_is_undone() -> None:
    world = running_shop()
    world.release(spec(web(version=2)))
    for _ in range(3):
        world.look()
    world.cancel()

    world.settle()

    assert world.app.live == 1
    assert set(world.services) == {"shop_web-r1", "shop_worker-r1"}


def test_newer_deploy_takes_the_place_of_one_under_way() -> None:
    world = running_shop()
    world.release(spec(web(version=2)))
    for _ in range(3):
        world.look()
        world.pass_time(ready=False)
    world.release(spec(web(version=3)))

    world.settle()

    assert [each.state for each in world.ended[1:]] == [DeployState.SUPERSEDED, DeployState.SUCCEEDED]
    assert set(world.services) == {"shop_web-r3"}


def test_dependent_starts_after_its_dependency_is_healthy() -> None:
    world = World()
    needs = (Dependency(service="db", condition=Condition.HEALTHY),)
    world.release(spec(web(depends_on=needs), service("db")))
    for _ in range(5):
        world.look()
        world.pass_time(ready=False)
    assert set(world.services) == {"shop_db-r1"}
    assert "web waits for db (service_healthy)" in world.plan().sentence

    world.settle()
    assert set(world.services) == {"shop_db-r1", "shop_web-r1"}


def test_stop_first_never_runs_two_at_once_and_comes_back_when_the_new_one_fails() -> None:
    world = World()
    volumes = {"data": VolumeSpec(name="data")}
    mounts = (Mount(kind="volume", source="data", target="/data"),)
    world.release(spec(stop_first(service("db", mounts=mounts)), volumes=volumes))
    world.settle()
    assert world.app.intent.pins == {"data": "n1"}

    world.broken.add(IMAGE.format(name="db", digest=f"{2:064x}"))
    world.release(spec(stop_first(service("db", version=2, mounts=mounts)), volumes=volumes))
    for _ in range(40):
        world.look()
        world.pass_time()
        assert len(world.running("db")) <= 1

    assert world.ended[-1].state is DeployState.FAILED
    assert world.running("db") == {"shop_db-r1"}
    assert set(world.services) == {"shop_db-r1"}


def test_stop_first_replaces_and_removes_the_old_one_after_the_switch() -> None:
    world = World()
    world.release(spec(stop_first(web(replicas=1))))
    world.settle()
    world.release(spec(stop_first(web(version=2, replicas=1))))
    for _ in range(30):
        world.look()
        world.pass_time()
        assert len(world.running("web")) <= 1
    assert set(world.services) == {"shop_web-r2"}
    assert world.ended[-1].state is DeployState.SUCCEEDED


def test_batches_never_run_more_than_one_batch_beside_and_never_serve_with_less() -> None:
    world = World()
    world.release(spec(web(replicas=8)))
    world.settle()
    world.release(spec(web(version=2, replicas=8)), replacing=Replacing.BATCHES)
    most = 0
    for _ in range(60):
        world.look()
        world.pass_time()
        desired = [task for held in world.tasks.values() for task in held if task.desired_state is TaskState.RUNNING]
        most = max(most, len(desired))
        assert world.capacity("web") >= 8
    assert most == 10
    assert world.ended[-1].state is DeployState.SUCCEEDED
    assert set(world.services) == {"shop_web-r2"}
    assert world.services["shop_web-r2"].replicas == 8


def test_failing_batch_brings_the_old_ones_back() -> None:
    world = World()
    world.release(spec(web(replicas=4)))
    world.settle()
    world.release(spec(web(version=2, replicas=4)), replacing=Replacing.BATCHES)
    for _ in range(6):
        world.look()
        world.pass_time()
    assert world.services["shop_web-r1"].replicas in {2, 3}
    world.cancel()
    world.settle()
    assert set(world.services) == {"shop_web-r1"}
    assert world.capacity("web") == 4


def both(name: str) -> tuple[str, str]:
    return f"shop_{name}-r1", f"shop_{name}-r2"


def in_the_middle_of_batches() -> World:
    world = World()
    world.release(spec(web(replicas=8)))
    world.settle()
    world.release(spec(web(version=2, replicas=8)), replacing=Replacing.BATCHES)
    while (world.services["shop_web-r1"].replicas or 0) > 4:
        world.look()
        world.pass_time()
    assert world.capacity("web") >= 8
    return world


def test_control_killed_in_the_middle_of_batches_leaves_each_revision_its_part() -> None:
    world = in_the_middle_of_batches()
    world.crash()
    world.look()
    world.pass_time()
    assert {share.backend for share in world.plan().serving.shares["web"]} == {"shop_web-r1", "shop_web-r2"}
    assert world.capacity("web") >= 8


def test_batches_cut_short_and_control_killed_serve_on_until_the_old_ones_are_back() -> None:
    world = in_the_middle_of_batches()
    world.cancel()
    for _ in range(20):
        world.crash()
        world.look()
        world.pass_time()
        assert world.capacity("web") >= 8
    world.settle()
    assert set(world.services) == {"shop_web-r1"}


def test_parallelism_starts_so_many_at_a_time_beside_the_whole_old_one() -> None:
    world = World()
    world.release(spec(web(replicas=5, parallelism=2)))
    world.look()
    world.look()
    world.look()
    assert world.services["shop_web-r1"].replicas == 5, "a first deploy is no update"
    world.settle()
    world.release(spec(web(version=2, replicas=5, parallelism=2)))
    seen: list[int] = []
    for _ in range(40):
        world.look()
        there = world.services.get("shop_web-r2")
        if there is not None and there.replicas not in seen:
            seen.append(there.replicas or 0)
        if world.deploy is not None and world.app.live == 1:
            assert world.services["shop_web-r1"].replicas == 5
        world.pass_time()
    assert seen == [2, 4, 5]
    assert set(world.services) == {"shop_web-r2"}


def test_parallelism_of_a_stop_first_service_stops_so_many_and_starts_as_many() -> None:
    world = World()
    world.release(spec(stop_first(service("worker", replicas=5, parallelism=2))))
    world.settle()
    world.release(spec(stop_first(service("worker", version=2, replicas=5, parallelism=2))))
    seen: list[tuple[int, int]] = []
    for _ in range(60):
        world.look()
        counts = [world.services[name].replicas or 0 if name in world.services else 0 for name in both("worker")]
        if (counts[0], counts[1]) not in seen:
            seen.append((counts[0], counts[1]))
        world.pass_time()
    assert seen == [(5, 0), (3, 0), (3, 2), (1, 2), (1, 4), (0, 4), (0, 5)]
    assert set(world.services) == {"shop_worker-r2"}


def test_failing_step_brings_the_stopped_ones_back_a_step_at_a_time() -> None:
    world = World()
    world.release(spec(stop_first(web(replicas=4, parallelism=1))))
    world.settle()
    world.release(spec(stop_first(web(version=2, replicas=4, parallelism=1))))
    while (world.services["shop_web-r1"].replicas or 0) > 1:
        world.look()
        world.pass_time()
    world.cancel()
    for _ in range(40):
        world.look()
        world.pass_time()
        assert world.capacity("web") >= 3
    assert set(world.services) == {"shop_web-r1"}
    assert world.capacity("web") == 4


def test_removed_service_is_drained_and_goes_after_the_switch() -> None:
    world = World()
    world.release(spec(web(), web("admin")))
    world.settle()
    world.release(spec(web()))
    world.settle()
    assert set(world.services) == {"shop_web-r1"}


def test_service_removed_behind_our_back_comes_again() -> None:
    world = running_shop()
    del world.services["shop_web-r1"]
    del world.tasks["shop_web-r1"]

    made = world.look()

    assert next(step for step in made.steps if isinstance(step, PutService)).repair
    world.settle()
    assert set(world.services) == {"shop_web-r1", "shop_worker-r1"}


def test_network_removed_behind_our_back_comes_again() -> None:
    world = running_shop()
    world.networks.clear()
    world.settle()
    assert set(world.networks) == {"shop_default"}


def test_replicas_changed_behind_our_back_are_put_right() -> None:
    world = running_shop()
    world._scale("shop_web-r1", 5)
    world.settle()
    assert world.services["shop_web-r1"].replicas == 2


def test_scale_is_kept_by_a_deploy() -> None:
    world = running_shop()
    world.want(intent=dataclasses.replace(world.app.intent, scale={"web": 3}))
    world.settle()
    assert world.services["shop_web-r1"].replicas == 3
    world.release(spec(web(version=2)))
    world.settle()
    assert world.services["shop_web-r2"].replicas == 3


def test_stopped_app_runs_nothing_and_comes_back() -> None:
    world = running_shop()
    world.want(desired=Desired.STOPPED)
    made = world.settle()
    assert world.running("web") == set()
    assert made.serving is not None
    assert made.serving.maintenance == "This app is stopped."

    world.want(desired=Desired.RUNNING)
    world.settle()
    assert world.running("web") == {"shop_web-r1"}
    assert world.capacity("web") == 2


def test_removed_app_leaves_nothing() -> None:
    world = running_shop()
    world.want(desired=Desired.REMOVED)
    world.settle()
    assert world.gone
    assert (world.services, world.networks) == ({}, {})


@pytest.mark.parametrize("crash", range(12))
def test_deploy_converges_from_every_interrupted_prefix(crash: int) -> None:
    """After any number of looks, a look is cut off after each of its steps; all in memory is lost."""
    for cut in range(4):
        world = running_shop()
        world.release(spec(web(version=2), service("worker", version=2, order="start-first"), web("admin")))
        for _ in range(crash):
            world.look()
            world.pass_time()
            assert world.capacity("web") == 2
        world.look(steps=cut)
        world.taken, world.drained = world.offered, set()

        world.settle()

        assert set(world.services) == {"shop_web-r2", "shop_worker-r2", "shop_admin-r2"}
        assert world.ended[-1].state is DeployState.SUCCEEDED
        assert world.capacity("web") == 2


def test_dependents_that_ask_for_it_are_replaced_with_what_they_depend_on() -> None:
    def shop(version: int) -> AppSpec:
        cache = service("cache", depends_on=(Dependency(service="db", restart=True),))
        front = web(depends_on=(Dependency(service="cache", restart=True), Dependency(service="other", restart=True)))
        calm = service("calm", depends_on=(Dependency(service="db"),))
        return spec(front, cache, calm, service("other"), service("db", version=version))

    world = World()
    world.release(shop(1))
    world.settle()
    world.release(shop(2))
    world.settle()
    assert set(world.services) == {"shop_web-r2", "shop_cache-r2", "shop_calm-r1", "shop_other-r1", "shop_db-r2"}
    anew = origin_of(shop(2), 3, world.revisions[2], {"calm"})
    assert {name for name, number in anew.items() if number == 3} == {"calm"}
