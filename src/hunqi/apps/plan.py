"""What is → what should be → steps. Pure: the same situation gives the same plan.

A deploy brings up its revision (the *goal*) beside the one that serves (the *base*), service by service in the order
of their dependencies (``bringing``); when all of it is ready, all routes switch at once, unless a rollout decides who
goes to it (``plan_shifting``); from the switch on it is the one that serves. In every other state the goal is what
serves. So a deploy that fails, is cancelled or superseded needs no undoing of its own: what serves is brought to what
it should be, and what belongs to neither is surplus, drained and removed. A service that is replaced stop-first has its
old one kept at zero replicas until the switch, to be started again if need be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hunqi.apps.bringing import Bringing
from hunqi.apps.model import DeployState, Revision
from hunqi.apps.plan_ground import surplus_ground
from hunqi.apps.plan_removal import plan_removal
from hunqi.apps.plan_serving import Traffic, serving_of
from hunqi.apps.plan_shifting import aborted, sentence_of, shifted
from hunqi.apps.situation import Situation
from hunqi.apps.state import DeployRecord, Desired
from hunqi.apps.steps import Advance, Plan

SWITCH_TIMEOUT_S: Final = 60.0
"""How long every live gateway may take to work by the new routes."""
STARTING_TIMEOUT_S: Final = 600.0
"""How long a deploy may take to start, beside the time that its services have."""
SPREAD_TIMEOUT_S: Final = 1800.0
"""How long a revision's images may take to be on enough nodes."""


def plan(situation: Situation) -> Plan:
    """Return what to do for the app now."""
    if situation.app.desired is Desired.REMOVED:
        return plan_removal(situation)
    deploy, target = situation.deploy, situation.target
    if deploy is None or target is None:
        return _settle(situation)
    if situation.aborting:
        return aborted(situation)
    match deploy.state:
        case DeployState.PENDING:
            return _await_images(situation, deploy, target)
        case DeployState.STARTING | DeployState.SHIFTING:
            return _bring_up(situation, deploy, target)
        case DeployState.SWITCHING:
            return _switch(situation, deploy, target)
        case _:
            return _settle(situation)


def _await_images(at: Situation, deploy: DeployRecord, target: Revision) -> Plan:
    bringing = Bringing(at)
    if at.facts.spread:
        sentence = f"starting revision {deploy.revision}: its images are there"
        bringing.steps.append(Advance(state=DeployState.STARTING, sentence=sentence))
    elif at.now - deploy.progress.changed_at > SPREAD_TIMEOUT_S:
        bringing.fail(
            "", "deploy.images", at.facts.spread_sentence, "see that the nodes' accelerators run and have room"
        )
    else:
        bringing.waits.append(at.facts.spread_sentence or "the images are being brought to the nodes")
    if at.live is not None:
        bringing.bring(at.live, None)
    images = frozenset(each.image for each in target.spec.services.values())
    return replace(bringing.done(at.live), awaits_spread=images)


def _bring_up(at: Situation, deploy: DeployRecord, target: Revision) -> Plan:
    bringing = Bringing(at)
    if at.live is not None:
        bringing.keep(at.live, target)
    if not at.deciding:
        _give_up_in_time(bringing, deploy, target)
    names = {at.name(each, name) for each in (at.live, target) if each for name in each.origin}
    bringing.retire_all_but(at.live, names)
    ready = bringing.bring(target, deploy)
    if at.deciding:
        return shifted(bringing, target)
    if ready and not bringing.steps:
        bringing.steps.append(_next(at, target))
    said = sentence_of(at.shift, target) if at.promoting and at.shift is not None else ""
    return bringing.done(at.live, coming=target, said=said)


def _next(at: Situation, target: Revision) -> Advance:
    if at.shift is not None and not at.shifting:
        sentence = f"revision {target.number} is healthy beside what serves: a rollout decides who goes to it"
        return Advance(state=DeployState.SHIFTING, sentence=sentence)
    return Advance(state=DeployState.SWITCHING, sentence=f"revision {target.number} is healthy: switching to it")


def _give_up_in_time(bringing: Bringing, deploy: DeployRecord, target: Revision) -> None:
    """Fail a deploy that nothing else ends: each service has its time, and all together have a little more."""
    at = bringing.at
    services = target.spec.services.values()
    most = STARTING_TIMEOUT_S + sum(each.ready_timeout_s * bringing.batches.rounds(each) for each in services)
    began = deploy.progress.changed_at
    if at.promoting and at.shift is not None:
        began = max(began, at.shift.decided_at)
    if at.now - began > most:
        bringing.fail(
            "",
            "deploy.not-started",
            f"revision {target.number} was not healthy within {most:.0f} s: {deploy.progress.sentence}",
            "mend what it waits for and deploy again",
        )


def _switch(at: Situation, deploy: DeployRecord, target: Revision) -> Plan:
    bringing = Bringing(at)
    serving = serving_of(at, Traffic(spec_of=target, coming=None), bringing.retiring)
    if at.facts.in_force == serving or not at.gateways:
        who = "all gateways route" if at.gateways else "there is no gateway to route"
        return Plan(
            steps=(
                Advance(
                    state=DeployState.DRAINING,
                    live=target.number,
                    awake=tuple(
                        name
                        for name, origin in target.origin.items()
                        if at.app.asleep(name) and origin == target.number
                    ),
                    sentence=f"revision {target.number} serves: draining what it replaces",
                ),
            ),
            serving=serving,
            sentence=f"{who} to revision {target.number}",
        )
    waited = at.now - deploy.progress.changed_at
    if waited > SWITCH_TIMEOUT_S:
        bringing.fail(
            "",
            "deploy.switch",
            f"not every gateway took in the routes of revision {target.number} within {SWITCH_TIMEOUT_S:.0f} s",
            "hunqi status shows which gateway is behind and why",
        )
    return Plan(
        steps=tuple(bringing.steps),
        serving=serving,
        sentence=f"waiting until every gateway routes to revision {target.number}",
        awaits_force=True,
        wake_in_s=max(0.1, SWITCH_TIMEOUT_S - waited + 0.1),
    )


def _settle(at: Situation) -> Plan:
    bringing = Bringing(at)
    goal = at.live
    calm = True
    if goal is not None:
        calm = bringing.bring(goal, None)
    names = {at.name(goal, each) for each in goal.spec.services} if goal else set[str]()
    if goal and at.app.desired is Desired.STOPPED:
        names = {
            each for each in names if (held := at.standings.get(each)) is None or held.service.replicas is not None
        }
    surplus = bringing.retire_all_but(goal, names)
    steps, retiring = bringing.steps, bringing.retiring
    steps.extend(retiring.steps)
    bringing.waits.extend(retiring.waits)
    if at.deploy is None and not surplus and not steps:
        steps.extend(surplus_ground(at, goal))
    if at.deploy is not None and not surplus and not steps:
        steps.append(Advance(state=DeployState.SUCCEEDED, sentence=f"revision {at.deploy.revision} serves"))
    return bringing.done(goal, settled=calm and not surplus and not retiring.waits)
