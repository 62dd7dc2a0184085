"""Eviction: takes the least recently used cached content, in small transactions that the caller paces.

The order is made by SQLite in temporary tables of a connection of its own, from one snapshot (in memory: the disk may
be full). Each candidate is judged again within the transaction that takes it, so what happened since (a push, a pin, a
new manifest) counts. Files move to ``trash`` inside the transaction and are unlinked after it: a disk that is too full
for the transaction has room at the next attempt.

A commit here is not waited for (``synchronous=NORMAL``): after a power cut content may be back as rows without files,
which are misses.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.changes import remove_content
from hunqi.mirror.store.errors import StoreFullError, translated
from hunqi.mirror.store.eviction_plan import Standing, Verdict, judge
from hunqi.mirror.store.model import EdgeRole, stored_digest
from hunqi.mirror.store.schema import connect
from hunqi.mirror.store.usage import Usage
from hunqi.oci.digest import Digest

BATCH_ROWS: Final = 100
BATCH_S: Final = 0.003
"""A transaction takes no further row after this long, so that it holds up a writer for about 5 ms at most."""
_NESTING: Final = 16
"""Indexes within indexes that the order follows; deeper ones only leave later."""
_FULL_RETRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """What one step took."""

    digests: tuple[Digest, ...]
    freed_bytes: int


class Eviction:
    """Evicts from one data directory; one pass at a time."""

    def __init__(self, catalogue: Catalogue, usage: Usage) -> None:
        self._catalogue = catalogue
        self._usage = usage

    def evict(self, bytes_to_free: int, *, in_use: Callable[[], AbstractSet[Digest]]) -> Generator[Evicted]:
        """Free at least ``bytes_to_free``, if so much may leave; each ``next()`` is one small transaction.

        ``in_use`` is asked at every step for what is being read; pause between steps as the load asks for. Iteration
        raises the store's errors; closing the generator early is fine.
        """
        freed = 0
        with self._ordered() as connection:
            turn = 0
            while freed < bytes_to_free:
                batch = connection.execute(
                    "SELECT turn, digest, size FROM ordered WHERE turn > ? ORDER BY turn LIMIT ?", (turn, BATCH_ROWS)
                ).fetchall()
                if not batch:
                    return
                step = _Step(self._catalogue, connection, in_use(), bytes_to_free - freed)
                turn = step.run(batch)
                evicted = step.evicted
                if evicted.digests:
                    with suppress(StoreFullError):
                        self._usage.forget(evicted.digests)
                freed += evicted.freed_bytes
                yield evicted

    @contextmanager
    def _ordered(self) -> Generator[sqlite3.Connection]:
        with translated():
            connection = connect(self._catalogue.paths.catalogue, synchronous="NORMAL")
        try:
            with translated():
                _attach(connection, self._catalogue.paths.usage)
                _order(connection)
                connection.execute("DETACH DATABASE usage")
            yield connection
        finally:
            connection.close()


class _Step:
    """One transaction's worth."""

    def __init__(
        self, catalogue: Catalogue, connection: sqlite3.Connection, in_use: AbstractSet[Digest], wanted_bytes: int
    ) -> None:
        self._catalogue = catalogue
        self._connection = connection
        self._in_use = in_use
        self._wanted_bytes = wanted_bytes
        self._graves: list[Path] = []
        self._taken: list[Digest] = []
        self._freed_bytes = 0

    @property
    def evicted(self) -> Evicted:
        return Evicted(digests=tuple(self._taken), freed_bytes=self._freed_bytes)

    def run(self, batch: list[tuple[int, str, int]]) -> int:
        """Take from ``batch`` and return the last turn that was dealt with."""
        for attempt in range(_FULL_RETRIES):
            try:
                return self._transaction(batch)
            except StoreFullError:
                if attempt == _FULL_RETRIES - 1:
                    raise
            finally:
                for grave in self._graves:
                    grave.unlink(missing_ok=True)
                self._graves.clear()
        return batch[-1][0]

    def _transaction(self, batch: list[tuple[int, str, int]]) -> int:
        self._taken.clear()
        self._freed_bytes = 0
        turn = batch[0][0] - 1
        connection = self._connection
        with self._catalogue.connections.turn(), translated():
            connection.execute("BEGIN IMMEDIATE")
            until = time.perf_counter() + BATCH_S
            try:
                for turn, text, size in batch:  # noqa: B007
                    self._turn_of(stored_digest(text), size)
                    if self._freed_bytes >= self._wanted_bytes or time.perf_counter() > until:
                        break
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        return turn

    def _turn_of(self, digest: Digest, size: int) -> None:
        if judge(self._standing(digest)) is not Verdict.EVICT:
            return
        grave = remove_content(self._connection, self._catalogue.paths, digest)
        if grave:
            self._graves.append(grave)
        self._taken.append(digest)
        self._freed_bytes += size

    def _standing(self, digest: Digest) -> Standing:
        row = self._connection.execute(
            """SELECT pushed, EXISTS (SELECT 1 FROM pin WHERE pin.digest = content.digest),
                      EXISTS (SELECT 1 FROM edge WHERE child = content.digest AND role <> ?)
               FROM content WHERE digest = ?""",
            (EdgeRole.SUBJECT.value, str(digest)),
        ).fetchone()
        if row is None:
            return Standing(stored=False, pushed=False, pinned=False, in_use=False, referenced=False)
        return Standing(
            stored=True,
            pushed=bool(row[0]),
            pinned=bool(row[1]),
            in_use=digest in self._in_use,
            referenced=bool(row[2]),
        )


