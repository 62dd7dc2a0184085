"""The part of the catalogue that knows tags, and the lists that upstreams answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hunqi.mirror.store.changes import upsert_tag
from hunqi.mirror.store.model import Document, TagRow, stored_digest
from hunqi.mirror.store.tables import Tables
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Tag


class TagTable(Tables):
    """Tags and documents."""

    def tag(self, repo: str, tag: Tag) -> TagRow | None:
        """Return where a tag points."""
        row = self.connections.row(
            "SELECT digest, pushed, checked_at, changed_at FROM tag WHERE repo = ? AND name = ?", (repo, tag.name)
        )
        if row is None:
            return None
        return TagRow(digest=stored_digest(row[0]), pushed=bool(row[1]), checked_at=row[2], changed_at=row[3])

    def put_tag(self, repo: str, tag: Tag, digest: Digest, *, pushed: bool, checked_at: float) -> None:
        """Point a tag at a digest as of ``checked_at``; its manifest may not be stored (yet)."""
        with self.connections.transaction() as connection:
            upsert_tag(connection, repo, tag.name, digest, pushed=pushed, now=checked_at)

    def delete_tag(self, repo: str, tag: Tag) -> bool:
        """Remove a tag only; False if there was none."""
        with self.connections.transaction() as connection:
            deleted = connection.execute("DELETE FROM tag WHERE repo = ? AND name = ?", (repo, tag.name))
            return deleted.rowcount > 0

    def tags(self, repo: str, *, after: str | None, limit: int | None) -> list[str]:
        """Return tag names in byte order, those beyond ``after``, at most ``limit``."""
        rows = self.connections.rows(
            "SELECT name FROM tag WHERE repo = ? AND name > ? ORDER BY name LIMIT ?",
            (repo, after or "", -1 if limit is None else limit),
        )
        return [row[0] for row in rows]

    def tags_of(self, repo: str, digest: Digest) -> list[str]:
        """Return the names that point at a digest, in byte order."""
        rows = self.connections.rows(
            "SELECT name FROM tag WHERE repo = ? AND digest = ? ORDER BY name", (repo, str(digest))
        )
        return [row[0] for row in rows]

    def pushed_tags(self) -> Iterator[tuple[str, str, Digest, float]]:
        """Yield every pushed tag as (repository, name, digest, changed at), in the order of repositories and names."""
        place = ("", "")
        while rows := self.connections.rows(
            """SELECT repo, name, digest, changed_at FROM tag WHERE pushed = 1 AND (repo, name) > (?, ?)
               ORDER BY repo, name LIMIT 1000""",
            place,
        ):
            yield from ((repo, name, stored_digest(digest), changed_at) for repo, name, digest, changed_at in rows)
            place = (rows[-1][0], rows[-1][1])

    def supersede_tags(self, moved: Iterable[tuple[str, str, Digest, float]]) -> int:
        """Forget the tags of this store that were moved elsewhere later; return how many.

        ``moved`` is as :meth:`pushed_tags` gives it. A tag whose move here is the later one stays.
        """
        with self.connections.transaction() as connection:
            return sum(
                connection.execute(
                    "DELETE FROM tag WHERE repo = ? AND name = ? AND digest <> ? AND changed_at < ?",
                    (repo, name, str(digest), changed_at),
                ).rowcount
                for repo, name, digest, changed_at in moved
            )

    def put_document(self, repo: str, name: str, body: bytes, *, content_type: str, checked_at: float) -> None:
        """Keep a list as an upstream answered it."""
        with self.connections.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO document (repo, name, body, content_type, checked_at) VALUES (?, ?, ?, ?, ?)",
                (repo, name, body, content_type, checked_at),
            )

    def document(self, repo: str, name: str) -> Document | None:
        """Return a kept list."""
        row = self.connections.row(
            "SELECT body, content_type, checked_at FROM document WHERE repo = ? AND name = ?", (repo, name)
        )
        return None if row is None else Document(body=row[0], content_type=row[1], checked_at=row[2])

    def forget_documents(self, *, checked_before: float) -> int:
        """Drop lists that nobody renewed since; return how many."""
        with self.connections.transaction() as connection:
            return connection.execute("DELETE FROM document WHERE checked_at < ?", (checked_before,)).rowcount
