"""Deploys as users ask for them: check, deploy, cancel, roll back. Implements ``operations.Deploys``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from hunqi.apps.errors import DeployEndedError, RevisionNotFoundError
from hunqi.apps.model import DeployState, Revision
from hunqi.apps.operations import Change, Checked, Deploy, Difference, RevisionSummary, Submission
from hunqi.apps.overlay import Overlay, with_overlay
from hunqi.apps.preparing import Preparing
from hunqi.apps.releasing import Release, Releasing
from hunqi.apps.state import DeployRecord
from hunqi.apps.store import AppStore
from hunqi.kit.codec import encode

_CANCELLABLE = frozenset({DeployState.PENDING, DeployState.STARTING, DeployState.SHIFTING, DeployState.SWITCHING})


def shown(record: DeployRecord) -> Deploy:
    """Return a deploy as it is shown."""
    return Deploy(
        id=record.id,
        app=record.app,
        revision=record.revision,
        from_revision=record.from_revision,
        state=record.state,
        sentence=record.progress.sentence,
        services=record.progress.services,
        problem=record.problem,
        actor=record.actor,
        reason=record.reason,
        created_at=record.created_at,
        updated_at=record.updated_at,
        finished_at=record.finished_at,
        notes=record.progress.notes,
    )


class AppDeploys:
    """Deploys of Compose projects, and the way back."""

    def __init__(
        self,
        store: AppStore,
        preparing: Preparing,
        releasing: Releasing,
        *,
        mark: Callable[[str], None],
    ) -> None:
        self._store = store
        self._preparing = preparing
        self._releasing = releasing
        self._mark = mark

    async def check(self, app: str, submission: Submission) -> Checked:
        """Say what a deploy would do. See ``operations.Deploys``."""
        return await self._preparing.check(app, submission)

    async def deploy(self, app: str, submission: Submission, change: Change) -> Deploy:
        """Make a revision and start to deploy it. See ``operations.Deploys``."""
        prepared = await self._preparing.prepare(app, submission)
        await self._preparing.look(prepared)
        record = await self._releasing.release(prepared.release, change)
        return replace(shown(record), notes=prepared.notes)

    async def deploys(self, app: str, *, limit: int = 50, before: str | None = None) -> Sequence[Deploy]:
        """Return deploys, newest first."""
        await self._store.find(app)
        return [shown(record) for record in await self._store.deploys(app, limit=limit, before=before)]

    async def find(self, app: str, deploy: str) -> Deploy:
        """Return one. Raises ``DeployNotFoundError``."""
        return shown(await self._store.deploy(app, deploy))

    async def cancel(self, app: str, deploy: str, change: Change) -> Deploy:
        """Have the old revision go on. Raises ``DeployNotFoundError``, ``DeployEndedError``."""
        async with self._store.database.begin() as connection:
            kept = await self._store.find_in(connection, app)
            under_way = kept.deploy is not None and kept.deploy.id == deploy
            if under_way and kept.deploy is not None and kept.deploy.state in _CANCELLABLE:
                sentence = f"cancelled by {change.actor}"
                await self._releasing.end(connection, kept, DeployState.CANCELLED, sentence, change)
                ended = False
            else:
                ended = True
        record = await self._store.deploy(app, deploy)
        if ended:
            raise DeployEndedError(
                f"the deploy is {record.state} and cannot be cancelled: hunqi app rollback {app} is the way back"
            )
        self._mark(app)
        return shown(record)

    async def rollback(self, app: str, revision: int, change: Change, *, direct: bool = False) -> Deploy:
        """Deploy the spec of a retained revision again. Raises ``RevisionNotFoundError``."""
        async with self._store.database.read() as connection:
            stored = await self._store.stored_in(connection, app, revision)
        retained = {held.number for held, kept in await self._store.revisions(app) if kept}
        if revision not in retained:
            raise RevisionNotFoundError(f"revision {revision} of {app} is no longer retained: deploy its file again")
        why = change.reason or f"back to revision {revision}"
        release = Release(app=app, spec=stored.spec, kind="rollback", direct=direct)
        return shown(await self._releasing.release(release, replace(change, reason=why)))


class AppRevisions:
    """What was deployed. Implements ``operations.Revisions``."""

    def __init__(self, store: AppStore) -> None:
        self._store = store

    async def history(self, app: str) -> Sequence[RevisionSummary]:
        """Return all revisions, newest first."""
        kept = await self._store.find(app)
        return [
            RevisionSummary(
                number=revision.number,
                live=revision.number == kept.app.live,
                retained=retained,
                images={name: service.image for name, service in revision.spec.services.items()},
                created_at=revision.created_at,
                actor=revision.actor,
                reason=revision.reason,
            )
            for revision, retained in await self._store.revisions(app)
        ]

    async def find(self, app: str, number: int) -> Revision:
        """Return one whole. Raises ``RevisionNotFoundError``."""
        return await self._store.revision(app, number)

    async def diff(self, app: str, before: int, after: int) -> Sequence[Difference]:
        """Return where two revisions differ, by path. Raises ``RevisionNotFoundError``."""
        old, new = await self.find(app, before), await self.find(app, after)
        one, other = _flat(_plain(old)), _flat(_plain(new))
        return [
            Difference(path=path, before=one.get(path), after=other.get(path))
            for path in sorted(one.keys() | other.keys())
            if one.get(path) != other.get(path)
        ]


def _plain(revision: Revision) -> Any:
    """Return the spec as JSON, without what was kept: that is laid over it already."""
    return encode(with_overlay(revision.spec, Overlay()))


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        found: dict[str, str] = {}
        held = cast("dict[str, Any]", value)  # plain JSON by its making
        for key, each in held.items():
            found |= _flat(each, f"{path}.{key}" if path else key)
        return found
    if isinstance(value, list):
        listed = cast("list[Any]", value)
        if all(isinstance(each, str) and "=" in each for each in listed):
            pairs: list[str] = listed
            return {f"{path}.{each.partition('=')[0]}": each.partition("=")[2] for each in pairs}
        found = {}
        for index, each in enumerate(listed):
            found |= _flat(each, f"{path}[{index}]")
        return found
    return {path: value if isinstance(value, str) else json.dumps(value)}
