"""How each database is spoken to: its URL, its pool, and what is set on each connection."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from hunqi.state.errors import StateUrlError, translate

BUSY_TIMEOUT_S: Final = 10.0
"""Longest wait for another writer, and for a connection."""
_STATEMENT_TIMEOUT_S: Final = 60.0
_IDLE_S: Final = 6.0
"""Longest rest of a process inside a write: one that is cut off there may not keep the others from leading."""
_READERS: Final = 3
_SQLITE: Final = "sqlite+aiosqlite"
_POSTGRESQL: Final = "postgresql+asyncpg"


@dataclass(frozen=True, slots=True)
class Url:
    """Where the database is; as text it shows no password."""

    value: URL = field(repr=False)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file."""
        return self.value.drivername == _SQLITE

    @property
    def path(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.value.database or "")

    def __str__(self) -> str:
        return (
            self.value.render_as_string(hide_password=True)
            .replace(_SQLITE, "sqlite")
            .replace(_POSTGRESQL, "postgresql")
        )

    __repr__ = __str__


def parse_url(text: str) -> Url:
    """Return where ``text`` points to. Raises ``StateUrlError``."""
    if "://" not in text:
        return Url(URL.create(_SQLITE, database=str(Path(text).absolute())))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise StateUrlError(
            "the database's URL cannot be read: write sqlite:////path or postgresql://user@host/name"
        ) from error
    match url.get_backend_name():
        case "sqlite" if url.database and url.database != ":memory:":
            return Url(URL.create(_SQLITE, database=str(Path(url.database).absolute())))
        case "sqlite":
            raise StateUrlError("an SQLite database needs a file: write sqlite:////path/to/control.db")
        case "postgresql" if url.database:
            return Url(url.set(drivername=_POSTGRESQL))
        case "postgresql":
            raise StateUrlError("the URL names no database: write postgresql://user@host/name")
        case other:
            raise StateUrlError(f"{other} is no database that Hunqi knows: use sqlite or postgresql")


def make_engine(url: Url, *, writes: bool) -> AsyncEngine:
    """Return an engine for writers (one connection) or readers. Raises ``StateUrlError``, ``StateUnavailableError``."""
    if url.is_sqlite:
        _create_private(url.path)
        return _sqlite(url, writes=writes)
    return _postgresql(url, writes=writes)


def _sqlite(url: Url, *, writes: bool) -> AsyncEngine:
    engine = create_async_engine(
        url.value,
        pool_size=1 if writes else _READERS,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
        connect_args={"timeout": BUSY_TIMEOUT_S},
        hide_parameters=True,
    )

    def on_connect(connection: Any, _record: Any) -> None:  # the driver's connection, by SQLAlchemy's adapter
        connection.isolation_level = None  # the driver begins nothing by itself: we say how
        cursor = connection.cursor()
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
            cursor.execute(f"PRAGMA {pragma}")
        if not writes:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine.sync_engine, "connect", on_connect)
    event.listen(engine.sync_engine, "begin", on_begin)
    return engine


def _postgresql(url: Url, *, writes: bool) -> AsyncEngine:
    settings = {
        "application_name": "hunqi",
        "lock_timeout": f"{BUSY_TIMEOUT_S:.0f}s",
        "statement_timeout": f"{_STATEMENT_TIMEOUT_S:.0f}s",
        "idle_in_transaction_session_timeout": f"{_IDLE_S if writes else _STATEMENT_TIMEOUT_S:.0f}s",
        "timezone": "UTC",
    }
    if not writes:
        settings |= {"default_transaction_read_only": "on", "default_transaction_isolation": "repeatable read"}
    return create_async_engine(
        url.value,
        pool_size=1 if writes else _READERS,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_S,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={"timeout": BUSY_TIMEOUT_S, "command_timeout": _STATEMENT_TIMEOUT_S, "server_settings": settings},
        hide_parameters=True,
    )


def _create_private(path: Path) -> None:
    """Make the file readable by its owner only before SQLite opens it; its siblings take its mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except IsADirectoryError as error:
        raise StateUrlError(f"{path} is a directory: name a file for the database") from error
    except OSError as error:
        raise translate(error) from error
