"""The database of control: one writer at a time, many readers, SQLite or PostgreSQL behind the same two verbs.

``begin`` opens a write transaction, ``read`` a snapshot to read from. Writes are serial in the whole cluster, on SQLite
by ``BEGIN IMMEDIATE``, on PostgreSQL by an advisory lock: control writes little, and so what was read inside ``begin``
is still true when it commits, on both databases alike. A *fence* (a lease) is checked first in each write transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hunqi.state.engines import BUSY_TIMEOUT_S, Url, make_engine, parse_url
from hunqi.state.errors import translate, translated
from hunqi.state.schema import migrate

_WRITE_LOCK: Final = 0x68756E7169
"""The key of PostgreSQL's advisory lock: "hunqi"."""


class Fence(Protocol):
    """Something that must hold for a write to be made: a lease."""

    async def check(self, connection: AsyncConnection) -> None:
        """Raise ``LeaseLostError`` if the write must not be made."""
        ...


class Commits:
    """Wakes those who wait for a change that this process made."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def announce(self) -> None:
        """Wake all who wait now."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, *, timeout_s: float) -> bool:
        """Wait for the next write of this process; False when ``timeout_s`` passed without one."""
        happened = self._next
        try:
            async with asyncio.timeout(timeout_s):
                await happened.wait()
        except TimeoutError:
            return False
        return True


class Database:
    """An open database; made by :func:`open_database`. Its ``repr`` shows no password."""

    def __init__(
        self,
        url: Url,
        *,
        writer: AsyncEngine,
        reader: AsyncEngine,
        commits: Commits,
        turns: asyncio.Lock,
        fence: Fence | None = None,
    ) -> None:
        self.url = url
        self.commits = commits
        self._writer = writer
        self._reader = reader
        self._turns = turns
        self._fence = fence

    def __repr__(self) -> str:
        return f"Database({self.url})"

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.url.is_sqlite

    def fenced(self, fence: Fence) -> Database:
        """Return the same database, each of whose writes is made only while ``fence`` holds."""
        return Database(
            self.url,
            writer=self._writer,
            reader=self._reader,
            commits=self.commits,
            turns=self._turns,
            fence=fence,
        )

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[AsyncConnection]:
        """Give a connection in a write transaction: committed when the block ends, rolled back when it raises.

        Raises ``StateUnavailableError``, ``StateFullError``, ``StateConflictError`` and, with a fence,
        ``LeaseLostError``. Wait for nothing but the database inside.
        """
        with translated():
            # The pool alone is not fair: who has just written would take the connection from those who wait for it.
            async with self._turn(), _connected(self._writer) as connection, connection.begin():
                if not self.is_sqlite:
                    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})
                if self._fence is not None:
                    await self._fence.check(connection)
                yield connection
        self.commits.announce()

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_S):
                await self._turns.acquire()
        except TimeoutError as error:
            raise translate(error) from error
        try:
            yield
        finally:
            self._turns.release()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        """Give a connection that reads one consistent state and cannot write. Raises ``StateUnavailableError``."""
        with translated():
            async with _connected(self._reader) as connection:
                yield connection


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncGenerator[AsyncConnection]:
    try:
        connection = await engine.connect()
    except (OSError, TimeoutError) as error:
        raise translate(error) from error
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def open_database(url: str) -> AsyncGenerator[Database]:
    """Open the database at ``url``, brought to the schema of this version; it is closed when the block ends.

    ``url`` is ``sqlite:////absolute/path``, a plain path, or ``postgresql://user:password@host/name`` (a unix socket:
    ``postgresql://user@/name?host=/directory``). Raises ``StateUrlError``, ``StateVersionError`` (written by a newer
    Hunqi), ``StateDamagedError`` and ``StateUnavailableError``.
    """
    parsed = parse_url(url)
    writer, reader = make_engine(parsed, writes=True), make_engine(parsed, writes=False)
    database = Database(parsed, writer=writer, reader=reader, commits=Commits(), turns=asyncio.Lock())
    try:
        async with database.begin() as connection:
            await migrate(connection)
        yield database
    finally:
        await reader.dispose()
        await writer.dispose()
