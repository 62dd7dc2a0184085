"""What a rollout comes to next, from what is kept of it and what is observed. Pure.

``plan`` returns the rollout as it is to be kept; ``due`` says what of that is not done yet. So intent is always kept
before it is done, and after a crash the same is done again. A rollout's weight only rises; only an abort takes users
back. The old revision is never touched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from hunqi.apps.asked import Problem
from hunqi.apps.lanes import ALL_USERS, LaneMatch
from hunqi.apps.model import DeployState
from hunqi.apps.rollout_spec import Step, StepKind
from hunqi.apps.shifting import Shift, Shifting, Verdict
from hunqi.rollouts.aims import Aim, aim_of, grown, has_traffic, tasks_for
from hunqi.rollouts.judging import judged, stepped_by_measures
from hunqi.rollouts.model import Phase, Rollout, Why, World
from hunqi.rollouts.moving import aborted, at_step, decided, moved, promoted, samples_of, stood, withdrawn
from hunqi.rollouts.states import Happening, State

NEVER_READY_S: Final = 60.0
"""Beyond the services' own ``ready_timeout``, how long tasks of a later step may take."""
_MOVES: Final = frozenset({StepKind.WEIGHT, StepKind.MATCH, StepKind.MIRROR, StepKind.SCALE})


@dataclass(frozen=True, slots=True)
class Decide:
    """A decision is to be taken."""

    shift: Shift
    sentence: str


@dataclass(frozen=True, slots=True)
class StartRun:
    """A run is to be started, once; it is known by its id."""

    id: str
    step: Step


def due(rollout: Rollout, world: World) -> Decide | StartRun | None:
    """Return what is kept and not done."""
    shifting, course = world.shifting, rollout.course
    if shifting is None or rollout.state.ended:
        return None
    theirs = shifting.shift
    if theirs.verdict is Verdict.GO_ON and course.shift.number > theirs.number and not _same(course.shift, theirs):
        return Decide(replace(course.shift, number=theirs.number + 1), course.sentence)
    step = rollout.step
    if course.run and step is not None and rollout.state is State.STEPPING and world.run is None:
        return StartRun(course.run, step) if not world.run_problem else None
    return None


def plan(rollout: Rollout, world: World, now: float) -> Rollout:
    """Return the rollout as it is to be kept next; the same one where there is nothing to do but wait.

    One change at a time: call it again with what it returned, once what is ``due`` is done.
    """
    if rollout.state.ended:
        return rollout
    if world.shifting is None:
        return _ended(rollout, world, now)
    if due(rollout, world) is not None:
        return rollout
    shifting = world.shifting
    rollout = _adopted(rollout, shifting, now)
    match rollout.state:
        case State.STARTING:
            return _starting(rollout, shifting, now)
        case State.PROMOTING:
            return _promoting(rollout, shifting, now)
        case State.ABORTING:
            return _aborting(rollout, shifting, now)
        case _:
            pass
    found = judged(rollout, now)
    if found != rollout:
        return found
    if rollout.state is not State.STEPPING:
        return _kept_up(rollout, shifting, now)
    return _stepping(rollout, world, shifting, now)


def _said(rollout: Rollout, sentence: str) -> Rollout:
    return replace(rollout, course=replace(rollout.course, sentence=sentence))


def _ended(rollout: Rollout, world: World, now: float) -> Rollout:
    """Take in how the deploy ended."""
    deploy = world.ended
    if deploy is None or not deploy.state.ended:
        return rollout
    number = rollout.revision
    match deploy.state:
        case DeployState.SUCCEEDED:
            return moved(rollout, Happening.DEPLOYED, now, sentence=f"revision {number} serves", pause=None)
        case DeployState.SUPERSEDED:
            said = f"a newer deploy took the place of revision {number}; revision {rollout.stable} serves"
            return moved(rollout, Happening.REPLACED, now, sentence=said, pause=None)
        case DeployState.CANCELLED:
            said = deploy.sentence or "its deploy was cancelled"
            return moved(rollout, Happening.CANCELLED, now, sentence=said, pause=None)
        case _:
            said = deploy.problem.message if deploy.problem else deploy.sentence
            kept = rollout if rollout.problem is not None else replace(rollout, problem=deploy.problem)
            return moved(kept, Happening.FELL, now, sentence=said, pause=None)


def _same(one: Shift, other: Shift) -> bool:
    return replace(one, number=0, decided_at=0.0) == replace(other, number=0, decided_at=0.0)


