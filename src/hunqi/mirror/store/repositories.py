"""The part of the catalogue that knows repositories: which there are, who sees them, and what is pinned in them."""

from __future__ import annotations

from collections.abc import Iterable

from hunqi.mirror.store.model import Pin, Visibility, stored_digest
from hunqi.mirror.store.tables import Tables
from hunqi.oci.digest import Digest


class RepositoryTable(Tables):
    """Repositories, visibility and pins."""

    def repositories(self, *, after: str | None, limit: int | None) -> list[str]:
        """Return the repositories that link anything, in byte order; the time grows with their number only."""
        rows = self.connections.rows(
            """WITH RECURSIVE found (name) AS (
                   SELECT min(repo) FROM link WHERE repo > ?
                   UNION ALL
                   SELECT (SELECT min(repo) FROM link WHERE repo > found.name) FROM found WHERE name IS NOT NULL
               ) SELECT name FROM found WHERE name IS NOT NULL LIMIT ?""",
            (after or "", -1 if limit is None else limit),
        )
        return [row[0] for row in rows]

    def has_repository(self, repo: str) -> bool:
        """Whether the repository links or tags anything."""
        row = self.connections.row(
            "SELECT EXISTS (SELECT 1 FROM link WHERE repo = ?) OR EXISTS (SELECT 1 FROM tag WHERE repo = ?)",
            (repo, repo),
        )
        return row is not None and bool(row[0])

    def pushed_repositories(self) -> list[str]:
        """Return the repositories with a pushed link, in byte order."""
        rows = self.connections.rows("SELECT DISTINCT repo FROM link WHERE pushed = 1 ORDER BY repo")
        return [row[0] for row in rows]

    def pushed_namespaces(self) -> frozenset[str]:
        """Return the first components of all names that were ever pushed to."""
        return frozenset(row[0] for row in self.connections.rows("SELECT name FROM namespace"))

    def add_namespaces(self, names: Iterable[str]) -> None:
        """Take note that names below these first components were pushed to, on another node."""
        unknown = sorted(set(names) - self.pushed_namespaces())
        if unknown:
            with self.connections.transaction() as connection:
                connection.executemany("INSERT OR IGNORE INTO namespace VALUES (?)", [(name,) for name in unknown])

    def visibility(self, repo: str) -> Visibility | None:
        """Return the last decision about an upstream's repository."""
        row = self.connections.row("SELECT public, decided_at FROM visibility WHERE repo = ?", (repo,))
        return None if row is None else Visibility(public=bool(row[0]), decided_at=row[1])

    def set_visibility(self, repo: str, public: bool, decided_at: float) -> None:
        """Remember a decision."""
        with self.connections.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO visibility VALUES (?, ?, ?)", (repo, public, decided_at))

    def pin(self, repo: str, digest: Digest, reason: str) -> None:
        """Keep a digest, and all that it names, from eviction and retention."""
        with self.connections.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO pin VALUES (?, ?, ?, ?)", (repo, str(digest), reason, self.clock())
            )

    def unpin(self, repo: str, digest: Digest) -> bool:
        """Undo a pin; False if there was none."""
        with self.connections.transaction() as connection:
            deleted = connection.execute("DELETE FROM pin WHERE repo = ? AND digest = ?", (repo, str(digest)))
            return deleted.rowcount > 0

    def pins(self) -> list[Pin]:
        """Return all pins by repository."""
        rows = self.connections.rows("SELECT repo, digest, reason, created_at FROM pin ORDER BY repo, digest")
        return [
            Pin(repo=repo, digest=stored_digest(digest), reason=reason, created_at=created_at)
            for repo, digest, reason, created_at in rows
        ]
