"""Events: what was changed, by whom and why, numbered in the order in which it became so; the audit and the live feed.

An event is appended in the transaction of the change that it tells of, so there is never one without the other.
Followers are woken by commits of this process at once, and look every second for those of others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.state.database import Database
from hunqi.state.tables import EVENTS

POLL_S: Final = 1.0
"""How often a follower looks for events of other processes."""
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the log. ``kind`` is ``<thing>.<past participle>``, such as ``deploy.succeeded``; ``at`` is in UTC."""

    seq: int
    at: str
    kind: str
    app: str | None
    subject: str
    actor: str
    reason: str
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])


def now() -> str:
    """Return this moment as all tables hold it: ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def append(
    connection: AsyncConnection,
    kind: str,
    *,
    actor: str,
    app: str | None = None,
    subject: str = "",
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> int:
    """Write an event in the caller's transaction and return its number. No secret may be in it."""
    row = {
        "at": now(),
        "kind": kind,
        "app": app,
        "subject": subject[:128],
        "actor": actor,
        "reason": reason,
        "data": json.dumps(dict(data or {}), ensure_ascii=False, separators=(",", ":")),
    }
    result = await connection.execute(insert(EVENTS).values(**row).returning(EVENTS.c.seq))
    return int(result.scalar_one())


class EventLog:
    """The events of one database."""

    def __init__(self, database: Database, *, poll_s: float = POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s

    async def read(
        self, *, after: int = 0, app: str | None = None, subject: str | None = None, limit: int = 100
    ) -> tuple[Event, ...]:
        """Return up to ``limit`` (at most 500) events after number ``after``, oldest first."""
        query = select(EVENTS).where(EVENTS.c.seq > after).order_by(EVENTS.c.seq).limit(min(limit, _PAGE))
        if app is not None:
            query = query.where(EVENTS.c.app == app)
        if subject is not None:
            query = query.where(EVENTS.c.subject == subject)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(Event(**{**row, "data": json.loads(row["data"])}) for row in rows)

    async def last(self) -> int:
        """Return the number of the newest event, 0 without any."""
        async with self._database.read() as connection:
            return int(await connection.scalar(select(func.max(EVENTS.c.seq))) or 0)

    async def removed(self, app: str) -> int:
        """Return the number of the last removal of an app of this name, 0 without any: older events are another's."""
        query = select(func.max(EVENTS.c.seq)).where(EVENTS.c.app == app, EVENTS.c.kind == "app.removed")
        async with self._database.read() as connection:
            return int(await connection.scalar(query) or 0)

    async def wait(self, *, after: int, timeout_s: float) -> bool:
        """Wait until there is an event after number ``after``; False when there was none in ``timeout_s``."""
        waited_s = 0.0
        while await self.last() <= after:
            if waited_s >= timeout_s:
                return False
            pause_s = min(self._poll_s, timeout_s - waited_s)
            if not await self._database.commits.wait(timeout_s=pause_s):
                waited_s += pause_s
        return True

    async def forget_before(self, at: str) -> int:
        """Remove the events before the moment ``at`` and return how many they were."""
        async with self._database.begin() as connection:
            return (await connection.execute(delete(EVENTS).where(EVENTS.c.at < at))).rowcount
