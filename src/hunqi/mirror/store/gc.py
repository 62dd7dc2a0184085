"""Garbage collection: applies the retention plan to pushed repositories, then removes content that nobody links.

Each removal is checked again where it happens: a tag must still point where it did, and what a newer push holds stays.
Cached repositories are not touched here, eviction is for them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.changes import remove_content, remove_link
from hunqi.mirror.store.model import EdgeRole, LinkKind, stored_digest
from hunqi.mirror.store.retention_plan import (
    BlobState,
    ManifestState,
    Removal,
    RemovalKind,
    RepositoryState,
    RetentionPolicy,
    TagState,
    plan_retention,
)
from hunqi.oci.digest import Digest

_BATCH: Final = 50
_UNLINKED: Final = """FROM content WHERE pushed = 0
    AND NOT EXISTS (SELECT 1 FROM link WHERE link.digest = content.digest)
    AND NOT EXISTS (SELECT 1 FROM pin WHERE pin.digest = content.digest)"""


def plan_gc(catalogue: Catalogue, policy: RetentionPolicy) -> list[Removal]:
    """Return what :func:`apply_gc` would remove and why; changes nothing. Raises the store's errors."""
    now = catalogue.clock()
    removals: list[Removal] = []
    for repo in catalogue.pushed_repositories():
        removals += plan_retention(repository_state(catalogue, repo), policy, now=now)
    return removals


def freed_by(catalogue: Catalogue, removals: Sequence[Removal]) -> list[int]:
    """Return for each removal the bytes that nobody links once all are done; raises the store's errors."""
    leaving: dict[Digest, set[str]] = {}
    for one in removals:
        if one.kind is not RemovalKind.TAG:
            leaving.setdefault(one.digest, set()).add(one.repo)
    freed: list[int] = []
    for one in removals:
        repos = leaving.pop(one.digest, None) if one.kind is not RemovalKind.TAG else None
        size = 0
        if repos is not None and repos.issuperset(catalogue.repos_of(one.digest)):
            row = catalogue.connections.row(
                "SELECT size FROM content WHERE digest = :d AND NOT EXISTS (SELECT 1 FROM pin WHERE digest = :d)",
                {"d": str(one.digest)},
            )
            size = row[0] if row else 0
        freed.append(size)
    return freed


def unlinked_bytes(catalogue: Catalogue) -> int:
    """Return what :func:`remove_unlinked` would free; raises the store's errors."""
    row = catalogue.connections.row(f"SELECT coalesce(sum(size), 0) {_UNLINKED}")
    return 0 if row is None else int(row[0])


def apply_gc(catalogue: Catalogue, removals: Sequence[Removal], *, planned_at: float) -> list[Removal]:
    """Remove what was planned and is still so; return what was removed. Raises the store's errors.

    ``planned_at`` is a time not after the plan was made: what was put since then stays.
    """
    done: list[Removal] = []
    for start in range(0, len(removals), _BATCH):
        with catalogue.connections.transaction() as connection:
            batch = removals[start : start + _BATCH]
            removed = [one for one in batch if _remove(connection, one, planned_at)]
        done += removed
    return done


def remove_unlinked(catalogue: Catalogue) -> int:
    """Remove content that no repository links and nothing pins; return the freed bytes. Raises the store's errors."""
    freed = 0
    while True:
        rows = catalogue.connections.rows(f"SELECT digest, size {_UNLINKED} LIMIT ?", (_BATCH,))
        if not rows:
            return freed
        freed += _remove_batch(catalogue, [(stored_digest(row[0]), row[1]) for row in rows])


def repository_state(catalogue: Catalogue, repo: str) -> RepositoryState:
    """Return the pushed part of a repository as the plan sees it."""
    rows = catalogue.connections.rows
    links = rows("SELECT digest, kind, created_at FROM link WHERE repo = ? AND pushed = 1", (repo,))
    edges = rows(
        "SELECT parent, child, role FROM edge WHERE parent IN (SELECT digest FROM link WHERE repo = ? AND kind = ?)",
        (repo, LinkKind.MANIFEST.value),
    )
    names: dict[str, set[Digest]] = {}
    subjects: dict[str, Digest] = {}
    for parent, child, role in edges:
        if role == EdgeRole.SUBJECT.value:
            subjects[parent] = stored_digest(child)
        else:
            names.setdefault(parent, set()).add(stored_digest(child))
    return RepositoryState(
        repo=repo,
        tags=[
            TagState(name=name, digest=stored_digest(digest), changed_at=changed_at)
            for name, digest, changed_at in rows(
                "SELECT name, digest, changed_at FROM tag WHERE repo = ? AND pushed = 1 ORDER BY name", (repo,)
            )
        ],
        manifests=[
            ManifestState(
                digest=stored_digest(digest),
                created_at=created_at,
                names=frozenset(names.get(digest, ())),
                subject=subjects.get(digest),
            )
            for digest, kind, created_at in links
            if kind == LinkKind.MANIFEST.value
        ],
        blobs=[
            BlobState(digest=stored_digest(digest), created_at=created_at)
            for digest, kind, created_at in links
            if kind == LinkKind.BLOB.value
        ],
        pinned=frozenset(stored_digest(row[0]) for row in rows("SELECT DISTINCT digest FROM pin")),
    )


def _remove(connection: sqlite3.Connection, removal: Removal, planned_at: float) -> bool:
    repo, text = removal.repo, str(removal.digest)
    if removal.kind is RemovalKind.TAG:
        deleted = connection.execute(
            "DELETE FROM tag WHERE repo = ? AND name = ? AND digest = ?", (repo, removal.tag, text)
        )
        return deleted.rowcount > 0
    held = connection.execute(
        """SELECT EXISTS (SELECT 1 FROM tag WHERE repo = :repo AND digest = :digest)
               OR EXISTS (SELECT 1 FROM pin WHERE digest = :digest)
               OR EXISTS (SELECT 1 FROM edge JOIN link ON link.repo = :repo AND link.digest = parent
                          WHERE child = :digest AND role <> :subject)
               OR EXISTS (SELECT 1 FROM link WHERE repo = :repo AND digest = :digest AND created_at > :planned_at)""",
        {"repo": repo, "digest": text, "subject": EdgeRole.SUBJECT.value, "planned_at": planned_at},
    ).fetchone()
    return not held[0] and remove_link(connection, repo, removal.digest)


def _remove_batch(catalogue: Catalogue, batch: Sequence[tuple[Digest, int]]) -> int:
    freed = 0
    graves: list[Path] = []
    try:
        with catalogue.connections.transaction() as connection:
            for digest, size in batch:
                still = connection.execute(
                    """SELECT 1 FROM content WHERE digest = :digest AND pushed = 0
                       AND NOT EXISTS (SELECT 1 FROM link WHERE digest = :digest)
                       AND NOT EXISTS (SELECT 1 FROM pin WHERE digest = :digest)""",
                    {"digest": str(digest)},
                ).fetchone()
                if still:
                    grave = remove_content(connection, catalogue.paths, digest)
                    graves += [grave] if grave else []
                    freed += size
    finally:
        for grave in graves:
            grave.unlink(missing_ok=True)
    return freed
