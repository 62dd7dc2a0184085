"""SQLite connections of one database: one per thread, closed when the thread ends.

Reads run in autocommit mode on the thread's own connection. Writes are ``BEGIN IMMEDIATE`` transactions; the threads of
one process queue for them on a lock, since SQLite itself waits by polling. Open after forking: connections do not
survive it.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hunqi.mirror.store.errors import translate, translated
from hunqi.mirror.store.schema import Synchronous, connect

Row = tuple[Any, ...]
"""Column types are the schema's; :mod:`sqlite3` does not know them."""


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

    def version(self) -> int:
        """Return a number that differs from this thread's last whenever any commit became visible to this thread."""
        opened = self._opened()
        try:
            row = opened.connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise translate(error) from error
        return (row[0] << 40) + opened.commits

    def row(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        """Return the first row of a query."""
        try:
            return self._opened().connection.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise translate(error) from error

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
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
        with self._writing, translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
                opened.commits += 1
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connections of all threads; none may be in use."""
        with self._registering:
            for opened in list(self._all):
                opened.connection.close()
            self._all.clear()
            self._local = threading.local()

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
