"""What users may say to a rollout, and what becomes of it then. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final, assert_never

from hunqi.apps.asked import Change, Problem
from hunqi.rollouts.errors import RolloutRefusedError
from hunqi.rollouts.model import Rollout, Why
from hunqi.rollouts.moving import aborted, at_step, gone_on, moved, promoted, stood
from hunqi.rollouts.states import TABLE, Happening, State


class Verb(StrEnum):
    """What can be said to a rollout under way."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    PROMOTE_FULL = "promote --full"
    PROMOTE_FORCE = "promote --full --force"
    APPROVE = "approve"
    ABORT = "abort"


HAPPENINGS: Final[Mapping[Verb, Happening]] = MappingProxyType(
    {
        Verb.PAUSE: Happening.STOPPED,
        Verb.RESUME: Happening.RESUMED,
        Verb.PROMOTE: Happening.SKIPPED,
        Verb.PROMOTE_FULL: Happening.HURRIED,
        Verb.PROMOTE_FORCE: Happening.FORCED,
        Verb.APPROVE: Happening.APPROVED,
        Verb.ABORT: Happening.REFUSED,
    }
)


def possible(state: State) -> tuple[Verb, ...]:
    """Return what can be said to a rollout that is in ``state``."""
    return tuple(verb for verb, happening in HAPPENINGS.items() if happening in TABLE[state])


def said_to(rollout: Rollout, verb: Verb, change: Change, now: float) -> Rollout:
    """Return the rollout after a user's word. Raises ``RolloutRefusedError`` where it cannot be followed."""
    happening = HAPPENINGS[verb]
    if happening not in TABLE[rollout.state]:
        ways = ", ".join(f"hunqi rollout {each} {rollout.app}" for each in possible(rollout.state))
        raise RolloutRefusedError(
            f"the rollout of revision {rollout.revision} is {rollout.state}, "
            f"so it cannot {verb}: {ways or _after(rollout)}"
        )
    why = f": {change.reason}" if change.reason else ""
    by = f"{change.actor}{why}"
    course = rollout.course
    match verb:
        case Verb.PAUSE:
            return stood(rollout, happening, Why.USER, f"paused by {by}", now)
        case Verb.RESUME:
            return gone_on(rollout, happening, now, sentence=f"resumed by {by}")
        case Verb.PROMOTE | Verb.APPROVE:
            word = "approved" if verb is Verb.APPROVE else "let go on"
            return at_step(rollout, course.step + 1, happening, now, sentence=f"{word} by {by}")
        case Verb.PROMOTE_FULL:
            hurried = replace(rollout, course=replace(course, full=True))
            said = f"all steps that are left are skipped, by {by}"
            if rollout.state is State.STARTING:
                return moved(hurried, happening, now, sentence=said)
            return at_step(hurried, len(rollout.spec.steps), happening, now, sentence=said)
        case Verb.PROMOTE_FORCE:
            forced = replace(rollout, course=replace(course, full=True))
            return promoted(forced, happening, now, sentence=f"forced by {by}: ready or not, it takes over")
        case Verb.ABORT:
            problem = Problem(
                code="rollout.aborted",
                message=f"aborted by {by}",
                remedy=f"hunqi rollout retry {rollout.app} begins it anew",
            )
            return aborted(rollout, happening, problem, now)
        case _:
            assert_never(verb)


def _after(rollout: Rollout) -> str:
    if rollout.state in {State.ABORTED, State.FAILED}:
        return f"hunqi rollout retry {rollout.app} begins it anew"
    return f"hunqi rollout undo {rollout.app} is the way back"