def _adopted(rollout: Rollout, shifting: Shifting, now: float) -> Rollout:
    """Take in the decision that stands: ours under the number that it got there, or one that somebody else took."""
    course, theirs = rollout.course, shifting.shift
    if theirs == course.shift and shifting.in_force == course.in_force:
        return rollout
    rollout = replace(rollout, course=replace(course, shift=theirs, in_force=shifting.in_force))
    if theirs.verdict is Verdict.PROMOTE and rollout.state.undecided:
        said = "it was decided elsewhere that it takes over"
        return moved(rollout, Happening.FORCED, now, sentence=said, pause=None)
    if theirs.verdict is Verdict.ABORT and rollout.state.undecided:
        said = theirs.problem.message if theirs.problem else "it was decided elsewhere that it is aborted"
        return moved(replace(rollout, problem=theirs.problem), Happening.REFUSED, now, sentence=said, pause=None)
    return rollout


def _starting(rollout: Rollout, shifting: Shifting, now: float) -> Rollout:
    course = rollout.course
    first = replace(course.shift, key=rollout.spec.key, keep_s=rollout.spec.keep_s)
    if first != course.shift:
        return decided(_said(rollout, "the first tasks come up"), first, now)
    if not shifting.shifting:
        return _said(rollout, shifting.sentence or "the first tasks come up")
    step = len(rollout.spec.steps) if course.full or course.direct else 0
    return at_step(rollout, step, Happening.READY, now, sentence="its first tasks are ready")


def _promoting(rollout: Rollout, shifting: Shifting, now: float) -> Rollout:
    verdict = rollout.course.shift.verdict
    if verdict is Verdict.GO_ON:  # another's decision came between
        return decided(rollout, replace(rollout.course.shift, verdict=Verdict.PROMOTE), now)
    if verdict is Verdict.ABORT:
        return _said(rollout, "it was decided elsewhere that it is aborted")
    return _said(rollout, f"revision {rollout.revision} takes over: {shifting.sentence}".removesuffix(": "))


def _aborting(rollout: Rollout, shifting: Shifting, now: float) -> Rollout:
    verdict = rollout.course.shift.verdict
    if verdict is Verdict.GO_ON:
        return decided(rollout, withdrawn(rollout, rollout.problem), now)
    if verdict is Verdict.PROMOTE:
        return _said(rollout, "it was decided elsewhere that it takes over")
    if shifting.in_force < rollout.course.shift.number:
        return rollout
    why = rollout.problem.message if rollout.problem else rollout.course.sentence
    return moved(rollout, Happening.WITHDRAWN, now, sentence=f"{why}; revision {rollout.stable} serves everybody")


def _stepping(rollout: Rollout, world: World, shifting: Shifting, now: float) -> Rollout:
    step = rollout.step
    if step is None or step.kind in _MOVES:
        return _move(rollout, shifting, now)
    if rollout.course.phase is not Phase.WAITING:
        course = replace(rollout.course, phase=Phase.WAITING, since=now, samples=samples_of(rollout.course))
        return replace(rollout, course=course)
    grown_up = _kept_up(rollout, shifting, now)
    if grown_up != rollout:
        return grown_up
    match step.kind:
        case StepKind.PAUSE:
            return _pause(rollout, step, now)
        case StepKind.APPROVE:
            said = f"hunqi rollout approve {rollout.app} lets it go on at {_percent(rollout)}"
            return moved(rollout, Happening.ASKED, now, sentence=said)
        case StepKind.RUN:
            return _run(rollout, step, world, now)
        case _:
            return stepped_by_measures(rollout, step, now)


def _move(rollout: Rollout, shifting: Shifting, now: float) -> Rollout:
    """First the tasks that the traffic needs, then the traffic, then the next step."""
    course = rollout.course
    aim = aim_of(rollout.spec.steps, course.step)
    if course.phase is Phase.SCALING:
        return _scale(rollout, aim, shifting, now)
    weight = max(aim.weight, course.shift.weight)
    wanted = replace(course.shift, weight=weight, matches=aim.matches, mirror=aim.mirror)
    if wanted != course.shift:
        return decided(_said(rollout, _shown_aim(rollout, aim)), wanted, now)
    if shifting.in_force < course.shift.number:
        return _said(rollout, f"{_shown_aim(rollout, aim)}: waiting until every gateway has it")
    begun = course.traffic_since
    if begun is None and has_traffic(course.shift):
        begun = now
    settled = replace(rollout, course=replace(course, traffic_since=begun))
    if rollout.step is None:
        return promoted(settled, Happening.COMPLETED, now, sentence=f"revision {rollout.revision} takes over")
    return at_step(settled, course.step + 1, Happening.STEPPED, now, sentence=_shown_aim(rollout, aim))


