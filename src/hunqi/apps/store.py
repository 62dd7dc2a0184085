"""Apps, revisions and deploys in the database. Each method is one transaction; events are written with their change."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.apps.errors import AppNotFoundError, DeployNotFoundError, RevisionNotFoundError
from hunqi.apps.model import AppSpec, DeployState, Revision
from hunqi.apps.operations import Change, Problem, Replacing
from hunqi.apps.overlay import effective
from hunqi.apps.state import AppRecord, DeployRecord, Desired, Intent, Progress
from hunqi.kit.codec import dumps, loads
from hunqi.state.database import Database
from hunqi.state.events import append
from hunqi.state.tables import APPS, DEPLOYS, HOOKS, PAYLOADS, REVISIONS, RUNS, VARIABLES

RETAINED: Final = 10
"""Revisions that stay to be rolled back to, beside the live one."""
_KNOWN: Final = 2000
"""Revisions kept in memory: they never change."""
UNDER_WAY: Final = tuple(state.value for state in DeployState if not state.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is persisted of one app, read at once."""

    app: AppRecord
    deploy: DeployRecord | None
    """The one under way."""


def text_of(moment: datetime) -> str:
    """Return a moment as the tables hold it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class AppStore:
    """The tables of apps. Methods that change something take the ``connection`` of the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self.database: Final = database
        self._known: dict[tuple[str, int], Revision] = {}

    async def names(self) -> list[str]:
        """Return the names of all apps."""
        async with self.database.read() as connection:
            return list((await connection.execute(select(APPS.c.name).order_by(APPS.c.name))).scalars())

    async def all(self) -> list[Kept]:
        """Return every app with its deploy under way."""
        async with self.database.read() as connection:
            apps = [_app(row) for row in (await connection.execute(select(APPS).order_by(APPS.c.name))).mappings()]
            rows = await connection.execute(select(DEPLOYS).where(DEPLOYS.c.state.in_(UNDER_WAY)))
            deploys = {row["app"]: _deploy(row) for row in rows.mappings()}
        return [Kept(app=app, deploy=deploys.get(app.name)) for app in apps]

    async def find(self, app: str) -> Kept:
        """Return one app. Raises ``AppNotFoundError``."""
        async with self.database.read() as connection:
            return await self.find_in(connection, app)

    async def find_in(self, connection: AsyncConnection, app: str) -> Kept:
        """Return one app within a transaction. Raises ``AppNotFoundError``."""
        row = (await connection.execute(select(APPS).where(APPS.c.name == app))).mappings().first()
        if row is None:
            raise AppNotFoundError(f"there is no app {app!r}: hunqi app ls shows those there are")
        query = select(DEPLOYS).where(DEPLOYS.c.app == app, DEPLOYS.c.state.in_(UNDER_WAY))
        deploy = (await connection.execute(query.order_by(DEPLOYS.c.created_at.desc()))).mappings().first()
        return Kept(app=_app(row), deploy=_deploy(deploy) if deploy else None)

    async def create(self, connection: AsyncConnection, app: str, *, team: str, at: datetime, change: Change) -> None:
        """Make an app without revisions."""
        moment = text_of(at)
        await connection.execute(
            insert(APPS).values(
                name=app, team_id=team, desired=Desired.RUNNING.value, intent="{}", created_at=moment, updated_at=moment
            )
        )
        await append(connection, "app.created", app=app, actor=change.actor, reason=change.reason)

    async def change(
        self,
        connection: AsyncConnection,
        app: AppRecord,
        *,
        at: datetime,
        intent: Intent | None = None,
        desired: Desired | None = None,
        live: int | None = None,
    ) -> None:
        """Change what is given of an app, and raise its generation."""
        values: dict[str, Any] = {"updated_at": text_of(at), "generation": APPS.c.generation + 1}
        if intent is not None:
            values["intent"] = dumps(intent)
        if desired is not None:
            values["desired"] = desired.value
        if live is not None:
            values["live_revision"] = live
        await connection.execute(update(APPS).where(APPS.c.name == app.name).values(**values))

    async def forget(self, connection: AsyncConnection, app: str) -> None:
        """Remove an app with all its rows, events excepted."""
        for table in (PAYLOADS, VARIABLES, RUNS, HOOKS):
            await connection.execute(delete(table).where(table.c.app == app))
        for table in (DEPLOYS, REVISIONS):
            await connection.execute(delete(table).where(table.c.app == app))
        await connection.execute(delete(APPS).where(APPS.c.name == app))
        self._known.clear()

    # revisions
    async def revision(self, app: str, number: int) -> Revision:
        """Return a revision as it runs: with what was kept laid over it. Raises ``RevisionNotFoundError``."""
        held = self._known.get((app, number))
        if held is None:
            async with self.database.read() as connection:
                held = await self.revision_in(connection, app, number)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[app, number] = held
        return held

    async def revision_in(self, connection: AsyncConnection, app: str, number: int) -> Revision:
        """Return a revision within a transaction, as it runs. Raises ``RevisionNotFoundError``."""
        stored = await self.stored_in(connection, app, number)
        return replace(stored, spec=effective(stored.spec))

    async def stored_in(self, connection: AsyncConnection, app: str, number: int) -> Revision:
        """Return a revision as it is stored: nothing laid over it. Raises ``RevisionNotFoundError``."""
        query = select(REVISIONS).where(REVISIONS.c.app == app, REVISIONS.c.number == number)
        row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise RevisionNotFoundError(
                f"{app} has no revision {number}: hunqi app history {app} shows those there are"
            )
        return _revision(row)

    async def revisions(self, app: str) -> list[tuple[Revision, bool]]:
        """Return all revisions, newest first, each with whether it is retained."""
        async with self.database.read() as connection:
            query = select(REVISIONS).where(REVISIONS.c.app == app).order_by(REVISIONS.c.number.desc())
            rows = (await connection.execute(query)).mappings().all()
        return [(_effective(row), bool(row["retained"])) for row in rows]

    async def next_number(self, connection: AsyncConnection, app: str) -> int:
        """Return the number of the next revision: never one that was used."""
        last = await connection.scalar(select(func.max(REVISIONS.c.number)).where(REVISIONS.c.app == app))
        return (last or 0) + 1

    async def add_revision(self, connection: AsyncConnection, revision: Revision, *, digest: str) -> None:
        """Keep a revision, and let go of those beyond the retained ones that nothing runs of."""
        await connection.execute(
            insert(REVISIONS).values(
                app=revision.app,
                number=revision.number,
                spec=dumps(revision.spec),
                spec_digest=digest,
                origin=dumps(revision.origin),
                retained=True,
                created_at=text_of(revision.created_at),
                actor=revision.actor,
                reason=revision.reason,
            )
        )
        live = select(APPS.c.live_revision).where(APPS.c.name == revision.app).scalar_subquery()
        await connection.execute(
            update(REVISIONS)
            .where(
                REVISIONS.c.app == revision.app,
                REVISIONS.c.number <= revision.number - RETAINED,
                REVISIONS.c.number != func.coalesce(live, 0),
            )
            .values(retained=False)
        )

    async def retained_images(self) -> dict[str, set[str]]:
        """Return, by app, the images of its retained revisions: those that are to be kept."""
        query = select(REVISIONS.c.app, REVISIONS.c.spec).where(REVISIONS.c.retained)
        images: dict[str, set[str]] = {}
        async with self.database.read() as connection:
            for row in (await connection.execute(query)).mappings():
                services = json.loads(row["spec"])["services"]
                images.setdefault(row["app"], set()).update(each["image"] for each in services.values())
        return images

    # deploys
    async def add_deploy(self, connection: AsyncConnection, deploy: DeployRecord) -> None:
        """Keep a new deploy."""
        await connection.execute(
            insert(DEPLOYS).values(
                id=deploy.id,
                app=deploy.app,
                revision=deploy.revision,
                from_revision=deploy.from_revision,
                state=deploy.state.value,
                progress=dumps(deploy.progress),
                actor=deploy.actor,
                reason=deploy.reason,
                created_at=text_of(deploy.created_at),
                updated_at=text_of(deploy.updated_at),
                finished_at=text_of(deploy.finished_at) if deploy.finished_at else None,
            )
        )

    async def set_deploy(
        self,
        connection: AsyncConnection,
        deploy: DeployRecord,
        *,
        state: DeployState,
        progress: Progress,
        at: datetime,
        problem: Problem | None = None,
    ) -> None:
        """Bring a deploy into ``state``. One that has ended stays as it is."""
        values: dict[str, Any] = {"state": state.value, "progress": dumps(progress), "updated_at": text_of(at)}
        if problem is not None:
            values["problem"] = dumps(problem)
        if state.ended:
            values["finished_at"] = text_of(at)
        await connection.execute(
            update(DEPLOYS).where(DEPLOYS.c.id == deploy.id, DEPLOYS.c.state.in_(UNDER_WAY)).values(**values)
        )

    async def deploy(self, app: str, deploy: str) -> DeployRecord:
        """Return one deploy. Raises ``DeployNotFoundError``."""
        async with self.database.read() as connection:
            query = select(DEPLOYS).where(DEPLOYS.c.app == app, DEPLOYS.c.id == deploy)
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise DeployNotFoundError(f"{app} has no deploy {deploy[:40]!r}")
        return _deploy(row)

    async def deploys(self, app: str, *, limit: int, before: str | None) -> Sequence[DeployRecord]:
        """Return deploys, newest first; ids grow with time."""
        query = select(DEPLOYS).where(DEPLOYS.c.app == app).order_by(DEPLOYS.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(DEPLOYS.c.id < before)
        async with self.database.read() as connection:
            return [_deploy(row) for row in (await connection.execute(query)).mappings()]

    async def in_batches(self, app: str, revisions: Collection[int]) -> frozenset[int]:
        """Return which of ``revisions`` were deployed by batches."""
        query = select(DEPLOYS).where(DEPLOYS.c.app == app, DEPLOYS.c.revision.in_(revisions))
        async with self.database.read() as connection:
            deploys = [_deploy(row) for row in (await connection.execute(query)).mappings()]
        return frozenset(each.revision for each in deploys if each.progress.replacing is Replacing.BATCHES)

    # payloads
    async def add_payloads(
        self, connection: AsyncConnection, app: str, sealed: Mapping[str, bytes], *, at: datetime
    ) -> None:
        """Keep sealed contents by digest; those that are there already stay."""
        known = set((await connection.execute(select(PAYLOADS.c.digest).where(PAYLOADS.c.app == app))).scalars())
        for digest, content in sealed.items():
            if digest not in known:
                await connection.execute(
                    insert(PAYLOADS).values(app=app, digest=digest, sealed=content, created_at=text_of(at))
                )

    async def payload(self, app: str, digest: str) -> bytes | None:
        """Return sealed content."""
        async with self.database.read() as connection:
            query = select(PAYLOADS.c.sealed).where(PAYLOADS.c.app == app, PAYLOADS.c.digest == digest)
            return await connection.scalar(query)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _app(row: RowMapping) -> AppRecord:
    return AppRecord(
        name=row["name"],
        team=row["team_id"],
        desired=Desired(row["desired"]),
        live=row["live_revision"],
        intent=loads(Intent, row["intent"]),
        generation=row["generation"],
        created_at=_moment(row["created_at"]),
        updated_at=_moment(row["updated_at"]),
    )


def _revision(row: RowMapping) -> Revision:
    return Revision(
        app=row["app"],
        number=row["number"],
        spec=loads(AppSpec, row["spec"]),
        origin=json.loads(row["origin"]),
        created_at=_moment(row["created_at"]),
        actor=row["actor"],
        reason=row["reason"],
    )


def _effective(row: RowMapping) -> Revision:
    stored = _revision(row)
    return replace(stored, spec=effective(stored.spec))


def _deploy(row: RowMapping) -> DeployRecord:
    return DeployRecord(
        id=row["id"],
        app=row["app"],
        revision=row["revision"],
        from_revision=row["from_revision"],
        state=DeployState(row["state"]),
        progress=loads(Progress, row["progress"]),
        problem=loads(Problem, row["problem"]) if row["problem"] else None,
        actor=row["actor"],
        reason=row["reason"],
        created_at=_moment(row["created_at"]),
        updated_at=_moment(row["updated_at"]),
        finished_at=_moment(row["finished_at"]) if row["finished_at"] else None,
    )
