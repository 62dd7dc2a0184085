"""When content was last used: ``DIR/usage.db``, apart from the catalogue so that a read is never a change there.

Losing it costs only a worse order of eviction, so nothing here waits for the disk, and a damaged file is replaced.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from hunqi.mirror.store.connections import Connections
from hunqi.mirror.store.errors import translated
from hunqi.mirror.store.paths import StorePaths
from hunqi.mirror.store.schema import connect, use_wal
from hunqi.oci.digest import Digest

_TABLE: Final = "CREATE TABLE IF NOT EXISTS used (digest TEXT PRIMARY KEY, used_at REAL NOT NULL) WITHOUT ROWID"


class Usage:
    """Last-used times by digest; seconds since the epoch."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @classmethod
    def open(cls, data_dir: Path) -> Usage:
        """Open the times of ``data_dir``; raises the store's errors."""
        path = StorePaths(data_dir).usage
        with translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            _prepare(path)
        return cls(Connections(path, synchronous="OFF"))

    def touch_many(self, digests: Mapping[Digest, float]) -> None:
        """Remember uses; an older time never replaces a newer one."""
        if not digests:
            return
        with self._connections.transaction() as connection:
            connection.executemany(
                """INSERT INTO used VALUES (?, ?)
                   ON CONFLICT (digest) DO UPDATE SET used_at = max(used_at, excluded.used_at)""",
                [(str(digest), used_at) for digest, used_at in digests.items()],
            )

    def last_used(self, digest: Digest) -> float | None:
        """Return when a digest was last used, as far as is known."""
        row = self._connections.row("SELECT used_at FROM used WHERE digest = ?", (str(digest),))
        return None if row is None else row[0]

    def forget(self, digests: Iterable[Digest]) -> None:
        """Drop what was evicted."""
        with self._connections.transaction() as connection:
            connection.executemany("DELETE FROM used WHERE digest = ?", [(str(digest),) for digest in digests])

    def close(self) -> None:
        """Close the connections of every thread; none may be in use."""
        self._connections.close()


def _prepare(path: Path) -> None:
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_sound(path):
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        with closing(connect(path, synchronous="OFF")) as connection:
            use_wal(connection)
            connection.execute(_TABLE)
    finally:
        os.close(lock)


def _is_sound(path: Path) -> bool:
    try:
        with closing(connect(path, synchronous="OFF")) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.DatabaseError as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
