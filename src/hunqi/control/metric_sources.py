"""The servers that answer Prometheus queries: kept in the database, their tokens sealed, and asked by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiohttp
from sqlalchemy import delete, insert, select

from hunqi.state.database import Database
from hunqi.state.events import append, now
from hunqi.state.sealing import Sealer
from hunqi.state.tables import METRIC_SOURCES
from hunqi.telemetry.errors import SourceError, SourceNotFoundError
from hunqi.telemetry.model import Point
from hunqi.telemetry.operations import NewSource, SourceView
from hunqi.telemetry.prometheus import Prometheus, Server, check_url, tls_context

MOST_SOURCES: Final = 100


class MetricSources:
    """Implements ``Sources``."""

    def __init__(self, database: Database, sealer: Sealer, session: Callable[[], aiohttp.ClientSession]) -> None:
        self._database = database
        self._sealer = sealer
        self._session = session

    async def sources(self) -> Sequence[SourceView]:
        """Return all, by name."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(METRIC_SOURCES).order_by(METRIC_SOURCES.c.name))).mappings().all()
        return [self._view(dict(row)) for row in rows]

    async def put(self, name: str, source: NewSource, *, actor: str) -> SourceView:
        """Add one, or replace it. Raises ``SourceError``."""
        url = check_url(source.url)
        tls_context(source.ca_pem)
        if source.token is not None and (not source.token.isascii() or not source.token.isprintable()):
            raise SourceError("the token must be one line of printable ASCII")
        held = json.dumps({"token": source.token, "ca": source.ca_pem}).encode()
        sealed = self._sealer.seal(held, context=_context(name))
        row = {"name": name, "url": url, "sealed": sealed, "updated_at": now()}
        async with self._database.begin() as connection:
            names = set((await connection.execute(select(METRIC_SOURCES.c.name))).scalars())
            if len(names - {name}) >= MOST_SOURCES:
                raise SourceError(f"there are {MOST_SOURCES} metric sources: remove one first")
            await connection.execute(delete(METRIC_SOURCES).where(METRIC_SOURCES.c.name == name))
            await connection.execute(insert(METRIC_SOURCES).values(**row))
            await append(connection, "metric-source.set", actor=actor, subject=name)
        return self._view(row)

    async def remove(self, name: str, *, actor: str) -> None:
        """Forget one. Raises ``SourceNotFoundError``."""
        async with self._database.begin() as connection:
            done = await connection.execute(delete(METRIC_SOURCES).where(METRIC_SOURCES.c.name == name))
            if not done.rowcount:
                raise _unknown(name)
            await append(connection, "metric-source.removed", actor=actor, subject=name)

    async def value(self, name: str, query: str) -> float:
        """Return the one value of a query now. Raises what ``Sources`` says, and ``SealBrokenError``."""
        return await (await self._open(name)).value(query)

    async def values(self, name: str, query: str, *, start: float, end: float, step_s: float) -> Sequence[Point]:
        """Return the values of a query over a time. Raises as ``value``."""
        return await (await self._open(name)).values(query, start=start, end=end, step_s=step_s)

    async def _open(self, name: str) -> Prometheus:
        async with self._database.read() as connection:
            query = select(METRIC_SOURCES).where(METRIC_SOURCES.c.name == name)
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise _unknown(name)
        held = self._opened(dict(row))
        return Prometheus(self._session(), Server(url=row["url"], token=held["token"], ca_pem=held["ca"]))

    def _opened(self, row: dict[str, Any]) -> dict[str, str | None]:
        return json.loads(self._sealer.open(row["sealed"], context=_context(row["name"])))

    def _view(self, row: dict[str, Any]) -> SourceView:
        held = self._opened(row)
        return SourceView(
            name=row["name"],
            url=row["url"],
            has_token=held["token"] is not None,
            has_ca=held["ca"] is not None,
            updated_at=row["updated_at"],
        )


def _context(name: str) -> str:
    return f"metric-source/{name}"


def _unknown(name: str) -> SourceNotFoundError:
    return SourceNotFoundError(
        f"there is no metric source {name[:63]!r}: hunqi metrics source ls lists those there are"
    )
