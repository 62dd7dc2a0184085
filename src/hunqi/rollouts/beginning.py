"""How a rollout begins: what it is to do, and whether there is anything to be done step by step at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from hunqi.apps.asked import Deploy
from hunqi.apps.errors import RevisionNotFoundError
from hunqi.apps.model import AppSpec, DeployState
from hunqi.apps.operations import AppOperations
from hunqi.apps.rollout_spec import RolloutSpec, Strategy
from hunqi.apps.shifting import Shifting
from hunqi.rollouts.model import Course, Rollout
from hunqi.rollouts.presets import resolved
from hunqi.rollouts.states import State

_DEPLOYS = 200
"""How far back the deploys of an app are looked through."""


async def begun(shifting: Shifting, apps: AppOperations, *, now: float) -> Rollout:
    """Return the rollout of a deploy that moves by decisions. Raises ``DeployNotFoundError``."""
    deploy = await apps.deploys.find(shifting.app, shifting.deploy)
    spec = resolved(shifting.target.spec.rollout or RolloutSpec())
    back = await is_way_back(shifting.app, shifting.target.spec, apps, window=spec.undo_window)
    direct = spec.strategy is Strategy.DIRECT or back
    said = f"revision {shifting.target.number} comes up beside revision {shifting.stable.number}"
    if back:
        said = f"{said}; it served before, so it takes over without steps"
    moment = datetime.fromtimestamp(now, UTC)
    return Rollout(
        id=shifting.deploy,
        app=shifting.app,
        deploy=shifting.deploy,
        revision=shifting.target.number,
        stable=shifting.stable.number,
        state=State.STARTING,
        spec=spec,
        course=Course(since=now, shift=shifting.shift, direct=direct, sentence=said),
        problem=None,
        actor=deploy.actor,
        created_at=moment,
        updated_at=moment,
    )


async def is_way_back(app: str, target: AppSpec, apps: AppOperations, *, window: int) -> bool:
    """Whether a spec is that of one of the last ``window`` revisions that served before the one that serves now."""
    served = await served_before(app, apps)
    for number in served[1 : window + 1]:
        try:
            held = await apps.revisions.find(app, number)
        except RevisionNotFoundError:
            continue
        if replace(held.spec, rollout=None) == replace(target, rollout=None):
            return True
    return False


async def served_before(app: str, apps: AppOperations) -> Sequence[int]:
    """Return the revisions that served, the one that does first, each once."""
    deploys: Sequence[Deploy] = await apps.deploys.deploys(app, limit=_DEPLOYS)
    return tuple(dict.fromkeys(each.revision for each in deploys if each.state is DeployState.SUCCEEDED))
