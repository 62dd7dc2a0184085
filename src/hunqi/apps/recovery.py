"""Mirrors what control knows into the Swarm, and rebuilds an empty database from it.

Mirrored are, per app, its record, its newest revisions, what is kept for it and the contents of its secrets, and once
for all, users, teams, tokens (hashed), certificates, nodes and settings. What is not: events, ended deploys, runs. A
deploy that was under way is not taken up: what served goes on serving.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from sqlalchemy import Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.apps.bundles import (
    KIND_MIRROR,
    LABEL_DIGEST,
    LABEL_OF,
    LABEL_SEQUENCE,
    OF_CLUSTER,
    Rows,
    newest,
    parts_of,
    rows_of,
    text_of_rows,
)
from hunqi.apps.ports import Seal
from hunqi.engine.errors import ConflictError, NotFoundError
from hunqi.engine.model import LABEL_CLUSTER, LABEL_KIND
from hunqi.engine.ports import Engine
from hunqi.errors import HunqiError, UserError
from hunqi.state.database import Database
from hunqi.state.events import EventLog, append
from hunqi.state.tables import (
    APPS,
    CERTIFICATES,
    GRANTS,
    HOOKS,
    MEMBERS,
    METADATA,
    METRIC_SOURCES,
    NODES,
    PAYLOADS,
    REVISIONS,
    ROUTES,
    SCALING,
    SETTINGS,
    TEAMS,
    TOKENS,
    USERS,
    VARIABLES,
)

REVISIONS_KEPT: Final = 5
"""Newest revisions of an app that are mirrored, beside the one that serves."""
PAUSE_S: Final = 2.0
"""Between rounds: changes of that time are mirrored together."""
_FOLLOW_S: Final = 60.0
_EVENTS: Final = 500
_SILENT: Final = frozenset({"deploy.progress", "service.scaled", "service.started"})
"""Kinds of events that change no row that is mirrored."""
_OF_BOTH: Final = frozenset({"app.grant-changed", "app.removed"})
"""Kinds of an app's events that change rows of the cluster's bundle: its grants."""
_SHARED: Final = (USERS, TEAMS, MEMBERS, GRANTS, TOKENS, CERTIFICATES, NODES, SETTINGS, METRIC_SOURCES, HOOKS)
_OF_APP: Final = (APPS, REVISIONS, PAYLOADS, VARIABLES, ROUTES, SCALING)

_log = logging.getLogger(__name__)


class NotEmptyError(UserError):
    """The database has apps in it already: a recovery goes into an empty one."""

    code: ClassVar[str] = "recover.not-empty"


class NothingMirroredError(UserError):
    """The Swarm has nothing of this cluster to rebuild from."""

    code: ClassVar[str] = "recover.nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a recovery brought back. ``problems`` are sentences about what it could not."""

    apps: tuple[str, ...]
    shared: bool
    problems: tuple[str, ...]


