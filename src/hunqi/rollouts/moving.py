"""How a rollout comes into another state: by the table, with what that means for its course."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hunqi.apps.asked import Problem
from hunqi.apps.shifting import Shift, Verdict
from hunqi.rollouts.model import Course, Pause, Phase, Rollout, Why
from hunqi.rollouts.states import Happening, after


def moved(rollout: Rollout, happening: Happening, now: float, *, sentence: str = "", **course: Any) -> Rollout:
    """Return the rollout after ``happening``; ``course`` are fields of its course that change with it."""
    state = after(rollout.state, happening)
    moment = datetime.fromtimestamp(now, UTC)
    changed = replace(rollout.course, sentence=sentence or rollout.course.sentence, **course)
    ended = moment if state.ended else None
    return replace(rollout, state=state, course=changed, updated_at=moment, finished_at=ended)


def at_step(rollout: Rollout, step: int, happening: Happening, now: float, *, sentence: str = "") -> Rollout:
    """Return the rollout at the beginning of a step."""
    return moved(
        rollout,
        happening,
        now,
        sentence=sentence,
        step=min(step, len(rollout.spec.steps)),
        phase=Phase.SCALING,
        since=now,
        pause=None,
        samples={},
        run="",
        run_problem="",
    )


def stood(rollout: Rollout, happening: Happening, why: Why, sentence: str, now: float) -> Rollout:
    """Return the rollout standing where it is."""
    return moved(rollout, happening, now, sentence=sentence, pause=Pause(why=why, since=now, sentence=sentence))


def gone_on(rollout: Rollout, happening: Happening, now: float, *, sentence: str) -> Rollout:
    """Return the rollout going on after a pause: the next step after one that paused, else the same one.

    The step's clock goes on after a user's pause, and begins anew where it could not be judged.
    """
    course, pause = rollout.course, rollout.course.pause
    if pause is not None and pause.why is Why.STEP:
        return at_step(rollout, course.step + 1, happening, now, sentence=sentence)
    if pause is not None and pause.why is Why.USER:
        since = course.since + (now - pause.since)
        return moved(rollout, happening, now, sentence=sentence, pause=None, since=since)
    return moved(rollout, happening, now, sentence=sentence, pause=None, since=now)


def samples_of(course: Course) -> dict[str, int]:
    """Return how many requests of the new revision each measure has seen by now."""
    return {f"{each.measure}/{each.service}": each.samples_new for each in course.findings}


def decided(rollout: Rollout, shift: Shift, now: float, **course: Any) -> Rollout:
    """Return the rollout with a decision to be taken, one after the last."""
    number = rollout.course.shift.number + 1
    made = replace(shift, number=number, decided_at=now)
    return replace(
        rollout,
        course=replace(rollout.course, shift=made, **course),
        updated_at=datetime.fromtimestamp(now, UTC),
    )


def promoted(rollout: Rollout, happening: Happening, now: float, *, sentence: str) -> Rollout:
    """Return the rollout with the decision that the new revision takes over."""
    shift = replace(rollout.course.shift, verdict=Verdict.PROMOTE, problem=None)
    return decided(moved(rollout, happening, now, sentence=sentence, pause=None), shift, now)


def withdrawn(rollout: Rollout, problem: Problem | None) -> Shift:
    """Return the shift by which nobody goes to the new revision."""
    return replace(
        rollout.course.shift,
        weight=0,
        matches=(),
        mirror=0,
        verdict=Verdict.ABORT,
        problem=problem,
        keep_s=rollout.spec.keep_s,
    )


def aborted(rollout: Rollout, happening: Happening, problem: Problem, now: float) -> Rollout:
    """Return the rollout with the decision that the old revision serves alone, and why."""
    left = moved(rollout, happening, now, sentence=problem.message, pause=None)
    return decided(replace(left, problem=problem), withdrawn(rollout, problem), now)
