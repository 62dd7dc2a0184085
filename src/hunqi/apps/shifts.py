"""The deploys that move by decisions, and the decisions taken of them. Implements ``shifting.Shifts``.

A decision is a row before anything is done: it is persisted in the deploy's progress, and the planner brings the app to
it. Who decides says which decision theirs follows, so that two never decide at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from hunqi.apps.controller import Controller
from hunqi.apps.errors import AppNotFoundError, DeployEndedError
from hunqi.apps.model import DeployState
from hunqi.apps.plan_shifting import in_force, lane_ready, sentence_of
from hunqi.apps.shifting import Shift, Shifting, Verdict
from hunqi.apps.situation import Situation
from hunqi.apps.split import split
from hunqi.apps.state import DeployRecord
from hunqi.apps.store import AppStore
from hunqi.apps.transitions import OvertakenError
from hunqi.kit.codec import encode
from hunqi.state.events import append

_OPEN: Final = frozenset({DeployState.PENDING, DeployState.STARTING, DeployState.SHIFTING})


class AppShifts:
    """Shifts as persisted, with what the controller of this process sees of them."""

    def __init__(self, store: AppStore, controller: Controller) -> None:
        self._store = store
        self._controller = controller

    async def under_way(self) -> Sequence[Shifting]:
        """Return every deploy that has a shift and has not ended."""
        names = [kept.app.name for kept in await self._store.all() if kept.deploy and kept.deploy.progress.shift]
        found = [await self.find(name) for name in names]
        return [each for each in found if each is not None]

    async def find(self, app: str) -> Shifting | None:
        """Return the app's, None if it has none under way."""
        try:
            at = await self._controller.observe(app)
        except AppNotFoundError:
            return None
        deploy = at.deploy
        if deploy is None or deploy.progress.shift is None or deploy.from_revision is None:
            return None
        return await self._shown(at, deploy, deploy.progress.shift, deploy.from_revision)

    async def _shown(self, at: Situation, deploy: DeployRecord, shift: Shift, base: int) -> Shifting:
        stable = await self._store.revision(deploy.app, base)
        target = await self._store.revision(deploy.app, deploy.revision)
        parts = split(stable, target)
        return Shifting(
            app=deploy.app,
            deploy=deploy.id,
            shift=shift,
            target=target,
            stable=stable,
            changed=parts.own,
            postponed=parts.postponed,
            shifting=deploy.state not in {DeployState.PENDING, DeployState.STARTING},
            ready=lane_ready(at),
            in_force=in_force(at),
            wanted={each: at.wanted(target.spec.services[each]) for each in parts.own},
            services=deploy.progress.services,
            sentence=deploy.progress.sentence,
        )

    async def decide(self, app: str, deploy: str, shift: Shift, *, sentence: str = "", actor: str = "hunqi") -> None:
        """Persist a decision. See ``shifting.Shifts``."""
        async with self._store.database.begin() as connection:
            kept = await self._store.find_in(connection, app)
            held = kept.deploy
            before = held.progress.shift if held is not None else None
            if held is None or held.id != deploy or before is None:
                raise DeployEndedError(f"the deploy {deploy[:40]!r} of {app} has ended, or moves all at once")
            now = self._controller.now()
            made = shift if shift.decided_at else replace(shift, decided_at=now)
            if replace(made, decided_at=before.decided_at) == before:
                return
            _check(held, before, made)
            said = sentence or sentence_of(made, await self._store.revision_in(connection, app, held.revision))
            progress = replace(held.progress, shift=made, sentence=said)
            at = datetime.fromtimestamp(now, UTC)
            await self._store.set_deploy(connection, held, state=held.state, progress=progress, at=at)
            data = {"revision": held.revision, "shift": encode(made)}
            await append(connection, "deploy.shift", app=app, subject=deploy, actor=actor, reason=said, data=data)
        self._controller.mark(app)


def _check(deploy: DeployRecord, before: Shift, made: Shift) -> None:
    """Raise if the decision does not follow the one before it, or comes too late."""
    if deploy.state not in _OPEN:
        raise DeployEndedError(f"revision {deploy.revision} is being switched to: a rollback is the way back")
    if before.verdict is Verdict.ABORT:
        raise DeployEndedError(f"revision {deploy.revision} has been aborted")
    if made.number != before.number + 1 or (before.verdict is Verdict.PROMOTE and made.verdict is Verdict.GO_ON):
        raise OvertakenError
