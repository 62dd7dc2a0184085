"""A rollout as users see it: each step with where it is, what was found, and what happens next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from hunqi.apps.asked import Problem
from hunqi.apps.lanes import LaneMatch, Match
from hunqi.apps.rollout_spec import Step, StepKind
from hunqi.rollouts.analysis.model import Finding
from hunqi.rollouts.commands import possible
from hunqi.rollouts.judging import ERRORS_S
from hunqi.rollouts.model import Rollout, Why
from hunqi.rollouts.presets import ANALYSIS_S
from hunqi.rollouts.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """A step: ``state`` is done, now, to-do or skipped."""

    kind: str
    text: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """A rollout. ``next`` says what happens next, ``verbs`` what can be said to it now; weights are percent."""

    id: str
    app: str
    deploy: str
    revision: int
    stable: int
    state: str
    strategy: str
    sentence: str
    next: str
    weight: float
    mirror: float
    in_force: bool
    """Whether every live gateway works by the last decision."""
    decided_at: float | None
    """When that was, in seconds since the epoch."""
    step: int
    """From 0; the last of ``steps`` is 100 %."""
    steps: tuple[StepView, ...]
    replicas: Mapping[str, int]
    """Tasks of the new revision for now, by service; of one that is not named, all."""
    findings: tuple[Finding, ...]
    looked_at: float | None
    """Seconds since the epoch."""
    paused: str | None
    """Why it stands: step, user, inconclusive, traffic or errors."""
    problem: Problem | None
    verbs: tuple[str, ...]
    actor: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


def view_of(rollout: Rollout) -> RolloutView:
    """Return a rollout as it is shown."""
    course = rollout.course
    steps = (*(step_text(step) for step in rollout.spec.steps), "100 %, and the old revision goes")
    kinds = (*(step.kind.value for step in rollout.spec.steps), "promote")
    states = [_state(rollout, number) for number in range(len(steps))]
    return RolloutView(
        id=rollout.id,
        app=rollout.app,
        deploy=rollout.deploy,
        revision=rollout.revision,
        stable=rollout.stable,
        state=rollout.state.value,
        strategy=rollout.spec.strategy.value,
        sentence=course.sentence,
        next=_next(rollout, steps),
        weight=course.shift.weight / 100,
        mirror=course.shift.mirror / 100,
        in_force=course.in_force >= course.shift.number,
        decided_at=course.shift.decided_at or None,
        step=course.step,
        steps=tuple(
            StepView(kind=kind, text=text, state=state) for kind, text, state in zip(kinds, steps, states, strict=True)
        ),
        replicas=course.shift.replicas,
        findings=course.findings,
        looked_at=course.looked_at or None,
        paused=course.pause.why.value if course.pause is not None else None,
        problem=rollout.problem,
        verbs=tuple(verb.value for verb in possible(rollout.state)),
        actor=rollout.actor,
        created_at=rollout.created_at,
        updated_at=rollout.updated_at,
        finished_at=rollout.finished_at,
    )


def step_text(step: Step) -> str:
    """Return a step in words."""
    for_s = f" for {step.for_s:g} s" if step.for_s is not None else ""
    match step.kind:
        case StepKind.WEIGHT:
            return f"{step.weight / 100:g} % of users"
        case StepKind.PAUSE:
            return f"pause{for_s or ' until somebody resumes it'}"
        case StepKind.MATCH:
            return f"requests with {' or '.join(map(match_text, step.matches))}" if step.matches else "no match"
        case StepKind.MIRROR:
            return f"mirror {step.mirror / 100:g} % of requests"
        case StepKind.SCALE:
            counts = ", ".join(f"{name}={count}" for name, count in step.replicas.items())
            return f"scale to {counts or f'{step.percent} %'}"
        case StepKind.ANALYSIS:
            return f"{', '.join(step.measures) or 'all measures'} for {step.for_s or ANALYSIS_S:g} s"
        case StepKind.APPROVE:
            return "somebody approves"
        case StepKind.RUN:
            return f"{step.service} runs {' '.join(step.command) or 'what it runs'}"


def match_text(match: LaneMatch) -> str:
    """Return the conditions of a match in words."""
    parts = [
        *(_condition("header", each) for each in match.headers),
        *(_condition("cookie", each) for each in match.cookies),
        *(_condition("query", each) for each in match.query),
    ]
    if match.sources:
        parts.append(f"from {', '.join(match.sources)}")
    if match.users < 10_000:
        parts.append(f"{match.users / 100:g} % of users")
    return " and ".join(parts)


def _condition(noun: str, match: Match) -> str:
    sign = {"exact": "=", "prefix": "=^", "regex": "=~"}.get(match.kind, "")
    return f"{noun} {match.name}{sign}{match.value if sign else ''}"


def _state(rollout: Rollout, number: int) -> str:
    course, last = rollout.course, len(rollout.spec.steps)
    if rollout.state is State.SUCCEEDED:
        return "skipped" if (course.full or course.direct) and number != last and number >= course.step else "done"
    if rollout.state is State.STARTING or number > course.step:
        return "skipped" if (course.full or course.direct) and number != last else "to-do"
    if number < course.step:
        return "done"
    return "stopped" if rollout.state.ended or rollout.state is State.ABORTING else "now"


def _next(rollout: Rollout, steps: tuple[str, ...]) -> str:
    course, app = rollout.course, rollout.app
    after = f"then: {steps[course.step + 1]}" if course.step + 1 < len(steps) else "then the old revision goes"
    match rollout.state:
        case State.STARTING:
            return f"then: {steps[-1] if course.full or course.direct else steps[0]}"
        case State.STEPPING:
            return after
        case State.PAUSED if course.pause is not None and course.pause.why is Why.ERRORS:
            return (
                f"it goes on by itself once its measures can be had, and is aborted after {ERRORS_S / 60:.0f} minutes"
            )
        case State.PAUSED:
            return f"it stands until hunqi rollout resume {app}, promote or abort; a measure that fails aborts it"
        case State.APPROVING:
            return f"hunqi rollout approve {app}, {after}"
        case State.PROMOTING:
            return f"the tasks of revision {rollout.stable} finish what they have and go"
        case State.ABORTING:
            return f"every gateway sends all users to revision {rollout.stable}"
        case State.SUCCEEDED:
            return f"hunqi rollout undo {app} is the way back"
        case State.ABORTED | State.FAILED:
            kept = rollout.spec.keep_s
            stay = f"its tasks stay for {kept:g} s: hunqi app logs {app}; " if rollout.state is State.ABORTED else ""
            return f"{stay}hunqi rollout retry {app} begins it anew"
        case State.SUPERSEDED:
            return "nothing: a newer rollout has begun"
