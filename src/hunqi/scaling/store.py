"""What elastic scaling keeps: what users set in place of files, what the loop remembers, and its last decisions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.apps.operations import Change
from hunqi.apps.scale_spec import ScaleSpec
from hunqi.kit.codec import CodecError, dumps, loads
from hunqi.scaling.model import Decision, Remembered
from hunqi.state.database import Database
from hunqi.state.events import append, now
from hunqi.state.tables import SCALING, SCALING_DECISIONS

MOST_DECISIONS: Final = 300
"""Of each service; the oldest go."""
_log: Final = logging.getLogger(__name__)
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a user has set in place of the file's: a spec, or that it is off."""

    spec: ScaleSpec | None = None
    off: bool = False


class ScalingStore:
    """The tables ``scaling`` and ``scaling_decisions``; this room writes them alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def given(self, app: str | None = None) -> Mapping[Key, Given]:
        """Return what users have set, by app and service."""
        query = select(SCALING.c.app, SCALING.c.service, SCALING.c.spec).where(SCALING.c.spec.is_not(None))
        async with self._database.read() as connection:
            rows = (await connection.execute(query if app is None else query.where(SCALING.c.app == app))).all()
        found: dict[Key, Given] = {}
        for row in rows:
            try:
                found[row.app, row.service] = loads(Given, row.spec)
            except CodecError as error:
                _log.warning("app=%s service=%s: what was set for its scaling cannot be read: %s", *row[:2], error)
        return found

    async def give(self, app: str, service: str, given: Given | None, kind: str, change: Change) -> None:
        """Keep what a user sets, None for the file's again."""
        values = {"spec": None if given is None else dumps(given), "actor": change.actor, "updated_at": now()}
        async with self._database.begin() as connection:
            await _put(connection, (app, service), values)
            await append(connection, kind, app=app, subject=service, actor=change.actor, reason=change.reason)

    async def remembered(self) -> Mapping[Key, Remembered]:
        """Return what the loop remembered of each service."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(SCALING.c.app, SCALING.c.service, SCALING.c.memory))).all()
        found: dict[Key, Remembered] = {}
        for row in rows:
            try:
                found[row.app, row.service] = loads(Remembered, row.memory)
            except CodecError:
                _log.warning("app=%s service=%s: its memory cannot be read: it begins anew", row.app, row.service)
        return found

    async def remember(self, key: Key, memory: Remembered, decision: Decision | None, *, told: str = "") -> None:
        """Keep the memory, a decision with it, and an event that machines are short if ``told`` says so."""
        app, service = key
        async with self._database.begin() as connection:
            await _put(connection, key, {"memory": dumps(memory), "updated_at": now()})
            if decision is not None:
                row = {"app": app, "service": service, "at": decision.at, "data": dumps(decision)}
                await connection.execute(insert(SCALING_DECISIONS).values(**row))
                await _trim(connection, key)
            if told and decision is not None:
                data = {"service": service, "wanted": decision.wanted + decision.short, "short": decision.short}
                await append(
                    connection, "scaling.short", app=app, subject=service, actor="hunqi", reason=told, data=data
                )

    async def decisions(self, app: str, *, service: str | None, limit: int) -> Sequence[Decision]:
        """Return the last decisions, newest first."""
        query = select(SCALING_DECISIONS.c.data).where(SCALING_DECISIONS.c.app == app)
        if service is not None:
            query = query.where(SCALING_DECISIONS.c.service == service)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(SCALING_DECISIONS.c.seq.desc()).limit(limit))).all()
        return [loads(Decision, row.data) for row in rows]


async def _put(connection: AsyncConnection, key: Key, values: Mapping[str, object]) -> None:
    here = (SCALING.c.app == key[0]) & (SCALING.c.service == key[1])
    changed = await connection.execute(update(SCALING).where(here).values(**values))
    if changed.rowcount == 0:
        await connection.execute(insert(SCALING).values(app=key[0], service=key[1], **values))


async def _trim(connection: AsyncConnection, key: Key) -> None:
    own = (SCALING_DECISIONS.c.app == key[0]) & (SCALING_DECISIONS.c.service == key[1])
    newest = select(SCALING_DECISIONS.c.seq).where(own).order_by(SCALING_DECISIONS.c.seq.desc())
    oldest = (await connection.execute(newest.offset(MOST_DECISIONS).limit(1))).scalar()
    if oldest is not None:
        await connection.execute(delete(SCALING_DECISIONS).where(own & (SCALING_DECISIONS.c.seq <= oldest)))
