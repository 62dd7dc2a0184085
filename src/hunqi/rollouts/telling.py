"""What of a rollout's moves is told: an event for each, with the numbers that a reader of it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hunqi.kit.codec import encode
from hunqi.rollouts.model import Rollout
from hunqi.rollouts.states import State

_BY_STATE = {
    State.STARTING: "rollout.started",
    State.PAUSED: "rollout.paused",
    State.APPROVING: "rollout.asked",
    State.PROMOTING: "rollout.promoting",
    State.ABORTING: "rollout.aborting",
    State.SUCCEEDED: "rollout.promoted",
    State.ABORTED: "rollout.aborted",
    State.FAILED: "rollout.failed",
    State.SUPERSEDED: "rollout.superseded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event."""

    kind: str
    reason: str
    data: Mapping[str, Any]


def told(before: Rollout | None, after: Rollout) -> Told | None:
    """Return what is told of a move, None if it is none that anybody waits for."""
    if before is None or before.state is not after.state:
        kind = _BY_STATE.get(after.state) or ("rollout.resumed" if _stood(before) else "rollout.step")
    elif after.state is State.STEPPING and before.course.step != after.course.step:
        kind = "rollout.step"
    else:
        return None
    course = after.course
    data: dict[str, Any] = {
        "revision": after.revision,
        "stable": after.stable,
        "deploy": after.deploy,
        "state": after.state.value,
        "step": course.step + 1,
        "steps": len(after.spec.steps) + 1,
        "weight": course.shift.weight / 100,
    }
    if course.pause is not None:
        data["why"] = course.pause.why.value
    if after.problem is not None and after.state in {State.ABORTING, State.ABORTED, State.FAILED}:
        data["problem"] = encode(after.problem)
    if after.state is State.ABORTING:
        data["findings"] = [encode(each) for each in course.findings]
    return Told(kind=kind, reason=course.sentence, data=data)


def _stood(before: Rollout | None) -> bool:
    return before is not None and before.state in {State.PAUSED, State.APPROVING}
