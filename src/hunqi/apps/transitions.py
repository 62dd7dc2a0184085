"""Steps done in the database: what a deploy has reached, what was decided. Each checks that it is still asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.apps.model import DeployState
from hunqi.apps.operations import Problem
from hunqi.apps.state import AppRecord, DeployRecord, Desired
from hunqi.apps.steps import Advance, Fail, Forget, NoteStarted, PinVolumes, Plan
from hunqi.apps.store import AppStore, Kept
from hunqi.errors import InvariantError
from hunqi.state.events import append

ACTOR: Final = "hunqi"
"""Who does what nobody asked for by name."""
KeptStep: TypeAlias = PinVolumes | NoteStarted | Advance | Fail | Forget


class OvertakenError(Exception):
    """Somebody changed the app since the plan was made: plan again."""


class Transitions:
    """Does steps in the database. ``clock`` gives seconds since the epoch."""

    def __init__(self, store: AppStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def do(self, step: KeptStep, kept: Kept, problem: Problem | None = None) -> None:
        """Do one step for the app as it was when ``kept`` was read. Raises ``OvertakenError``."""
        async with self._store.database.begin() as connection:
            now = await self._store.find_in(connection, kept.app.name)
            if now.app.generation != kept.app.generation or _stage(now.deploy) != _stage(kept.deploy):
                raise OvertakenError
            match step:
                case PinVolumes():
                    intent = dataclasses.replace(now.app.intent, pins={**now.app.intent.pins, **step.pins})
                    await self._store.change(connection, now.app, at=self._now(), intent=intent)
                    await self._event(connection, "volume.pinned", now, step.sentence, {"pins": dict(step.pins)})
                case NoteStarted():
                    deploy = _under_way(now)
                    started = {**deploy.progress.started, step.service: self._clock()}
                    progress = dataclasses.replace(deploy.progress, started=started)
                    await self._store.set_deploy(
                        connection, deploy, state=deploy.state, progress=progress, at=self._now()
                    )
                case Advance():
                    await self._advance(connection, step, now)
                case Fail():
                    await self._end(connection, now, step.sentence, problem)
                case Forget():
                    if now.app.desired is not Desired.REMOVED:
                        raise OvertakenError
                    await self._event(connection, "app.removed", now, step.sentence, {})
                    await self._store.forget(connection, now.app.name)
                case _:
                    assert_never(step)

    async def note(self, kept: Kept, plan: Plan) -> bool:
        """Persist what a deploy under way waits for, if that is news; say whether it was."""
        deploy = kept.deploy
        if deploy is None:
            return False
        if deploy.progress.sentence == plan.sentence and (
            not plan.services or deploy.progress.services == plan.services
        ):
            return False
        async with self._store.database.begin() as connection:
            now = await self._store.find_in(connection, kept.app.name)
            if _stage(now.deploy) != _stage(deploy):
                return False
            current = _under_way(now)
            progress = dataclasses.replace(
                current.progress, sentence=plan.sentence, services=plan.services or current.progress.services
            )
            await self._store.set_deploy(connection, current, state=current.state, progress=progress, at=self._now())
            data = {"state": current.state.value, "services": [dataclasses.asdict(each) for each in progress.services]}
            await append(
                connection,
                "deploy.progress",
                app=deploy.app,
                subject=deploy.id,
                actor=ACTOR,
                reason=plan.sentence,
                data=data,
            )
        return True

    async def event(self, kind: str, app: AppRecord, sentence: str, subject: str) -> None:
        """Write down what was done for an app, where nothing else changes in the database."""
        async with self._store.database.begin() as connection:
            await append(connection, kind, app=app.name, subject=subject, actor=ACTOR, reason=sentence)

    async def _advance(self, connection: AsyncConnection, step: Advance, now: Kept) -> None:
        deploy = _under_way(now)
        progress = dataclasses.replace(deploy.progress, changed_at=self._clock(), sentence=step.sentence)
        if step.live is not None:
            auto = {**now.app.intent.auto, **dict.fromkeys(step.awake, 1)}
            intent = dataclasses.replace(now.app.intent, auto=auto)
            await self._store.change(connection, now.app, at=self._now(), live=step.live, intent=intent)
        await self._store.set_deploy(
            connection, deploy, state=step.state, progress=progress, at=self._now(), problem=step.problem
        )
        await self._event(connection, f"deploy.{step.state}", now, step.sentence, {"revision": deploy.revision})

    async def _end(self, connection: AsyncConnection, now: Kept, sentence: str, problem: Problem | None) -> None:
        deploy = _under_way(now)
        progress = dataclasses.replace(deploy.progress, changed_at=self._clock(), sentence=sentence)
        await self._store.set_deploy(
            connection, deploy, state=DeployState.FAILED, progress=progress, at=self._now(), problem=problem
        )
        await self._event(connection, "deploy.failed", now, sentence, {"revision": deploy.revision})

    async def _event(
        self, connection: AsyncConnection, kind: str, now: Kept, sentence: str, data: dict[str, Any]
    ) -> None:
        subject = now.deploy.id if now.deploy is not None else ""
        await append(connection, kind, app=now.app.name, subject=subject, actor=ACTOR, reason=sentence, data=data)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _stage(deploy: DeployRecord | None) -> tuple[str, DeployState, int] | None:
    """Return what must be as it was for a step to be done: a decision made meanwhile changes what is to be done."""
    if deploy is None:
        return None
    shift = deploy.progress.shift
    return deploy.id, deploy.state, shift.number if shift is not None else -1


def _under_way(kept: Kept) -> DeployRecord:
    if kept.deploy is None:
        raise InvariantError("a step of a deploy without a deploy")
    return kept.deploy
