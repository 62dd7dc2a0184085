"""Rollouts from their first task to their end, in virtual time, through the controller and a real database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from hunqi.apps.asked import Change
from hunqi.apps.lanes import LaneMatch, Match
from hunqi.apps.model import DeployState
from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec, RolloutSpec, Step, StepKind, Strategy
from hunqi.apps.shifting import Shift, Shifting, Verdict
from hunqi.errors import DependencyError
from hunqi.rollouts.analysis.model import Finding, Outcome
from hunqi.rollouts.commands import Verb
from hunqi.rollouts.errors import RolloutNotFoundError, RolloutRefusedError
from hunqi.rollouts.model import Rollout, Why
from hunqi.rollouts.states import State
from hunqi.rollouts.views import view_of
from support_apps import spec, web
from support_rollouts import APP, World, finding, run_world, well

W, P, A = StepKind.WEIGHT, StepKind.PAUSE, StepKind.ANALYSIS
LATER = Change(actor="ann", reason="again")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with run_world(tmp_path) as running:
        yield running


def gray(*steps: Step, **more: object) -> RolloutSpec:
    return RolloutSpec(steps=steps, **more)  # type: ignore[arg-type]


def weight(hundredths: int) -> Step:
    return Step(kind=W, weight=hundredths)


def bad(measure: str, outcome: Outcome = Outcome.FAILURE, *, from_weight: int = 1) -> object:
    def find(shifting: Shifting, spec: MeasureSpec) -> Finding:
        is_bad = spec.name == measure and shifting.shift.weight >= from_weight
        return finding(shifting, spec, outcome, samples=120) if is_bad else well(shifting, spec)

    return find


def weights(shifts: list[Shift]) -> list[int]:
    return list(dict.fromkeys(shift.weight for shift in shifts))


async def test_the_word_alone_goes_the_whole_way(world: World) -> None:
    deploy = world.deploy(RolloutSpec())
    began = world.now

    found = await world.to(State.SUCCEEDED)

    assert weights(deploy.shifts) == [500, 1000, 2500, 5000, 10_000]
    assert deploy.shifts[-1].verdict is Verdict.PROMOTE
    assert deploy.state is DeployState.SUCCEEDED
    assert 90 <= world.now - began <= 160
    assert found.finished_at is not None
    assert {step.state for step in view_of(found).steps} == {"done"}
    kinds = [event.kind for event in await world.events() if event.kind.startswith("rollout.")]
    assert kinds[0] == "rollout.started"
    assert kinds[-2:] == ["rollout.promoting", "rollout.promoted"]
    assert kinds.count("rollout.step") == 9


@pytest.mark.parametrize("measure", ["success-rate", "p99", "restarts", "memory"])
async def test_a_bad_revision_is_out_before_it_had_more_than_ten_percent(world: World, measure: str) -> None:
    world.find_ = bad(measure)  # type: ignore[assignment]
    deploy = world.deploy(RolloutSpec())
    began = world.now

    found = await world.to(State.ABORTED)

    assert world.now - began < 60
    assert max(weights(deploy.shifts)) <= 1000
    assert deploy.shifts[-1].verdict is Verdict.ABORT
    assert deploy.shifts[-1].weight == 0
    assert found.problem is not None
    assert measure in found.problem.message
    assert "120 requests of the new revision, 1200 of the old one" in found.problem.message
    assert found.problem.log == ("r2 it burns",)
    assert "serves everybody" in found.course.sentence
    assert deploy.state is DeployState.SHIFTING, "its tasks stay for a look"
    aborting = next(event for event in await world.events() if event.kind == "rollout.aborting")
    assert {each["measure"]: each["outcome"] for each in aborting.data["findings"]}[measure] == "failure"


async def test_the_tasks_come_before_the_traffic_and_are_as_many_as_it_needs(world: World) -> None:
    deploy = world.deploy(gray(weight(500), weight(2501), weight(5000)))

    await world.to(State.SUCCEEDED)

    there = [(dict(shift.replicas), shift.weight) for shift in deploy.shifts]
    assert there == [
        ({"web": 1}, 500),
        ({"web": 2}, 500),
        ({"web": 2}, 2501),
        ({"web": 2}, 5000),
        ({}, 5000),
        ({}, 10_000),
        ({}, 10_000),
    ]


async def test_a_scale_is_the_least_and_never_too_few(world: World) -> None:
    scale = Step(kind=StepKind.SCALE, replicas={"web": 3})
    deploy = world.deploy(gray(scale, weight(100), Step(kind=StepKind.SCALE, percent=25), weight(9000)))

    await world.to(State.SUCCEEDED)

    assert [dict(shift.replicas) for shift in deploy.shifts][:3] == [{"web": 3}, {"web": 3}, {}]


async def test_where_load_asks_for_more_tasks_the_new_revision_has_its_part(world: World) -> None:
    deploy = world.deploy(gray(weight(5000), Step(kind=P)))
    await world.to(State.PAUSED)
    world.wanted = {"web": 10}

    await world.tick()
    await world.tick()

    assert deploy.shift is not None
    assert dict(deploy.shift.replicas) == {"web": 5}


async def test_a_pause_without_end_waits_for_somebody(world: World) -> None:
    world.deploy(gray(weight(500), Step(kind=P), weight(5000)))
    found = await world.to(State.PAUSED)
    assert found.course.pause is not None
    assert found.course.pause.why is Why.STEP
    for _ in range(20):
        await world.tick(600)
    assert (await world.newest()).state is State.PAUSED

    await world.say(Verb.RESUME)

    await world.to(State.SUCCEEDED)


async def test_a_pause_by_a_user_stops_the_clock(world: World) -> None:
    deploy = world.deploy(gray(weight(500), Step(kind=P, for_s=30)))
    for _ in range(10):
        await world.tick()
    await world.say(Verb.PAUSE, "lunch")
    assert (await world.newest()).course.sentence == "paused by ann: lunch"
    for _ in range(100):
        await world.tick()
    assert deploy.state is DeployState.SHIFTING

    await world.say(Verb.RESUME)
    resumed = world.now

    await world.to(State.SUCCEEDED)
    assert 15 < world.now - resumed < 45


async def test_a_measure_that_fails_aborts_while_it_stands(world: World) -> None:
    world.deploy(gray(weight(500), Step(kind=P)))
    await world.to(State.PAUSED)

    world.find_ = bad("p99")  # type: ignore[assignment]

    await world.to(State.ABORTED)


async def test_consent_is_waited_for(world: World) -> None:
    world.deploy(gray(weight(500), Step(kind=StepKind.APPROVE)))
    await world.to(State.APPROVING)
    with pytest.raises(RolloutRefusedError, match="approving"):
        await world.say(Verb.RESUME)

    await world.say(Verb.APPROVE)

    await world.to(State.SUCCEEDED)
    assert "rollout.asked" in [event.kind for event in await world.events()]


async def test_requests_of_a_few_go_first(world: World) -> None:
    beta = LaneMatch(headers=(Match(name="x-beta", value="1"),))
    match, mirror = Step(kind=StepKind.MATCH, matches=(beta,)), Step(kind=StepKind.MIRROR, mirror=2500)
    deploy = world.deploy(gray(match, mirror, weight(500), Step(kind=StepKind.MATCH)))

    await world.to(State.SUCCEEDED)

    shown = [(shift.weight, len(shift.matches), shift.mirror) for shift in deploy.shifts]
    assert list(dict.fromkeys(shown)) == [(0, 1, 0), (0, 1, 2500), (500, 1, 0), (500, 0, 0), (10_000, 0, 0)]


async def test_few_requests_neither_condemn_nor_acquit(world: World) -> None:
    seen = {"samples": 3}

    def few(shifting: Shifting, spec: MeasureSpec) -> Finding:
        enough = seen["samples"] >= 100
        return finding(shifting, spec, Outcome.SUCCESS if enough else Outcome.WAITING, samples=seen["samples"])

    world.find_ = few
    world.deploy(gray(weight(500), Step(kind=A, for_s=30)))
    found = await world.to(State.PAUSED)
    assert found.course.pause is not None
    assert found.course.pause.why is Why.TRAFFIC
    assert "too few requests" in found.course.sentence
    assert "hunqi rollout promote shop" in found.course.sentence
    assert "mirror" in found.course.sentence

    seen["samples"] = 200  # they have come after all

    await world.to(State.SUCCEEDED)


async def test_each_analysis_waits_for_requests_of_its_own(world: World) -> None:
    seen = {"samples": 150}
    world.find_ = lambda shifting, spec: finding(shifting, spec, Outcome.SUCCESS, samples=seen["samples"])
    steps = (weight(500), Step(kind=A, for_s=10), weight(1000), Step(kind=A, for_s=10))
    world.deploy(gray(*steps))

    found = await world.to(State.PAUSED)

    assert found.course.step == 3, "those of the first step did for the first only"
    assert "0 of 100 requests" in found.course.sentence


async def test_nothing_certain_waits_for_somebody(world: World) -> None:
    world.find_ = bad("p99", Outcome.INCONCLUSIVE)  # type: ignore[assignment]
    world.deploy(RolloutSpec())
    found = await world.to(State.PAUSED)
    assert found.course.pause is not None
    assert found.course.pause.why is Why.INCONCLUSIVE
    assert found.course.step == 1

    await world.say(Verb.PROMOTE)

    assert (await world.newest()).course.step == 2


async def test_a_source_that_is_down_is_no_success_and_goes_on_when_it_is_back(world: World) -> None:
    world.find_ = bad("p99", Outcome.ERROR)  # type: ignore[assignment]
    deploy = world.deploy(RolloutSpec())
    found = await world.to(State.PAUSED)
    assert found.course.pause is not None
    assert found.course.pause.why is Why.ERRORS
    assert max(weights(deploy.shifts)) == 500

    world.find_ = well

    await world.to(State.SUCCEEDED)


@pytest.mark.parametrize("how", ["finding", "raised"])
async def test_users_are_not_left_unwatched_for_ever(world: World, how: str) -> None:
    if how == "finding":
        world.find_ = bad("success-rate", Outcome.ERROR)  # type: ignore[assignment]
    else:
        world.looks_fail = DependencyError("telemetry is away")
    deploy = world.deploy(RolloutSpec())
    await world.to(State.PAUSED)

    found = await world.to(State.ABORTED, step_s=60.0, within_s=900)

    assert found.problem is not None
    assert found.problem.code == "rollout.not-measured"
    assert deploy.shift is not None
    assert deploy.shift.weight == 0


async def test_a_command_runs_once_in_the_new_revision(world: World) -> None:
    run = Step(kind=StepKind.RUN, service="web", command=("migrate",), for_s=60)
    world.deploy(gray(run, weight(500)))

    await world.to(State.SUCCEEDED)

    assert len(world.runs_) == 1


async def test_a_command_that_fails_aborts_with_its_last_lines(world: World) -> None:
    world.run_ends = "failed"
    world.deploy(gray(Step(kind=StepKind.RUN, service="web", command=("migrate",)), weight(500)))

    found = await world.to(State.ABORTED)

    assert found.problem is not None
    assert (found.problem.code, found.problem.exit_code) == ("rollout.run-failed", 3)
    assert any("no such column" in line for line in found.problem.log)


async def test_blue_green_moves_all_at_once_after_a_look_and_is_judged_after(world: World) -> None:
    deploy = world.deploy(RolloutSpec(strategy=Strategy.BLUE_GREEN))

    await world.to(State.SUCCEEDED)

    assert [(dict(each.replicas), each.weight) for each in deploy.shifts[:2]] == [({}, 0), ({}, 10_000)]
    deploy = world.deploy(RolloutSpec(strategy=Strategy.BLUE_GREEN))
    world.find_ = bad("success-rate", from_weight=10_000)  # type: ignore[assignment]
    await world.to(State.ABORTED)
    assert deploy.shifts[-1].weight == 0


async def test_a_new_deploy_replaces_the_new_revision_and_not_the_stable_one(world: World) -> None:
    world.deploy(gray(weight(500), Step(kind=P)))
    first = await world.to(State.PAUSED)

    world.deploy(RolloutSpec())

    second = await world.to(State.SUCCEEDED)
    rows = {event.subject: event.kind for event in await world.events() if event.kind.startswith("rollout.")}
    assert rows[first.id] == "rollout.superseded"
    assert (first.stable, second.stable, world.live) == (1, 1, 3)


async def test_retry_after_an_abort_begins_at_the_first_step(world: World) -> None:
    world.find_ = bad("p99")  # type: ignore[assignment]
    world.deploy(RolloutSpec())
    await world.to(State.ABORTED)
    world.find_ = well

    await world.rollouts.retry(APP, LATER)

    found = await world.to(State.SUCCEEDED)
    assert weights(world.deploys_[-1].shifts) == [500, 1000, 2500, 5000, 10_000]
    assert world.live == found.revision


async def test_retry_is_for_what_did_not_succeed(world: World) -> None:
    world.deploy(RolloutSpec())
    await world.to(State.SUCCEEDED)
    with pytest.raises(RolloutRefusedError, match="only one that was aborted"):
        await world.rollouts.retry(APP, LATER)


async def test_what_never_comes_up_has_failed_and_can_be_tried_again(world: World) -> None:
    world.never_up = True
    world.deploy(RolloutSpec())
    await world.controller.look()
    found = await world.to(State.FAILED)
    assert found.problem is not None
    assert "not healthy" in found.problem.message
    world.never_up = False

    await world.rollouts.retry(APP, LATER)

    await world.to(State.SUCCEEDED)


async def test_tasks_that_never_get_ready_for_a_step_are_withdrawn(world: World) -> None:
    deploy = world.deploy(gray(weight(5000), Step(kind=P)))
    await world.tick()
    world.never_ready = True

    found = await world.to(State.ABORTED)

    assert found.problem is not None
    assert found.problem.code == "rollout.not-ready"
    assert deploy.shift is not None
    assert deploy.shift.verdict is Verdict.ABORT


async def test_promote_goes_on_to_the_next_step(world: World) -> None:
    world.deploy(gray(weight(500), Step(kind=P, for_s=3600), weight(2500), Step(kind=P)))
    for _ in range(5):
        await world.tick()
    await world.say(Verb.PROMOTE)
    found = await world.to(State.PAUSED, within_s=30)
    assert found.course.shift.weight == 2500


@pytest.mark.parametrize("stand", [State.STARTING, State.STEPPING, State.PAUSED, State.APPROVING])
async def test_promote_full_skips_what_is_left_wherever_it_is_but_not_the_tasks(world: World, stand: State) -> None:
    world.find_ = bad("success-rate", Outcome.INCONCLUSIVE)  # type: ignore[assignment]
    steps = {State.PAUSED: Step(kind=P), State.APPROVING: Step(kind=StepKind.APPROVE)}
    deploy = world.deploy(gray(weight(500), steps.get(stand, Step(kind=A, for_s=3600))))
    if stand is State.STARTING:
        await world.controller.look()
        await world.say(Verb.PROMOTE_FULL)
    else:
        await world.to(stand)
        await world.tick()
        await world.say(Verb.PROMOTE_FULL)

    await world.to(State.SUCCEEDED, within_s=30)

    assert deploy.shifts[-1].weight == 10_000
    assert not deploy.shifts[-1].replicas


async def test_a_broken_stable_revision_can_be_replaced_by_force(world: World) -> None:
    """Nothing gets ready, every measure fails: force takes over all the same."""
    deploy = world.deploy(gray(weight(5000), Step(kind=P)))
    world.never_ready = True
    await world.tick()
    await world.tick()

    await world.say(Verb.PROMOTE_FORCE)

    await world.to(State.SUCCEEDED, within_s=10)
    assert deploy.shifts[-1].verdict is Verdict.PROMOTE


async def test_a_broken_stable_revision_is_no_reason_to_abort_one_that_is_no_worse(world: World) -> None:
    assert all(each.at_least is None for each in (await begun_spec(world)).measures)


async def begun_spec(world: World) -> RolloutSpec:
    world.deploy(RolloutSpec())
    await world.tick()
    return (await world.newest()).spec


async def test_an_abort_by_a_user_says_by_whom_and_why(world: World) -> None:
    world.deploy(gray(weight(500), Step(kind=P)))
    await world.to(State.PAUSED)
    await world.say(Verb.ABORT, "orders fail")
    found = await world.to(State.ABORTED)
    assert found.problem is not None
    assert found.problem.message == "aborted by ann: orders fail"
    with pytest.raises(RolloutRefusedError, match="retry"):
        await world.say(Verb.RESUME)


async def test_undo_goes_back_without_steps_within_the_window(world: World) -> None:
    world.deploy(RolloutSpec())
    await world.to(State.SUCCEEDED)

    await world.rollouts.undo(APP, LATER)

    await world.tick()
    assert world.deploys_[-1].shift is None, "it switches as any deploy does"
    assert world.revisions[world.live] == world.revisions[1]


async def test_another_way_back_within_the_window_has_no_steps_either(world: World) -> None:
    world.deploy(RolloutSpec())
    await world.to(State.SUCCEEDED)
    world.deploy(RolloutSpec(), world.revisions[1])
    found = await world.to(State.SUCCEEDED, within_s=15)
    assert found.course.direct


async def test_undo_beyond_the_window_takes_all_the_steps(world: World) -> None:
    world.deploy(RolloutSpec(undo_window=0))
    await world.to(State.SUCCEEDED)
    world.revisions[1] = replace(world.revisions[1], rollout=RolloutSpec(undo_window=0))
    await world.rollouts.undo(APP, LATER)
    found = await world.to(State.SUCCEEDED)
    assert not found.course.direct
    assert weights(world.deploys_[-1].shifts)[:3] == [500, 1000, 2500]


async def test_undo_of_one_under_way_aborts_it(world: World) -> None:
    world.deploy(gray(weight(500), Step(kind=P)))
    await world.to(State.PAUSED)
    await world.rollouts.undo(APP, LATER)
    await world.to(State.ABORTED)
    with pytest.raises(RolloutRefusedError, match="never took over"):
        await world.rollouts.undo(APP, LATER)


async def test_a_way_back_that_would_be_a_new_spec_has_its_steps(world: World) -> None:
    world.deploy(RolloutSpec(), spec(web("web", version=7, replicas=4)))
    await world.to(State.SUCCEEDED)
    assert not (await world.newest()).course.direct


async def test_what_another_has_decided_stands(world: World) -> None:
    deploy = world.deploy(gray(weight(500), Step(kind=P)))
    await world.to(State.PAUSED)
    assert deploy.shift is not None
    deploy.shift = replace(deploy.shift, number=deploy.shift.number + 1, verdict=Verdict.ABORT, weight=0)

    found = await world.to(State.ABORTED)

    assert "decided elsewhere" in found.course.sentence


async def test_a_word_right_after_the_deploy_is_about_its_rollout(world: World) -> None:
    world.deploy(RolloutSpec())
    await world.to(State.SUCCEEDED)
    world.deploy(RolloutSpec())

    await world.say(Verb.ABORT)

    assert (await world.newest()).revision == 3


async def test_an_app_without_any_says_how_to_begin_one(world: World) -> None:
    with pytest.raises(RolloutNotFoundError, match="--rollout gray"):
        await world.rollouts.show(APP)
    assert await world.rollouts.list() == []


async def test_looks_are_kept_and_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hunqi.rollouts.store.MOST_LOOKS", 20)
    world.deploy(gray(weight(500), Step(kind=P)))
    await world.to(State.PAUSED)
    for _ in range(60):
        await world.tick(5)

    looks = await world.rollouts.looks(APP)

    assert 10 <= len(looks) <= 20
    assert looks[-1].at > world.now - 20
    assert looks[0].at < looks[-1].at - 100, "older ones are thinned out, not cut off"
    assert looks[-1].weight == 500
    assert looks[-1].findings[0].numbers["new"] == 0.99


async def test_measures_without_traffic_are_looked_at_in_an_analysis_before_it(world: World) -> None:
    measures = (
        MeasureSpec(name="up", kind=MeasureKind.HTTP, query="/up", compare=False),
        MeasureSpec(name="success-rate", kind=MeasureKind.SUCCESS_RATE),
    )
    world.find_ = lambda shifting, spec: finding(
        shifting, spec, Outcome.FAILURE if spec.name == "up" else Outcome.WAITING
    )
    deploy = world.deploy(gray(Step(kind=A, for_s=10), weight(500), measures=measures))

    await world.to(State.ABORTED)

    assert weights(deploy.shifts) == [0]


def _at(view: Rollout) -> list[str]:
    return [step.state for step in view_of(view).steps]


async def test_the_view_shows_where_it_is(world: World) -> None:
    world.deploy(gray(weight(500), Step(kind=P), weight(5000)))
    found = await world.to(State.PAUSED)
    assert _at(found) == ["done", "now", "to-do", "to-do"]
    view = view_of(found)
    assert view.weight == 5
    assert "resume" in view.next
    assert "resume" in view.verbs
    await world.say(Verb.ABORT)
    found = await world.to(State.ABORTED)
    assert _at(found) == ["done", "stopped", "to-do", "to-do"]
