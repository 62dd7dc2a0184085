"""SQLite connections of one database: one per thread, closed when the thread ends.

Reads run in autocommit mode on the thread's own connection. Writes are ``BEGIN IMMEDIATE`` transactions, for which
threads and processes first take a lock file: SQLite's own waiting sleeps ever longer (up to 100 ms), so that a writer
beside an eviction was seen to wait 120 ms for transactions of 5. Open after forking: connections do not survive it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hunqi.mirror.store.errors import StoreUnavailableError, translate, translated
from hunqi.mirror.store.schema import BUSY_TIMEOUT_S, Synchronous, connect

Row = tuple[Any, ...]
"""Column types are the schema's; :mod:`sqlite3` does not know them."""


_POLL_S: Final = 0.001


class _Opened:
    """A thread's connection; dropping it (with the thread) closes it."""

    __slots__ = ("__weakref__", "commits", "connection")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.commits = 0
        weakref.finalize(self, connection.close)


class Connections:
    """The connections of this process to the database at ``path``."""

    def __init__(self, path: Path, *, synchronous: Synchronous) -> None:
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._local = threading.local()
        self._writing = threading.Lock()
        self._all: weakref.WeakSet[_Opened] = weakref.WeakSet()
        self._registering = threading.Lock()
        self._lock_file: int | None = None

    def version(self) -> int:
        """Return a number that differs from this thread's last whenever any commit became visible to this thread."""
        opened = self._opened()
        try:
            row = opened.connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise translate(error) from error
        return (row[0] << 40) + opened.commits

    def row(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> Row | None:
        """Return the first row of a query."""
        try:
            return self._opened().connection.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise translate(error) from error

    def rows(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[Row]:
        """Return all rows of a query."""
        try:
            return self._opened().connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translate(error) from error

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Run the block in one write transaction, which an exception rolls back; the store's errors are raised."""
        opened = self._opened()
        connection = opened.connection
        with self.turn(), translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
                opened.commits += 1
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def turn(self) -> Generator[None]:
        """Hold the right to begin a write transaction; every writer of the database takes it first."""
        with self._writing:
            with translated():
                if self._lock_file is None:
                    path = self._path.with_suffix(".lock")
                    self._lock_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
                _lock(self._lock_file)
            try:
                yield
            finally:
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the connections of all threads; none may be in use."""
        with self._registering:
            for opened in list(self._all):
                opened.connection.close()
            self._all.clear()
            self._local = threading.local()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def _opened(self) -> _Opened:
        try:
            return self._local.opened
        except AttributeError:
            pass
        with translated():
            opened = _Opened(connect(self._path, synchronous=self._synchronous))
        with self._registering:
            self._all.add(opened)
        self._local.opened = opened
        return opened


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"another process has kept the catalogue for {BUSY_TIMEOUT_S:g} s"
                ) from error
        time.sleep(_POLL_S)
