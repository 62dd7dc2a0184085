"""A deploy that moves by decisions: both revisions serve, and a rollout says who goes to which.

The base keeps its full strength all the time, so that an abort needs nothing but other routes. The new revision has as
many tasks as the rollout says; what becomes of them is the rollout's to judge. At the promotion it gets all its tasks,
then what was postponed takes the place of the old ones, and all routes switch. At an abort its lane is gone at once;
its tasks take nothing new and stay for a look, until the deploy ends and they are surplus.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hunqi.apps.bringing import Bringing
from hunqi.apps.lanes import ALL_USERS
from hunqi.apps.model import DeployState, Revision
from hunqi.apps.serving import Serving
from hunqi.apps.shifting import Shift, Verdict
from hunqi.apps.situation import Situation
from hunqi.apps.steps import Advance, Plan

_NONE: Final = -1


def shifted(bringing: Bringing, target: Revision) -> Plan:
    """Return the plan that keeps both revisions as they are to be; ``target`` has been brought up by ``bringing``."""
    at = bringing.at
    said = sentence_of(at.shift, target) if at.shift is not None else ""
    return replace(bringing.done(at.live, coming=target, said=said), awaits_force=True)


def aborted(at: Situation) -> Plan:
    """Return the plan that has everybody at the base; the new revision's tasks stay until their time is over."""
    shift, base, target = at.shift, at.live, at.target
    bringing = Bringing(at)
    if shift is None or base is None or target is None:
        return bringing.done(base)
    bringing.bring(base, None)
    own = {at.name(target, each) for each in at.split.own}
    bringing.retire_all_but(base, own | {at.name(base, each) for each in base.origin})
    bringing.retiring.leaving |= own & at.standings.keys()
    left = shift.decided_at + shift.keep_s - at.now
    why = shift.problem.message if shift.problem else f"the rollout of revision {target.number} was aborted"
    if left <= 0:
        state = DeployState.FAILED if shift.problem else DeployState.CANCELLED
        bringing.steps[:] = [Advance(state=state, sentence=why, problem=shift.problem)]
        bringing.retiring.steps.clear()
    else:
        bringing.deadlines.append(left)
    said = f"{why}; all users are at revision {base.number}, tasks of {target.number} stay for a look"
    return replace(bringing.done(base, said=said), awaits_force=True)


def sentence_of(shift: Shift, target: Revision) -> str:
    """Say who goes to the new revision."""
    name = f"revision {target.number}"
    match shift.verdict:
        case Verdict.PROMOTE:
            return f"{name} is being promoted"
        case Verdict.ABORT:
            return f"{name} is aborted"
        case Verdict.GO_ON:
            who = f"{_percent(shift.weight)} of users go to {name}"
            who += ", beside those that match" if shift.matches else ""
            return who + (
                f"; it is shown {_percent(shift.mirror)} of the requests of the others" if shift.mirror else ""
            )


def in_force(at: Situation) -> int:
    """Return the number of the last shift of this deploy by which every live gateway is known to work; -1 for none.

    An abort is in force where no lane is left and what was in it takes nothing new.
    """
    shift, target, serving = at.shift, at.target, at.facts.in_force
    if shift is None or target is None or at.deploy is None:
        return _NONE
    if not at.gateways:
        return shift.number
    if serving is None:
        return _NONE
    if serving.lane is not None:
        return serving.lane.number if serving.lane.salt == at.deploy.id else _NONE
    return shift.number if shift.verdict is Verdict.ABORT and _without(at, target, serving) else _NONE


def lane_ready(at: Situation) -> bool:
    """Whether the new revision has all the tasks that the shift asks for, healthy at every live gateway."""
    target = at.target
    return target is not None and bool(at.split.own) and all(at.judge(target, each).ready for each in at.split.own)


def _without(at: Situation, target: Revision, serving: Serving) -> bool:
    own = {at.name(target, each) for each in at.split.own}
    return {each.name for each in serving.backends} & own <= serving.draining


def _percent(weight: int) -> str:
    return f"{100 * weight / ALL_USERS:g} %"
