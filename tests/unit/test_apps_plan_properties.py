"""Whatever is done to an app in whatever order, and wherever a look is cut off: no capacity is lost, and it ends."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hunqi.apps.model import AppSpec, Condition, Dependency, DeployState, ServiceSpec
from hunqi.apps.operations import Replacing
from hunqi.apps.shifting import Verdict
from hunqi.apps.state import Desired
from hunqi.engine.model import TaskState
from support_apps import IMAGE, World, service, spec, stop_first, web

VERSIONS = st.integers(1, 3)
REPLACING = st.sampled_from([None, None, Replacing.BATCHES, Replacing.STOP_FIRST])


@st.composite
def specs(draw: Any) -> AppSpec:
    """Apps of up to four services, some replaced stop-first, some depending on others; ``web`` is always there."""
    made: list[ServiceSpec] = []
    for name in draw(st.sets(st.sampled_from(["db", "cache", "admin"]))):
        each = service(name, version=draw(VERSIONS)) if name != "admin" else web(name, version=draw(VERSIONS))
        made.append(stop_first(each) if draw(st.booleans()) else each)
    others = [each.name for each in made]
    needed = draw(st.lists(st.sampled_from(others), unique=True)) if others else []
    conditions = st.sampled_from([Condition.STARTED, Condition.HEALTHY])
    needs = tuple(Dependency(service=name, condition=draw(conditions)) for name in needed)
    front = web(
        version=draw(VERSIONS),
        replicas=draw(st.integers(1, 3)),
        depends_on=needs,
        ready_timeout_s=20.0,
        parallelism=draw(st.integers(0, 2)),
    )
    return spec(front, *made)


VERDICTS = st.sampled_from([Verdict.GO_ON, Verdict.GO_ON, Verdict.PROMOTE, Verdict.ABORT])
DECISIONS = st.tuples(st.integers(0, 10_000), st.integers(1, 3), VERDICTS)
ACTS = st.one_of(
    st.tuples(st.just("release"), st.tuples(specs(), REPLACING)),
    st.tuples(st.just("rollout"), st.tuples(specs(), st.sampled_from([0.0, 3.0]))),
    st.tuples(st.just("decide"), DECISIONS),
    st.tuples(st.just("auto"), st.sampled_from([0, 0, 1, 3])),
    st.tuples(st.just("cancel"), st.none()),
    st.tuples(st.just("look"), st.integers(0, 4)),
    st.tuples(st.just("look"), st.none()),
    st.tuples(st.just("time"), st.booleans()),
    st.tuples(st.just("forget"), st.none()),
    st.tuples(st.just("break"), VERSIONS),
    st.tuples(st.just("remove"), st.integers(0, 5)),
    st.tuples(st.just("busy"), st.booleans()),
    st.tuples(st.just("crash"), st.none()),
)


def decide(world: World, decision: tuple[int, int, Verdict]) -> None:
    weight, replicas, verdict = decision
    world.decide(weight=weight, replicas={"web": replicas}, verdict=verdict)


def check_lane(world: World) -> None:
    """A lane leads only to what the gateways know and does not leave, whole; and only while it is decided of."""
    offered = world.offered
    if offered is None or offered.lane is None:
        return
    known = {each.name for each in offered.backends}
    for shares in offered.lane.shares.values():
        assert sum(share.weight for share in shares) == 100
        assert {share.backend for share in shares} <= known - offered.draining


def act(world: World, what: str, value: Any) -> None:
    match what:
        case "look":
            world.look(steps=value)
        case "time":
            world.pass_time(ready=value)
        case "forget":
            world.taken, world.drained = world.offered, set()
        case "break":
            world.broken = {IMAGE.format(name="web", digest=f"{value:064x}")}
        case "busy":
            world.busy = value
        case "crash":
            world.crash()
        case "remove" if world.services:
            name = sorted(world.services)[value % len(world.services)]
            del world.services[name], world.tasks[name]
        case _:
            ask(world, what, value)


def ask(world: World, what: str, value: Any) -> None:
    match what:
        case "release":
            world.release(value[0], replacing=value[1])
        case "rollout":
            world.rollout(value[0], keep_s=value[1])
        case "decide":
            decide(world, value)
        case "auto":
            world.want(intent=dataclasses.replace(world.app.intent, auto={"web": value}))
        case "cancel":
            if world.deploy is not None and world.deploy.revision != world.app.live:
                world.cancel()
        case _:
            assert what == "remove"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=specs(), acts=st.lists(ACTS, max_size=30), end=st.sampled_from([Verdict.PROMOTE, Verdict.ABORT]))
def test_every_state_has_an_end_and_leaves_nothing_behind(
    first: AppSpec, acts: list[tuple[str, Any]], end: Verdict
) -> None:
    world = World()
    world.release(first)
    world.settle()
    for what, value in acts:
        act(world, what, value)
        check_lane(world)
    world.busy = False
    if world.deploy is not None and world.deploy.state is DeployState.SHIFTING:
        world.decide(verdict=end)
    # What is live may have been broken meanwhile: then it is not calm, but nothing is begun any more.
    for _ in range(80):
        made = world.look()
        world.pass_time()
        if world.deploy is not None and world.deploy.state is DeployState.SHIFTING:
            world.decide(verdict=end)
    assert made.steps == ()
    assert world.deploy is None
    live = world.revisions[world.app.live or 0]
    assert set(world.services) == {f"shop_{name}-r{live.origin[name]}" for name in live.spec.services}

    world.want(desired=Desired.REMOVED)
    world.settle()
    assert (world.services, world.networks) == ({}, {})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    releases=st.lists(specs(), min_size=1, max_size=3),
    acts=st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), max_size=40),
    way=st.sampled_from([None, Replacing.BATCHES, "rollout"]),
    every=st.integers(4, 12),
    cancel=st.booleans(),
    decisions=st.lists(DECISIONS, min_size=1),
)
def test_start_first_service_never_loses_capacity(
    releases: list[AppSpec],
    acts: list[tuple[int, bool, bool]],
    way: Any,
    every: int,
    cancel: bool,
    decisions: list[tuple[int, int, Verdict]],
) -> None:
    """New revisions come at any time, looks are cut off anywhere, control dies anywhere, tasks are slow or quick."""
    world = World()
    world.release(releases[0])
    world.settle()
    least = world.revisions[1].spec.services["web"].replicas
    pending = list(releases[1:])
    for index, (steps, ready, crash) in enumerate(acts):
        if pending and index % every == 0:
            new = pending.pop()
            least = min(least, new.services["web"].replicas)
            if way == "rollout":
                world.rollout(new, keep_s=3.0)
            else:
                world.release(new, replacing=way)
        if index % 5 == 0:
            decide(world, decisions[index % len(decisions)])
        if cancel and index % every == every - 1 and world.deploy and world.deploy.revision != world.app.live:
            world.cancel()
        if crash:
            world.crash()
        world.look(steps=steps)
        check_lane(world)
        world.pass_time(ready=ready)
        assert world.capacity("web") >= least


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    releases=st.lists(specs(), min_size=2, max_size=3),
    acts=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=40),
)
def test_stop_first_service_never_runs_twice(releases: list[AppSpec], acts: list[tuple[int, bool]]) -> None:
    world = World()
    always = [
        dataclasses.replace(each, services={**each.services, "data": stop_first(service("data", version=number))})
        for number, each in enumerate(releases)
    ]
    world.release(always[0])
    world.settle()
    pending = always[1:]
    for index, (steps, ready) in enumerate(acts):
        if pending and index % 6 == 0:
            world.release(pending.pop())
        world.look(steps=steps)
        world.pass_time(ready=ready)
        assert len(world.running("data")) <= 1


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    replicas=st.integers(1, 7),
    parallelism=st.integers(1, 4),
    acts=st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), max_size=40),
    every=st.integers(4, 15),
    routed=st.booleans(),
    cancel=st.booleans(),
)
def test_rolling_stops_only_so_many_at_a_time_and_starts_none_beside(
    replicas: int, parallelism: int, acts: list[tuple[int, bool, bool]], every: int, routed: bool, cancel: bool
) -> None:
    """Whatever supersedes, cancels or kills it: what is stopped for it is never more than the file says."""
    make = web if routed else service

    def version(number: int) -> AppSpec:
        return spec(stop_first(make("web", version=number, replicas=replicas, parallelism=parallelism)))

    world = World()
    world.release(version(1))
    world.settle()
    for index, (steps, ready, crash) in enumerate(acts):
        if index % every == 0 and len(world.revisions) < 4:
            world.release(version(len(world.revisions) + 1))
        if cancel and index % every == every - 1 and world.deploy and world.deploy.revision != world.app.live:
            world.cancel()
        if crash:
            world.crash()
        world.look(steps=steps)
        world.pass_time(ready=ready)
        tasks = [task for held in world.tasks.values() for task in held]
        assert sum(task.serving for task in tasks) >= replicas - parallelism
        assert sum(task.desired_state is TaskState.RUNNING for task in tasks) <= replicas
        if routed:
            assert world.capacity("web") >= replicas - parallelism
    world.settle(120)
    assert len([task for held in world.tasks.values() for task in held if task.serving]) == replicas