def _attach(connection: sqlite3.Connection, path: Path) -> None:
    """Attach last-used times; where the full disk leaves no room even to open them, order by age."""
    try:
        connection.execute("ATTACH DATABASE ? AS usage", (str(path),))
        connection.execute("SELECT 1 FROM usage.used LIMIT 1")
    except sqlite3.OperationalError:
        if any(row[1] == "usage" for row in connection.execute("PRAGMA database_list")):
            connection.execute("DETACH DATABASE usage")
        connection.execute("ATTACH DATABASE ':memory:' AS usage")
        connection.execute("CREATE TABLE usage.used (digest TEXT PRIMARY KEY, used_at REAL)")


def _order(connection: sqlite3.Connection) -> None:
    """Fill ``temp.ordered`` (turn, digest, size) as :mod:`~hunqi.mirror.store.eviction_plan` says, at once."""
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute(
        "CREATE TEMP TABLE candidate (digest TEXT PRIMARY KEY, size, used_at, depth INTEGER DEFAULT 0) WITHOUT ROWID"
    )
    connection.execute("CREATE TEMP TABLE ordered (turn INTEGER PRIMARY KEY, digest, size)")
    connection.execute("BEGIN")
    connection.execute(
        """INSERT INTO candidate (digest, size, used_at)
           SELECT c.digest, c.size, CASE WHEN EXISTS (SELECT 1 FROM link WHERE link.digest = c.digest)
                                    THEN max(c.created_at, coalesce(u.used_at, 0)) ELSE 0 END
           FROM content c LEFT JOIN usage.used u USING (digest) WHERE c.pushed = 0"""
    )
    for _ in range(_NESTING):
        if not _inherit(connection, EdgeRole.MANIFEST):
            break
    _inherit(connection, EdgeRole.CONFIG, EdgeRole.LAYER)
    connection.execute(
        "INSERT INTO ordered (digest, size) SELECT digest, size FROM candidate ORDER BY used_at, depth, digest"
    )
    connection.execute("COMMIT")
    connection.execute("DROP TABLE candidate")


def _inherit(connection: sqlite3.Connection, *roles: EdgeRole) -> bool:
    """Let candidates be as recently used as those that name them, one level down; False if nothing changed."""
    marks = ", ".join("?" for _ in roles)
    return (
        connection.execute(
            f"""UPDATE candidate SET used_at = max(used_at, named.latest), depth = max(depth, named.below)
                FROM (SELECT child, max(used_at) AS latest, max(depth) + 1 AS below
                      FROM edge JOIN candidate ON digest = parent WHERE role IN ({marks}) GROUP BY child) AS named
                WHERE named.child = candidate.digest AND (named.latest > used_at OR named.below > depth)""",  # noqa: S608
            tuple(role.value for role in roles),
        ).rowcount
        > 0
    )
