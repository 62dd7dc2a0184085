"""The catalogue's tables and how a database is opened.

A link is a repository's right to show a digest and exists only together with its content row; ``content.pushed`` says
that one of its links was pushed, and triggers keep the sums of both kinds. Edges say what a stored manifest names; they
belong to the manifest's bytes, not to a repository. Every statement that changes these runs in a ``BEGIN IMMEDIATE``.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final, Literal

from hunqi.mirror.store.errors import StoreDirectoryError, StoreTooNewError, translate
from hunqi.mirror.store.paths import StorePaths

SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT_S: Final = 30.0
_OPEN_DEADLINE_S: Final = 20.0
_CACHE_KIB: Final = 256
"""Each thread has a connection of its own, and what it does not keep lies in the page cache: SQLite's 2 MiB add up."""
_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024

Synchronous = Literal["FULL", "NORMAL", "OFF"]

_TABLES: Final = """
CREATE TABLE content (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, pushed INTEGER NOT NULL, created_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE link (
    repo TEXT NOT NULL, digest TEXT NOT NULL, kind INTEGER NOT NULL, pushed INTEGER NOT NULL,
    created_at REAL NOT NULL, media_type TEXT, size INTEGER NOT NULL, PRIMARY KEY (repo, digest)
) WITHOUT ROWID;
CREATE INDEX link_digest ON link (digest, pushed);
CREATE TABLE edge (
    parent TEXT NOT NULL, child TEXT NOT NULL, role INTEGER NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (parent, child, role)
) WITHOUT ROWID;
CREATE INDEX edge_child ON edge (child, role);
CREATE TABLE referrer (
    repo TEXT NOT NULL, subject TEXT NOT NULL, digest TEXT NOT NULL, artifact_type TEXT, annotations TEXT NOT NULL,
    PRIMARY KEY (repo, subject, digest)
) WITHOUT ROWID;
CREATE INDEX referrer_digest ON referrer (digest);
CREATE TABLE tag (
    repo TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, pushed INTEGER NOT NULL, checked_at REAL NOT NULL,
    changed_at REAL NOT NULL, PRIMARY KEY (repo, name)
) WITHOUT ROWID;
CREATE INDEX tag_digest ON tag (digest);
CREATE TABLE document (
    repo TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, content_type TEXT NOT NULL, checked_at REAL NOT NULL,
    PRIMARY KEY (repo, name)
);
CREATE TABLE visibility (repo TEXT PRIMARY KEY, public INTEGER NOT NULL, decided_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE pin (
    repo TEXT NOT NULL, digest TEXT NOT NULL, reason TEXT NOT NULL, created_at REAL NOT NULL, PRIMARY KEY (repo, digest)
) WITHOUT ROWID;
CREATE INDEX pin_digest ON pin (digest);
CREATE TABLE namespace (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE total (pushed INTEGER PRIMARY KEY, files INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO total VALUES (0, 0, 0), (1, 0, 0);
CREATE TRIGGER content_in AFTER INSERT ON content BEGIN
    UPDATE total SET files = files + 1, bytes = bytes + NEW.size WHERE pushed = NEW.pushed;
END;
CREATE TRIGGER content_out AFTER DELETE ON content BEGIN
    UPDATE total SET files = files - 1, bytes = bytes - OLD.size WHERE pushed = OLD.pushed;
END;
CREATE TRIGGER content_moved AFTER UPDATE OF pushed ON content WHEN OLD.pushed <> NEW.pushed BEGIN
    UPDATE total SET files = files - 1, bytes = bytes - OLD.size WHERE pushed = OLD.pushed;
    UPDATE total SET files = files + 1, bytes = bytes + NEW.size WHERE pushed = NEW.pushed;
END;
"""


def connect(path: Path, *, synchronous: Synchronous) -> sqlite3.Connection:
    """Open a connection in autocommit mode, which any thread may close; raises :class:`sqlite3.Error`."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def create(paths: StorePaths) -> None:
    """Make the directories and the tables that are missing.

    Raises :class:`StoreDirectoryError`, :class:`StoreTooNewError`, or what :func:`translate` makes of SQLite's errors.
    """
    try:
        paths.create()
    except OSError as error:
        raise StoreDirectoryError(f"{paths.root} cannot be used as a data directory: {error}") from error
    try:
        connection = connect(paths.catalogue, synchronous="FULL")
    except sqlite3.OperationalError as error:
        raise StoreDirectoryError(f"{paths.catalogue} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise translate(error) from error
    try:
        use_wal(connection)
        _migrate(connection, paths)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise StoreDirectoryError(f"{paths.root} cannot be written: {error}") from error
        raise translate(error) from error
    finally:
        connection.close()


def use_wal(connection: sqlite3.Connection) -> None:
    """Turn on write-ahead logging; several processes may do so at once (SQLite does not wait for that by itself)."""
    deadline = time.monotonic() + _OPEN_DEADLINE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _migrate(connection: sqlite3.Connection, paths: StorePaths) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA_VERSION:
            raise StoreTooNewError(
                f"{paths.catalogue} has schema {found}, this Hunqi knows up to {SCHEMA_VERSION}: use the newer Hunqi"
            )
        if found == 0:
            for statement in _statements():
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _statements() -> list[str]:
    found: list[str] = []
    pending = ""
    for line in _TABLES.strip().splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found