class Mirroring:
    """Keeps the Swarm's mirror of the database up to date while ``run`` runs (on the manager that leads)."""

    def __init__(
        self, database: Database, engine: Engine, seal: Seal, *, cluster: str, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._engine = engine
        self._seal = seal
        self._cluster = cluster
        self._clock = clock
        self._last_sequence = 0

    async def run(self) -> None:
        """Mirror everything, then what events tell of, until cancelled."""
        log = EventLog(self._database)
        seen, changed = 0, None
        while True:
            try:
                if changed is None:
                    seen = await log.last()
                    await self.mirror()
                elif changed:
                    await self.mirror(changed)
                changed = set[str]()
                await log.wait(after=seen, timeout_s=_FOLLOW_S)
                events = await log.read(after=seen, limit=_EVENTS)
                changed = {event.app or OF_CLUSTER for event in events if event.kind not in _SILENT}
                if any(event.kind in _OF_BOTH for event in events):
                    changed.add(OF_CLUSTER)
                seen = events[-1].seq if events else seen
            except HunqiError as error:
                changed = None
                _log.warning("the mirror in the Swarm is behind: %s", error)
            await asyncio.sleep(PAUSE_S)

    async def mirror(self, changed: Collection[str] | None = None) -> int:
        """Write what differs from the Swarm's mirror, of all or of those ``changed``; return how many that were.

        Raises the engine's errors.
        """
        there = await self._engine.configs.list({LABEL_CLUSTER: self._cluster, LABEL_KIND: KIND_MIRROR})
        complete = newest(there)
        # A leader before this one may have had a clock that is ahead.
        earlier = (int(parts[0].labels[LABEL_SEQUENCE]) for parts in complete.values())
        self._last_sequence = max(self._last_sequence, *earlier, 0)
        written = 0
        bundles = await self._bundles(changed)
        for of, rows in bundles.items():
            text = text_of_rows(rows)
            digest = hashlib.sha256(text.encode()).hexdigest()[:32]
            if of in complete and complete[of][0].labels.get(LABEL_DIGEST) == digest:
                continue
            await self._write(of, text, digest)
            written += 1
        gone = set(changed or complete) - set(bundles) - {OF_CLUSTER}
        if written or gone:
            await self._sweep(gone)
        return written

    async def _bundles(self, changed: Collection[str] | None) -> dict[str, Rows]:
        bundles: dict[str, Rows] = {}
        async with self._database.read() as connection:

            async def rows(table: Table, app: str | None = None) -> list[dict[str, Any]]:
                query = select(table)
                if app is not None:
                    query = query.where((table.c.name if table is APPS else table.c.app) == app)
                return [dict(row) for row in (await connection.execute(query)).mappings()]

            if changed is None or OF_CLUSTER in changed:
                bundles[OF_CLUSTER] = {table.name: await rows(table) for table in _SHARED}
            names = (await connection.execute(select(APPS.c.name))).scalars().all()
            for name in [name for name in names if changed is None or name in changed]:
                held = {table.name: await rows(table, name) for table in _OF_APP}
                held[REVISIONS.name] = _newest_revisions(held[REVISIONS.name], held[APPS.name][0]["live_revision"])
                bundles[name] = held
        return bundles

    async def _write(self, of: str, text: str, digest: str) -> None:
        self._last_sequence = max(self._last_sequence + 1, int(self._clock() * 1000))
        for part in parts_of(of, text, digest, sequence=self._last_sequence, cluster=self._cluster, seal=self._seal):
            with suppress(ConflictError):
                await self._engine.configs.create(part.name, part.data, labels=part.labels)

    async def _sweep(self, gone: set[str]) -> None:
        """Remove older bundles, and those of apps that are gone."""
        there = await self._engine.configs.list({LABEL_CLUSTER: self._cluster, LABEL_KIND: KIND_MIRROR})
        kept = {(of, parts[0].labels[LABEL_SEQUENCE]) for of, parts in newest(there).items() if of not in gone}
        for config in there:
            if (config.labels.get(LABEL_OF, ""), config.labels.get(LABEL_SEQUENCE, "")) not in kept:
                with suppress(NotFoundError):
                    await self._engine.configs.remove(config.id)


async def recover(database: Database, engine: Engine, seal: Seal, *, cluster: str, actor: str) -> Recovered:
    """Fill an empty database from what is mirrored in the Swarm.

    Raises ``NotEmptyError``, ``NothingMirroredError``, and what the engine and the database raise; then nothing was
    written. A bundle that cannot be read is left out and named.
    """
    bundles = newest(await engine.configs.list({LABEL_CLUSTER: cluster, LABEL_KIND: KIND_MIRROR}))
    if not bundles:
        raise NothingMirroredError(f"the Swarm has no mirror of the cluster {cluster}: run this on a manager of it")
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    problems: list[str] = []
    for of, parts in bundles.items():
        try:
            found[of] = rows_of(of, parts, cluster=cluster, seal=seal)
        except HunqiError as error:
            problems.append(str(error))
    apps = sorted(of for of in found if of != OF_CLUSTER)
    async with database.begin() as connection:
        if await connection.scalar(select(func.count()).select_from(APPS)):
            raise NotEmptyError("this database has apps in it: recover into an empty one")
        teams = await _fill_shared(connection, found.get(OF_CLUSTER, {}))
        for app in apps:
            team = found[app][APPS.name][0]["team_id"]
            if team not in teams:
                row = {"id": team, "name": f"recovered-{team[:40]}", "quota": "{}", "created_at": ""}
                await connection.execute(insert(TEAMS).values(**row))
                teams.add(team)
            for table in _OF_APP:
                for row in found[app].get(table.name, []):
                    await connection.execute(insert(table).values(**_known(table, row)))
        await append(connection, "control.recovered", actor=actor, reason=f"{len(apps)} apps from the Swarm's mirror")
    return Recovered(apps=tuple(apps), shared=OF_CLUSTER in found, problems=tuple(problems))


async def _fill_shared(connection: AsyncConnection, rows: Mapping[str, list[dict[str, Any]]]) -> set[str]:
    """Put back what belongs to all apps where the table is still empty; return the ids of the teams there are."""
    for table in _SHARED:
        if await connection.scalar(select(func.count()).select_from(table)):
            continue
        for row in rows.get(table.name, []):
            await connection.execute(insert(table).values(**_known(table, row)))
    return set((await connection.execute(select(TEAMS.c.id))).scalars())


def _known(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a row this version has columns for."""
    columns = METADATA.tables[table.name].c
    return {key: value for key, value in row.items() if key in columns}


def _newest_revisions(rows: list[dict[str, Any]], live: int | None) -> list[dict[str, Any]]:
    """Return the newest revisions, the one that serves, and those that its services last changed in."""
    ordered = sorted(rows, key=lambda row: row["number"], reverse=True)
    needed = {row["number"] for row in ordered[:REVISIONS_KEPT]} | {live}
    for row in rows:
        if row["number"] == live:
            needed |= set(json.loads(row["origin"]).values())
    return [row for row in reversed(ordered) if row["number"] in needed]
