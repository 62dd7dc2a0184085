"""How an app goes: its routes first, then its services by way of a drain, its networks, its data if asked."""

from __future__ import annotations

from hunqi.apps.plan_ground import surplus_ground
from hunqi.apps.plan_serving import Traffic, serving_of, unrouted
from hunqi.apps.retiring import Retiring
from hunqi.apps.situation import Situation
from hunqi.apps.steps import Forget, Plan, RemoveVolumes, Step


def plan_removal(situation: Situation) -> Plan:
    """Return the next steps of an app's removal."""
    retiring = Retiring(situation)
    for each in situation.standings.values():
        retiring.remove(each)
    if situation.standings:
        live = situation.live or situation.target
        return Plan(
            steps=tuple(retiring.steps),
            serving=serving_of(situation, Traffic(spec_of=unrouted(live) if live else None, coming=None), retiring),
            sentence="; ".join(retiring.waits) or "the services are being removed",
            awaits_drained=dict(retiring.draining),
        )
    steps: list[Step] = surplus_ground(situation, None)
    if not steps:
        if situation.app.intent.remove_volumes:
            steps.append(RemoveVolumes(sentence="removing the app's volumes"))
        steps.append(Forget(sentence="the app is gone"))
    return Plan(steps=tuple(steps), serving=None, sentence=steps[0].sentence)
