"""What is stored, for people: images with their sizes and uses, and the sums."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.errors import translated
from hunqi.mirror.store.model import EdgeRole, LinkKind, Totals, stored_digest
from hunqi.mirror.store.usage import Usage
from hunqi.oci.digest import Digest

_NAMED: Final = """WITH RECURSIVE named (digest, size) AS (
    SELECT digest, size FROM content WHERE digest = :digest
    UNION
    SELECT child, edge.size FROM edge JOIN named ON parent = named.digest WHERE role <> :subject
) SELECT sum(named.size), sum(content.size)
  FROM named LEFT JOIN content USING (digest)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One tag, or one manifest that has none and that no index of its repository names."""

    repo: str
    tag: str | None
    digest: Digest
    media_type: str
    total_bytes: int
    """Of all that the image names, as far as the stored manifests say."""
    stored_bytes: int
    """Of that, what is stored here."""
    pushed: bool
    pinned: str | None
    """Why it is pinned, if it is."""
    changed_at: float
    last_used_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStat:
    """The store in numbers; ``disk_free_bytes`` is what this user may still write."""

    totals: Totals
    repositories: int
    tags: int
    manifests: int
    blobs: int
    pins: int
    uploads: int
    disk_free_bytes: int
    disk_total_bytes: int


def images(catalogue: Catalogue, usage: Usage, repo: str) -> Iterator[ImageRow]:
    """Yield the images of one repository, tagged ones first, in byte order; iteration raises the store's errors."""
    rows = catalogue.connections.rows(
        """SELECT tag.name, link.digest, link.media_type, link.pushed, coalesce(tag.changed_at, link.created_at),
                  (SELECT max(reason) FROM pin WHERE pin.digest = link.digest)
           FROM link LEFT JOIN tag ON tag.repo = link.repo AND tag.digest = link.digest
           WHERE link.repo = :repo AND kind = :manifest AND (tag.name IS NOT NULL OR NOT EXISTS (
               SELECT 1 FROM edge JOIN link AS above ON above.repo = :repo AND above.digest = parent
               WHERE child = link.digest AND role = :child))
           ORDER BY tag.name IS NULL, tag.name, link.digest""",
        {"repo": repo, "manifest": LinkKind.MANIFEST.value, "child": EdgeRole.MANIFEST.value},
    )
    for name, text, media_type, pushed, changed_at, pinned in rows:
        digest = stored_digest(text)
        total_bytes, stored_bytes = _sizes(catalogue, text)
        yield ImageRow(
            repo=repo,
            tag=name,
            digest=digest,
            media_type=media_type or "",
            total_bytes=total_bytes,
            stored_bytes=stored_bytes,
            pushed=bool(pushed),
            pinned=pinned,
            changed_at=changed_at,
            last_used_at=usage.last_used(digest),
        )


def stat(catalogue: Catalogue) -> StoreStat:
    """Count everything; raises the store's errors."""
    row = catalogue.connections.row(
        """SELECT (SELECT count(*) FROM tag), (SELECT count(DISTINCT digest) FROM link WHERE kind = ?),
                  (SELECT count(*) FROM pin)""",
        (LinkKind.MANIFEST.value,),
    )
    tags, manifests, pins = row or (0, 0, 0)
    totals = catalogue.totals()
    with translated():
        disk = os.statvfs(catalogue.paths.root)
        uploads = sum(1 for _ in os.scandir(catalogue.paths.uploads))
    return StoreStat(
        totals=totals,
        repositories=len(catalogue.repositories(after=None, limit=None)),
        tags=tags,
        manifests=manifests,
        blobs=totals.cached_files + totals.pushed_files - manifests,
        pins=pins,
        uploads=uploads,
        disk_free_bytes=disk.f_bavail * disk.f_frsize,
        disk_total_bytes=disk.f_blocks * disk.f_frsize,
    )


def _sizes(catalogue: Catalogue, digest: str) -> tuple[int, int]:
    row = catalogue.connections.row(_NAMED, {"digest": digest, "subject": EdgeRole.SUBJECT.value})
    return (row[0] or 0, row[1] or 0) if row else (0, 0)
