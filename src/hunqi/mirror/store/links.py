"""The part of the catalogue that knows contents, and which repository may show which."""

from __future__ import annotations

from hunqi.mirror.store.changes import NewLink, insert_link, remove_link
from hunqi.mirror.store.model import Content, Link, LinkKind, Totals, stored_digest
from hunqi.mirror.store.tables import Tables
from hunqi.oci.digest import Digest


class LinkTable(Tables):
    """Contents and links."""

    def content(self, digest: Digest) -> Content | None:
        """Return what is known of stored bytes, whoever may see them."""
        row = self.connections.row("SELECT size, pushed, created_at FROM content WHERE digest = ?", (str(digest),))
        return None if row is None else Content(digest=digest, size=row[0], pushed=bool(row[1]), created_at=row[2])

    def link(self, repo: str, digest: Digest) -> Link | None:
        """Return the repository's link. The file may still be missing: opening it decides."""
        row = self.connections.row(
            "SELECT kind, pushed, created_at, media_type, size FROM link WHERE repo = ? AND digest = ?",
            (repo, str(digest)),
        )
        if row is None:
            return None
        kind, pushed, created_at, media_type, size = row
        return Link(
            repo=repo,
            digest=digest,
            kind=LinkKind(kind),
            pushed=bool(pushed),
            created_at=created_at,
            media_type=media_type,
            size=size,
        )

    def add_link(self, repo: str, digest: Digest, *, kind: LinkKind, pushed: bool) -> bool:
        """Let the repository show content that is stored; False if it is not (any more).

        A pushed link makes the content pushed. A manifest can be linked only where another repository still holds it as
        one (its media type and what it names are taken from there), else put it again.
        """
        with self.connections.transaction() as connection:
            if not self.is_kept(connection, digest):
                return False
            media_type: str | None = None
            if kind is LinkKind.MANIFEST:
                known = connection.execute(
                    "SELECT media_type FROM link WHERE digest = ? AND kind = ?", (str(digest), kind.value)
                ).fetchone()
                if known is None:
                    return False
                media_type = known[0]
            link = NewLink(repo=repo, digest=digest, kind=kind, pushed=pushed, media_type=media_type)
            insert_link(connection, link, now=self.clock())
            return True

    def unlink(self, repo: str, digest: Digest) -> bool:
        """Take a blob from one repository; False if the repository has no such blob (a manifest is not one)."""
        with self.connections.transaction() as connection:
            kind = connection.execute(
                "SELECT kind FROM link WHERE repo = ? AND digest = ?", (repo, str(digest))
            ).fetchone()
            return kind == (LinkKind.BLOB.value,) and remove_link(connection, repo, digest)

    def repos_of(self, digest: Digest) -> list[str]:
        """Return the repositories that link a digest, sorted."""
        rows = self.connections.rows("SELECT repo FROM link WHERE digest = ? ORDER BY repo", (str(digest),))
        return [row[0] for row in rows]

    def totals(self) -> Totals:
        """Return how much is stored; constant time."""
        rows = self.connections.rows("SELECT files, bytes FROM total ORDER BY pushed")
        (cached_files, cached_bytes), (pushed_files, pushed_bytes) = rows
        return Totals(
            cached_files=cached_files, cached_bytes=cached_bytes, pushed_files=pushed_files, pushed_bytes=pushed_bytes
        )

    def digests(self, *, after: Digest | None, limit: int) -> list[Digest]:
        """Return stored digests in the order of their text, a page at a time."""
        rows = self.connections.rows(
            "SELECT digest FROM content WHERE digest > ? ORDER BY digest LIMIT ?", (str(after or ""), limit)
        )
        return [stored_digest(row[0]) for row in rows]