def _scale(rollout: Rollout, aim: Aim, shifting: Shifting, now: float) -> Rollout:
    course = rollout.course
    needed = grown(course.shift.replicas, tasks_for(aim, shifting))
    if needed != dict(course.shift.replicas):
        return decided(_said(rollout, _waits_for(rollout, needed)), replace(course.shift, replicas=needed), now)
    if shifting.ready:
        return replace(rollout, course=replace(course, phase=Phase.SHIFTING, since=now))
    limit = NEVER_READY_S + max(
        (shifting.target.spec.services[name].ready_timeout_s for name in shifting.changed), default=0.0
    )
    if now - course.since < limit:
        return _said(rollout, _waits_for(rollout, needed))
    behind = [each for each in shifting.services if each.ready < each.wanted]
    said = "; ".join(each.sentence or f"{each.service} has {each.ready} of {each.wanted} tasks" for each in behind)
    problem = Problem(
        code="rollout.not-ready",
        message=f"the tasks for the next step were not ready within {limit:.0f} s: {said or shifting.sentence}",
        remedy=f"see what they wrote: hunqi app logs {rollout.app}; then hunqi rollout retry {rollout.app}",
        service=behind[0].service if behind else "",
    )
    return aborted(rollout, Happening.CONDEMNED, problem, now)


def _kept_up(rollout: Rollout, shifting: Shifting, now: float) -> Rollout:
    """Where the app is to have more tasks than before, let the new revision have its part of them."""
    course = rollout.course
    aim = aim_of(rollout.spec.steps, course.step)
    shift = course.shift
    now_aimed = replace(aim, weight=shift.weight, matches=shift.matches, mirror=shift.mirror)
    needed = grown(shift.replicas, tasks_for(now_aimed, shifting))
    if needed == dict(course.shift.replicas):
        return rollout
    return decided(rollout, replace(course.shift, replicas=needed), now)


def _pause(rollout: Rollout, step: Step, now: float) -> Rollout:
    course = rollout.course
    if step.for_s is None:
        said = f"a step pauses it at {_percent(rollout)}: hunqi rollout resume {rollout.app} lets it go on"
        return stood(rollout, Happening.HALTED, Why.STEP, said, now)
    if now < course.since + step.for_s:
        return _said(rollout, f"{_percent(rollout)} for {step.for_s:g} s")
    return at_step(rollout, course.step + 1, Happening.STEPPED, now, sentence=f"{step.for_s:g} s have passed")


def _run(rollout: Rollout, step: Step, world: World, now: float) -> Rollout:
    course = rollout.course
    shown = " ".join(step.command) or "what it runs"
    if not course.run:
        mark = hashlib.sha256(f"{rollout.id}/{course.step}/{now}".encode()).hexdigest()[:8]
        return _said(
            replace(rollout, course=replace(course, run=f"{int(now * 1000):012x}{mark}")),
            f"{step.service} runs {shown}",
        )
    if world.run is not None and world.run.state == "succeeded":
        said = f"{step.service} has run {shown}"
        return at_step(rollout, course.step + 1, Happening.STEPPED, now, sentence=said)
    if world.run is not None and world.run.finished_at is None and not world.run_problem:
        return rollout
    code = world.run.exit_code if world.run is not None else None
    why = world.run_problem or (f"with exit code {code}" if code is not None else (world.run and world.run.state) or "")
    problem = Problem(
        code="rollout.run-failed",
        message=f"the step {step.service}: {shown} failed {why}".rstrip(),
        remedy=f"hunqi rollout retry {rollout.app} begins anew once it is mended",
        service=step.service,
        exit_code=code,
        log=world.run_lines,
    )
    return aborted(rollout, Happening.CONDEMNED, problem, now)


def _percent(rollout: Rollout) -> str:
    return f"{rollout.course.shift.weight / 100:g} %"


def _shown_aim(rollout: Rollout, aim: Aim) -> str:
    parts: list[str] = []
    weight = max(aim.weight, rollout.course.shift.weight)
    if weight or not (aim.matches or aim.mirror):
        parts.append(f"{100 * weight / ALL_USERS:g} % of users")
    if aim.matches:
        whole = [each.users for each in aim.matches if each == LaneMatch(users=each.users)]
        parts.append(f"{max(whole) / 100:g} % of users by a match" if whole else "requests that match")
    if aim.mirror:
        parts.append(f"{aim.mirror / 100:g} % of requests mirrored")
    return f"{' and '.join(parts)} go to revision {rollout.revision}"


def _waits_for(rollout: Rollout, needed: dict[str, int]) -> str:
    shown = ", ".join(f"{name}={count}" for name, count in sorted(needed.items()))
    return f"waiting for the tasks of revision {rollout.revision}: {shown or 'all of them'}"
