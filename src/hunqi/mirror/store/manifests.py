"""The part of the catalogue that knows manifests: their bytes, what they name, and who refers to them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from hunqi.mirror.store.changes import NewLink, Staged, has_content, insert_manifest, place, remove_link, upsert_tag
from hunqi.mirror.store.errors import DigestMismatchError, translate, translated
from hunqi.mirror.store.model import EdgeRole, LinkKind, StoredManifest, stored_digest
from hunqi.mirror.store.paths import write_durable
from hunqi.mirror.store.tables import Tables
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Descriptor, Manifest, ManifestError
from hunqi.oci.reference import Tag


class ManifestTable(Tables):
    """Manifests."""

    def put_manifest(
        self,
        repo: str,
        data: bytes,
        *,
        manifest: Manifest,
        digest: Digest,
        tags: Sequence[Tag] = (),
        pushed: bool,
    ) -> None:
        """Store a manifest and what follows from it (link, edges, referrer entry, tags) in one transaction, durably.

        Raises :class:`DigestMismatchError`. Whether its blobs are there is :meth:`missing_blobs`' question.
        """
        actual = Digest.of(data, digest.algorithm)
        if actual != digest:
            raise DigestMismatchError(expected=digest, actual=str(actual))
        now = self.clock()
        link = NewLink(repo=repo, digest=digest, kind=LinkKind.MANIFEST, pushed=pushed, media_type=manifest.media_type)

        def fill(connection: sqlite3.Connection) -> None:
            insert_manifest(connection, link, manifest, now=now)
            for tag in tags:
                upsert_tag(connection, repo, tag.name, digest, pushed=pushed, now=now)

        with self.connections.transaction() as connection:
            if has_content(connection, digest) and self._body(digest) == data:
                fill(connection)
                return
        staged = Staged(source=self.paths.new_tmp(), digest=digest, size=len(data))
        try:
            with translated():
                write_durable(staged.source, data)
            place(self.connections, self.paths, staged, now=now, fill=fill)
        finally:
            staged.source.unlink(missing_ok=True)

    def manifest(self, repo: str, digest: Digest) -> StoredManifest | None:
        """Return a manifest of the repository; None also when its file is gone."""
        row = self.connections.row(
            "SELECT media_type FROM link WHERE repo = ? AND digest = ? AND kind = ?",
            (repo, str(digest), LinkKind.MANIFEST.value),
        )
        body = None if row is None else self._body(digest)
        if row is None or body is None:
            return None
        return StoredManifest(digest=digest, media_type=row[0], size=len(body), body=body)

    def delete_manifest(self, repo: str, digest: Digest) -> bool:
        """Take a manifest and its tags from one repository; False if the repository has no such manifest."""
        with self.connections.transaction() as connection:
            kind = connection.execute(
                "SELECT kind FROM link WHERE repo = ? AND digest = ?", (repo, str(digest))
            ).fetchone()
            return kind == (LinkKind.MANIFEST.value,) and remove_link(connection, repo, digest)

    def missing_blobs(self, repo: str, manifest: Manifest) -> list[Digest]:
        """Return what the manifest names and the repository does not hold: blobs, and the children of an index.

        Foreign layers need not be there, nor need a subject (distribution-spec 1.1, "Pushing Manifests").
        """
        needed = [to.digest for to in (*manifest.blobs, *manifest.manifests) if to.is_distributable]
        return [digest for digest in dict.fromkeys(needed) if not self._holds(repo, digest)]

    def referrers(self, repo: str, subject: Digest, artifact_type: str | None) -> list[Descriptor]:
        """Return who refers to ``subject`` in the repository, those of the referrers tag schema included.

        Source: distribution-spec 1.1, "Listing Referrers" and "Referrers Tag Schema".
        """
        rows = self.connections.rows(
            """SELECT l.media_type, r.digest, l.size, r.artifact_type, r.annotations
               FROM referrer r JOIN link l ON l.repo = r.repo AND l.digest = r.digest
               WHERE r.repo = ? AND r.subject = ? ORDER BY l.created_at, r.digest""",
            (repo, str(subject)),
        )
        found = {
            row[1]: Descriptor(
                media_type=row[0],
                digest=stored_digest(row[1]),
                size=row[2],
                artifact_type=row[3],
                annotations=json.loads(row[4]),
            )
            for row in rows
        }
        for descriptor in self._tag_schema(repo, subject):
            found.setdefault(str(descriptor.digest), descriptor)
        return [one for one in found.values() if artifact_type is None or one.artifact_type == artifact_type]

    def expected_size(self, digest: Digest, *, repo: str | None = None) -> int | None:
        """Return a digest's size, known from its content or from the manifests that name it (of ``repo``, if given).

        Manifests that disagree say nothing: a liar in one repository must not harm another.
        """
        row = self.connections.row("SELECT size FROM content WHERE digest = ?", (str(digest),))
        if row is None:
            sql = "SELECT min(size) FROM edge WHERE child = ? {} GROUP BY child HAVING count(DISTINCT size) = 1"
            scope = "" if repo is None else "AND EXISTS (SELECT 1 FROM link WHERE repo = ? AND digest = parent)"
            values = (str(digest),) if repo is None else (str(digest), repo)
            row = self.connections.row(sql.format(scope), values)
        return None if row is None else row[0]

    def manifests_containing(self, digest: Digest, *, repo: str | None = None) -> list[Digest]:
        """Return the stored manifests (of ``repo``, if given) that name a digest as config, layer or child."""
        rows = self.connections.rows(
            """SELECT DISTINCT parent FROM edge WHERE child = ? AND role <> ? AND EXISTS
               (SELECT 1 FROM link WHERE link.digest = parent AND kind = ? AND (? IS NULL OR repo = ?))""",
            (str(digest), EdgeRole.SUBJECT.value, LinkKind.MANIFEST.value, repo, repo),
        )
        return [stored_digest(row[0]) for row in rows]

    def _holds(self, repo: str, digest: Digest) -> bool:
        row = self.connections.row("SELECT 1 FROM link WHERE repo = ? AND digest = ?", (repo, str(digest)))
        return row is not None and self.paths.content_file(digest).is_file()

    def _body(self, digest: Digest) -> bytes | None:
        try:
            return self.paths.content_file(digest).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise translate(error) from error

    def _tag_schema(self, repo: str, subject: Digest) -> tuple[Descriptor, ...]:
        name = f"{subject.algorithm}-{subject.hex[:64]}"
        row = self.connections.row("SELECT digest FROM tag WHERE repo = ? AND name = ?", (repo, name))
        stored = None if row is None else self.manifest(repo, stored_digest(row[0]))
        if stored is None:
            return ()
        try:
            return Manifest.parse(stored.body, stored.media_type).manifests
        except ManifestError:
            return ()
