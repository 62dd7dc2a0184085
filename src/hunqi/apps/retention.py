"""What is let go of: rows that nothing needs any more, so that the database does not grow for ever.

Retained revisions stay, with the one that serves, the one under way and those whose Swarm services these still use; of
ended deploys and runs the newest of each app, unless they are old; of events those that are young enough. A payload
goes with the last revision that shows it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.apps.overlay import KEY
from hunqi.apps.run_store import OPEN
from hunqi.apps.store import UNDER_WAY, text_of
from hunqi.errors import HunqiError
from hunqi.state.database import Database
from hunqi.state.events import EventLog
from hunqi.state.tables import APPS, DEPLOYS, PAYLOADS, REVISIONS, RUNS

EVERY_S: Final = 3600.0
EVENT_DAYS: Final = 365

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much is kept; numbers are per app."""

    revisions: int = 50
    """Newest revisions that can be looked at and compared; fewer of them can be rolled back to (``store.RETAINED``)."""
    deploys: int = 200
    deploy_days: int = 180
    runs: int = 200
    run_days: int = 90
    event_days: int = EVENT_DAYS
    """Of all apps and of the platform: the audit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows went."""

    revisions: int = 0
    payloads: int = 0
    deploys: int = 0
    runs: int = 0
    events: int = 0


class Pruning:
    """Lets go of rows while ``run`` runs (on the manager that leads). ``clock`` gives seconds since the epoch."""

    def __init__(self, database: Database, retention: Retention, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._keep: Final = retention
        self._clock = clock

    async def run(self) -> None:
        """Prune every hour until cancelled; the first time after a while, since a start has enough to do."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                pruned = await self.prune()
            except HunqiError as error:
                _log.warning("old rows could not be let go of: %s", error)
            else:
                _log.info("let go of old rows: %s", pruned)

    async def prune(self) -> Pruned:
        """Let go of what is beyond the retention, an app at a time. Raises what the database raises."""
        revisions = payloads = deploys = runs = 0
        async with self._database.read() as connection:
            apps = list((await connection.execute(select(APPS.c.name))).scalars())
        for app in apps:
            async with self._database.begin() as connection:
                revisions += await self._revisions(connection, app)
                payloads += await _payloads(connection, app)
                deploys += await self._deploys(connection, app)
                runs += await self._runs(connection, app)
        events = await EventLog(self._database).forget_before(self._ago(self._keep.event_days))
        return Pruned(revisions=revisions, payloads=payloads, deploys=deploys, runs=runs, events=events)

    async def _revisions(self, connection: AsyncConnection, app: str) -> int:
        own = REVISIONS.c.app == app
        columns = (REVISIONS.c.number, REVISIONS.c.retained, REVISIONS.c.origin)
        rows = (await connection.execute(select(*columns).where(own).order_by(REVISIONS.c.number.desc()))).all()
        if len(rows) <= self._keep.revisions:
            return 0
        runs = {await connection.scalar(select(APPS.c.live_revision).where(APPS.c.name == app))}
        under_way = select(DEPLOYS.c.revision, DEPLOYS.c.from_revision)
        for row in await connection.execute(under_way.where(DEPLOYS.c.app == app, DEPLOYS.c.state.in_(UNDER_WAY))):
            runs |= set(row)
        kept = {row.number for row in rows[: self._keep.revisions]} | {row.number for row in rows if row.retained}
        for row in rows:
            if row.number in runs:
                kept |= {row.number, *json.loads(row.origin).values()}
        gone = [row.number for row in rows if row.number not in kept]
        return await _delete(connection, REVISIONS, REVISIONS.c.number, gone, own)

    async def _deploys(self, connection: AsyncConnection, app: str) -> int:
        own = (DEPLOYS.c.app == app) & DEPLOYS.c.state.not_in(UNDER_WAY)
        query = select(DEPLOYS.c.id, DEPLOYS.c.created_at).where(own).order_by(DEPLOYS.c.id.desc())
        rows = (await connection.execute(query)).all()
        oldest = self._ago(self._keep.deploy_days)
        gone = [
            row.id
            for index, row in enumerate(rows)
            if index >= self._keep.deploys or (index and row.created_at < oldest)
        ]
        return await _delete(connection, DEPLOYS, DEPLOYS.c.id, gone, own)

    async def _runs(self, connection: AsyncConnection, app: str) -> int:
        """Let go of old runs, but for the last of each schedule: the next one is reckoned from it."""
        own = (RUNS.c.app == app) & RUNS.c.state.not_in(OPEN)
        columns = (RUNS.c.id, RUNS.c.service, RUNS.c.kind, RUNS.c.finished_at)
        rows = (await connection.execute(select(*columns).where(own).order_by(RUNS.c.id.desc()))).all()
        oldest, scheduled = self._ago(self._keep.run_days), set[str]()
        gone: list[str] = []
        for index, row in enumerate(rows):
            is_last = row.kind == "cron" and row.service not in scheduled
            if is_last:
                scheduled.add(row.service)
            elif index >= self._keep.runs or (row.finished_at or "") < oldest:
                gone.append(row.id)
        return await _delete(connection, RUNS, RUNS.c.id, gone, own)

    def _ago(self, days: int) -> str:
        return text_of(datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=days))


async def _payloads(connection: AsyncConnection, app: str) -> int:
    held = set((await connection.execute(select(PAYLOADS.c.digest).where(PAYLOADS.c.app == app))).scalars())
    if not held:
        return 0
    for spec in (await connection.execute(select(REVISIONS.c.spec).where(REVISIONS.c.app == app))).scalars():
        held -= set(shown_by(json.loads(spec)))
    return await _delete(connection, PAYLOADS, PAYLOADS.c.digest, sorted(held), PAYLOADS.c.app == app)


def shown_by(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield the digests of the payloads that a stored spec refers to, those kept for the app among them."""
    for kind in ("secrets", "configs"):
        for payload in spec.get(kind, {}).values():
            yield payload.get("digest", "").removeprefix("sha256:")
    for digest in spec.get("extensions", {}).get(KEY, {}).get("secrets", {}).values():
        yield digest.removeprefix("sha256:")


async def _delete(connection: AsyncConnection, table: Any, column: Any, keys: list[Any], own: Any) -> int:
    # tables and expressions of SQLAlchemy, whose types say less than they are
    for start in range(0, len(keys), 500):
        await connection.execute(delete(table).where(own, column.in_(keys[start : start + 500])))
    return len(keys)
