"""Plans of deploys that move by decisions: what serves keeps its strength, the lane is what was decided, all ends."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hunqi.apps.lanes import ALL_USERS, LaneMatch, Match
from hunqi.apps.model import AppSpec, Condition, Dependency, DeployState, Mode
from hunqi.apps.operations import Problem
from hunqi.apps.plan_shifting import in_force, lane_ready
from hunqi.apps.serving import Share
from hunqi.apps.shifting import Verdict
from hunqi.engine.model import TaskState
from support_apps import IMAGE, World, service, spec, stop_first, web

REPLICAS = 3


def shop(version: int, *, parallelism: int = 0, **more: Any) -> AppSpec:
    """A routed service, one with its data behind it that may not run twice, and one that never changes."""
    data = stop_first(service("data", version=version))
    rolling = stop_first(web("api", version=version, replicas=REPLICAS, parallelism=1))
    front = web(version=version, replicas=REPLICAS, parallelism=parallelism, **more)
    return spec(front, data, rolling, web("cache", replicas=1))


def steady(world: World, rounds: int = 30) -> None:
    """Look until a decision is needed."""
    for _ in range(rounds):
        made = world.look()
        world.pass_time()
        situation = world.situation()
        if not made.steps and situation.deciding and lane_ready(situation) and in_force(situation) >= 0:
            return
    raise AssertionError(world.log[-12:])


def begun(new: AppSpec | None = None, **more: object) -> World:
    world = World()
    world.release(shop(1))
    world.settle()
    world.rollout(new or shop(2), **more)
    steady(world)
    return world


def count(world: World, name: str) -> int:
    return sum(task.serving for task in world.tasks.get(name, ()))


def test_lane_has_a_task_of_what_changed_and_shares_the_rest() -> None:
    world = begun()
    world.decide(weight=100, mirror=500, matches=(LaneMatch(headers=(Match(name="x-beta", kind="present"),)),))
    steady(world)

    assert world.taken is not None
    lane = world.taken.lane
    assert lane is not None
    assert (lane.name, lane.salt, lane.weight, lane.mirror, lane.number) == ("r2", "d2", 100, 500, 1)
    assert lane.matches[0].headers[0].name == "x-beta"
    assert lane.shares == {
        "web": (Share(backend="shop_web-r2"),),
        "api": (Share(backend="shop_api-r1"),),
        "cache": (Share(backend="shop_cache-r1"),),
    }
    assert lane.spec.services["api"] == world.revisions[1].spec.services["api"], "its tasks are those of the old one"
    assert world.taken.shares["web"] == (Share(backend="shop_web-r1"),)
    assert (count(world, "shop_web-r1"), count(world, "shop_web-r2")) == (REPLICAS, 1)
    assert world.plan().sentence.startswith("1 % of users go to revision 2, beside those that match; it is shown 5 %")
    states = {each.service: each.state for each in world.plan().services}
    assert states == {"web": "healthy", "data": "kept", "api": "kept", "cache": "healthy"}


def test_promotion_brings_all_of_it_up_then_what_was_postponed_then_switches() -> None:
    world = begun()
    world.decide(weight=ALL_USERS, verdict=Verdict.PROMOTE)
    for _ in range(6):
        world.look()
        world.pass_time(ready=False)
    assert world.running("data") == {"shop_data-r1"}, "what stops first waits for all the rest"
    seen: list[tuple[int, str]] = []
    while world.deploy is not None:
        world.look()
        world.pass_time()
        seen.append((count(world, "shop_web-r2"), ",".join(sorted(world.running("data")))))
        if world.deploy is not None and world.deploy.state is DeployState.SHIFTING:
            assert world.taken is not None
            assert world.taken.lane is not None, "the lane is in force to the switch"
        assert len(seen) < 60, world.log[-10:]
    full = next(index for index, each in enumerate(seen) if each[0] == REPLICAS)
    assert all(each[1] == "shop_data-r1" for each in seen[:full])
    assert [each.state for each in world.ended] == [DeployState.SUCCEEDED] * 2
    assert set(world.services) == {"shop_web-r2", "shop_data-r2", "shop_api-r2", "shop_cache-r1"}


def test_abort_leaves_the_tasks_without_requests_for_a_while_and_then_removes_them() -> None:
    world = begun(keep_s=10.0)
    world.decide(weight=5000)
    steady(world)
    problem = Problem(code="rollout.failed", message="its answers were errors")
    world.decide(verdict=Verdict.ABORT, problem=problem)
    made = world.look()

    assert made.steps == ()
    assert made.serving is not None
    assert (made.serving.lane, made.serving.draining) == (None, {"shop_web-r2"})
    assert made.wake_in_s is not None
    assert 9.0 < made.wake_in_s < 11.0
    assert in_force(world.situation()) == 1, "the gateways have not taken it in"
    world.pass_time(8.0)
    assert in_force(world.situation()) == 2
    world.look()
    assert count(world, "shop_web-r2") == 1
    world.pass_time(3.0)
    [end] = world.look().steps
    assert (end.state, end.problem) == (DeployState.FAILED, problem)  # type: ignore[union-attr]
    world.settle()
    assert set(world.services) == {"shop_web-r1", "shop_data-r1", "shop_api-r1", "shop_cache-r1"}


def test_abort_of_a_promotion_brings_back_what_was_postponed() -> None:
    world = begun(keep_s=5.0)
    world.decide(weight=ALL_USERS, verdict=Verdict.PROMOTE)
    for _ in range(40):
        if "shop_data-r2" in world.running("data"):
            break
        world.look()
        world.pass_time()
    world.decide(verdict=Verdict.ABORT)
    world.look()
    assert world.offered is not None
    assert world.offered.lane is None
    world.settle()
    assert [each.state for each in world.ended] == [DeployState.SUCCEEDED, DeployState.CANCELLED]
    assert set(world.services) == {"shop_web-r1", "shop_data-r1", "shop_api-r1", "shop_cache-r1"}
    assert count(world, "shop_api-r1") == REPLICAS


def test_broken_stable_revision_stands_in_nobodys_way() -> None:
    world = begun()
    world.broken = {IMAGE.format(name=name, digest=f"{1:064x}") for name in ("web", "data", "cache")}
    for name in ("shop_web-r1", "shop_cache-r1"):
        for task in list(world.tasks[name]):
            world._set(name, task, state=TaskState.FAILED, desired_state=TaskState.SHUTDOWN)
    world.decide(weight=ALL_USERS, verdict=Verdict.PROMOTE)
    for _ in range(40):
        world.look()
        world.pass_time()
    assert world.app.live == 2

    world = begun()
    world.broken = {IMAGE.format(name=name, digest=f"{1:064x}") for name in ("web", "data", "api")}
    world.release(shop(3))
    for _ in range(40):
        world.look()
        world.pass_time()
    assert (world.app.live, world.deploy) == (3, None)


def test_what_depends_on_something_postponed_goes_by_the_old_one() -> None:
    needs = (Dependency(service="data", condition=Condition.HEALTHY),)
    world = begun(shop(2, depends_on=needs))
    assert count(world, "shop_web-r2") == 1
    world.decide(weight=ALL_USERS, verdict=Verdict.PROMOTE)
    world.settle()
    assert world.app.live == 2


def test_job_of_the_new_revision_runs_before_its_lane_and_the_old_ones_is_not_run_again() -> None:
    def migrating(version: int) -> AppSpec:
        job = stop_first(service("migrate", version=version, mode=Mode.REPLICATED_JOB))
        needs = (Dependency(service="migrate", condition=Condition.STARTED),)
        return spec(web(version=version, depends_on=needs), job)

    world = World()
    world.release(migrating(1))
    world.settle()
    world.rollout(migrating(2))
    steady(world)
    assert {"shop_migrate-r1", "shop_migrate-r2"} <= set(world.services)
    world.release(migrating(3))
    world.settle()
    assert "shop_migrate-r3" in world.services
    assert [each for each in world.log if "creating it again" in each] == []


def test_timeouts_of_the_promotion_begin_with_it() -> None:
    world = begun(shop(2, ready_timeout_s=20.0))
    good, world.broken = world.broken, {IMAGE.format(name="web", digest=f"{2:064x}")}
    for task in list(world.tasks["shop_web-r2"]):
        world._set("shop_web-r2", task, state=TaskState.FAILED, desired_state=TaskState.SHUTDOWN)
    world.tasks["shop_web-r2"].insert(0, world._task("shop_web-r2", 0))
    for _ in range(5):
        world.look()
        world.pass_time(1000.0)
    assert world.deploy is not None, "a rollout may be paused for days, and it is to judge what fails"
    world.broken = good
    world.decide(weight=ALL_USERS, verdict=Verdict.PROMOTE)
    for _ in range(10):
        world.look()
        world.pass_time(1.0, ready=False)
    assert world.deploy is not None
    for _ in range(3):
        world.look()
        world.pass_time(10.0, ready=False)
    assert world.deploy is None
    assert "deploy.not-healthy" in world.log
    assert world.app.live == 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    acts=st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=20, max_size=60),
    parallelism=st.integers(0, 2),
    promoted=st.integers(8, 40),
    then=st.integers(2, 30),
    other=st.sampled_from(["abort", "rollout", "release", "cancel", "nothing"]),
)
def test_stable_revision_keeps_its_strength_wherever_it_is_cut_off(
    acts: list[tuple[int, bool, bool]], parallelism: int, promoted: int, then: int, other: str
) -> None:
    world = World()
    world.release(shop(1))
    world.settle()
    world.rollout(shop(2, parallelism=parallelism), keep_s=4.0)
    for index, (steps, ready, crash) in enumerate(acts):
        if index == promoted:
            world.decide(weight=ALL_USERS, verdict=Verdict.PROMOTE, replicas={"web": 2})
        elif index == promoted + then:
            interfere(world, other)
        elif index % 4 == 0:
            world.decide(weight=100 * index, replicas={"web": 1 + index % 3})
        if crash:
            world.crash()
        world.look(steps=steps)
        world.pass_time(ready=ready)
        assert world.capacity("web") >= REPLICAS
        assert world.capacity("api") >= REPLICAS - 1
        assert len(world.running("data")) <= 1
        if world.offered is not None and world.offered.lane is not None:
            assert world.offered.lane.shares["api"] == world.offered.shares["api"], "both lanes share what is postponed"
        if world.app.live == 1 and world.deploy is not None and not world.situation().promoting:
            assert count(world, "shop_web-r1") == REPLICAS
    for _ in range(60):
        world.look()
        world.pass_time()
        world.decide(verdict=Verdict.PROMOTE)
    assert world.deploy is None
    assert world.settle().settled
    live = world.revisions[world.app.live or 0]
    assert set(world.services) == {f"shop_{name}-r{live.origin[name]}" for name in live.spec.services}


def interfere(world: World, other: str) -> None:
    match other:
        case "abort":
            world.decide(verdict=Verdict.ABORT)
        case "rollout":
            world.rollout(shop(3))
        case "release":
            world.release(shop(3))
        case "cancel" if world.deploy is not None and world.deploy.revision != world.app.live:
            world.cancel()
        case _:
            pass


def test_sleeping_service_is_woken_to_show_its_health_and_stays_awake() -> None:
    world = World()
    world.release(shop(1))
    world.settle()
    world.want(intent=dataclasses.replace(world.app.intent, auto={"web": 0}))
    made = world.settle()
    assert made.sentence == "revision 1 serves; asleep until somebody asks: web"
    assert (count(world, "shop_web-r1"), world.services["shop_web-r1"].replicas) == (0, 0)
    assert made.serving is not None
    assert "web" not in made.serving.shares, "requests wait at the gateways"
    assert made.serving.spec.services["web"].routes

    world.release(shop(2))
    for _ in range(40):
        world.look()
        world.pass_time()
        assert count(world, "shop_web-r1") == 0, "what is replaced need not be woken"
        if world.deploy is not None and world.deploy.state is DeployState.SWITCHING:
            assert count(world, "shop_web-r2") == 1, "its health has been shown"
    assert (world.app.live, count(world, "shop_web-r2")) == (2, 1)
    assert world.app.intent.auto == {"web": 1}
