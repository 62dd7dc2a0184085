"""Control dies before each thing that a rollout keeps or does, and goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hunqi.apps.lanes import LaneMatch
from hunqi.apps.rollout_spec import MeasureSpec, RolloutSpec, Step, StepKind, Strategy
from hunqi.apps.shifting import Shifting, Verdict
from hunqi.rollouts.analysis.model import Finding, Outcome
from hunqi.rollouts.commands import Verb
from hunqi.rollouts.states import State
from support_rollouts import KilledError, World, finding, run_world, well

WHOLE = RolloutSpec(
    steps=(
        Step(kind=StepKind.RUN, service="web", command=("migrate",)),
        Step(kind=StepKind.MATCH, matches=(LaneMatch(users=100),)),
        Step(kind=StepKind.WEIGHT, weight=500),
        Step(kind=StepKind.ANALYSIS, for_s=10),
        Step(kind=StepKind.WEIGHT, weight=5000),
        Step(kind=StepKind.APPROVE),
    ),
    interval_s=20.0,
)


def _fails_at_half(shifting: Shifting, spec: MeasureSpec) -> Finding:
    is_bad = shifting.shift.weight >= 5000 and spec.name == "p99"
    return finding(shifting, spec, Outcome.FAILURE) if is_bad else well(shifting, spec)


async def _with_deaths(world: World, kill_at: int, *, end: State) -> int:
    """Let it go to its end, control dying once before effect ``kill_at``; return how many effects there were."""
    world.kill_at = kill_at
    for _ in range(400):
        try:
            await world.tick(10)
        except* KilledError:
            world.kill_at = None
            world.new_control()
        known = await world.store.known([world.deploys_[-1].id])
        found = await world.newest() if known else None
        if found is not None and found.state is State.APPROVING:
            await world.say(Verb.APPROVE)
        if found is not None and found.state is end:
            return world.effects
    raise AssertionError(f"killed before effect {kill_at} it stays {found and found.course.sentence}")


@pytest.mark.parametrize(
    ("spec", "find", "end", "verdict"),
    [
        (WHOLE, well, State.SUCCEEDED, Verdict.PROMOTE),
        (WHOLE, _fails_at_half, State.ABORTED, Verdict.ABORT),
        (RolloutSpec(strategy=Strategy.BLUE_GREEN, interval_s=20.0), well, State.SUCCEEDED, Verdict.PROMOTE),
    ],
    ids=["promoted", "aborted", "blue-green"],
)
async def test_every_interrupted_prefix_goes_on_to_the_same_end(
    tmp_path: Path, spec: RolloutSpec, find: Callable[[Shifting, MeasureSpec], Finding], end: State, verdict: Verdict
) -> None:
    kill_at, most = 0, 2
    async with run_world(tmp_path) as first:
        while kill_at < most:
            world = await first.anew()
            world.find_ = find
            deploy = world.deploy(spec)
            most = await _with_deaths(world, kill_at, end=end)
            assert deploy.shift is not None
            assert deploy.shift.verdict is verdict
            assert len(world.runs_) == sum(step.kind is StepKind.RUN for step in spec.steps), "a command ran twice"
            numbers = [shift.number for shift in deploy.shifts]
            assert numbers == list(range(1, len(numbers) + 1)), "a decision was taken twice, or left out"
            kinds = [event.kind for event in await world.events() if event.kind.startswith("rollout.")]
            assert kinds.count("rollout.started") == 1
            assert kinds[-1] == ("rollout.promoted" if end is State.SUCCEEDED else "rollout.aborted")
            kill_at += 1
    assert kill_at > 15


async def test_a_users_word_while_a_decision_is_not_taken_yet_is_not_lost(tmp_path: Path) -> None:
    """Killed between what is kept and what is done, then told to abort: both have numbers, one decision is left."""
    found = 0
    async with run_world(tmp_path) as first:
        for kill_at in range(2, 7):
            world = await first.anew()
            deploy = world.deploy(
                RolloutSpec(steps=(Step(kind=StepKind.WEIGHT, weight=500), Step(kind=StepKind.PAUSE)))
            )
            world.kill_at = kill_at
            try:
                await world.tick()
                await world.tick()
            except* KilledError:
                world.new_control()
            world.kill_at = None
            kept = await world.newest()
            assert deploy.shift is not None
            found += kept.course.shift.number > deploy.shift.number

            await world.say(Verb.ABORT, "no")

            await world.to(State.ABORTED, within_s=30)
            assert deploy.shift.weight == 0
            assert deploy.shift.verdict is Verdict.ABORT
    assert found == 1, "there was no moment between"
