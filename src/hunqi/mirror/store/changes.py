"""Single changes of the catalogue's rows and of the files that belong to them, for use inside a write transaction.

What a crash between a file's move and COMMIT leaves is harmless by order: a new file without a row (an orphan,
collected later), or a row of *cached* content without its file (a miss). Pushed content therefore loses its pushed
links in one transaction and its file in a later one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hunqi.errors import HunqiError
from hunqi.mirror.store.connections import Connections
from hunqi.mirror.store.errors import translated
from hunqi.mirror.store.model import EdgeRole, LinkKind
from hunqi.mirror.store.paths import StorePaths, fsync_path, make_durable_directory
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A file on the store's file system whose bytes were verified to be ``digest``."""

    source: Path
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLink:
    """A link that is to exist."""

    repo: str
    digest: Digest
    kind: LinkKind
    pushed: bool
    media_type: str | None = None


def place(
    connections: Connections,
    paths: StorePaths,
    staged: Staged,
    *,
    now: float,
    fill: Callable[[sqlite3.Connection], None],
) -> None:
    """Move a staged file into the store, with its content row and what ``fill`` adds, durably when this returns.

    On an error nothing is changed and the staged file is back in its place (or, at worst, an orphan).
    """
    target = paths.content_file(staged.digest)
    with translated():
        fsync_path(staged.source)
    try:
        with connections.transaction() as connection:
            make_durable_directory(target.parent)
            staged.source.replace(target)
            insert_content(connection, staged.digest, size=staged.size, now=now)
            fill(connection)
            promised = is_pushed(connection, staged.digest)
            if promised:
                fsync_path(target.parent)
    except BaseException:
        _take_back(connections, staged, target)
        raise
    if not promised:
        with translated():
            fsync_path(target.parent)


def _take_back(connections: Connections, staged: Staged, target: Path) -> None:
    if staged.source.exists():
        return
    with suppress(HunqiError), connections.transaction() as connection:
        if not has_content(connection, staged.digest) and target.exists():
            target.replace(staged.source)


def has_content(connection: sqlite3.Connection, digest: Digest) -> bool:
    """Whether there is a content row."""
    return connection.execute("SELECT 1 FROM content WHERE digest = ?", (str(digest),)).fetchone() is not None


def is_pushed(connection: sqlite3.Connection, digest: Digest) -> bool:
    """Whether the content row promises pushed content."""
    row = connection.execute("SELECT pushed FROM content WHERE digest = ?", (str(digest),)).fetchone()
    return row is not None and bool(row[0])


def insert_content(connection: sqlite3.Connection, digest: Digest, *, size: int, now: float) -> None:
    """Add a content row unless it is there."""
    connection.execute("INSERT OR IGNORE INTO content VALUES (?, ?, 0, ?)", (str(digest), size, now))


def insert_link(connection: sqlite3.Connection, link: NewLink, *, now: float) -> None:
    """Add or strengthen a link to existing content: a manifest stays one, pushed stays pushed."""
    connection.execute(
        """INSERT INTO link (repo, digest, kind, pushed, created_at, media_type, size)
           SELECT ?, digest, ?, ?, ?, ?, size FROM content WHERE digest = ?
           ON CONFLICT (repo, digest) DO UPDATE SET kind = max(kind, excluded.kind),
               pushed = max(pushed, excluded.pushed), created_at = excluded.created_at,
               media_type = coalesce(excluded.media_type, media_type)""",
        (link.repo, link.kind.value, link.pushed, now, link.media_type, str(link.digest)),
    )
    if link.pushed:
        connection.execute("UPDATE content SET pushed = 1 WHERE digest = ? AND pushed = 0", (str(link.digest),))
        connection.execute("INSERT OR IGNORE INTO namespace VALUES (?)", (link.repo.partition("/")[0],))


def insert_manifest(connection: sqlite3.Connection, link: NewLink, manifest: Manifest, *, now: float) -> None:
    """Add a manifest's link, what it names, and its entry among its subject's referrers."""
    insert_link(connection, link, now=now)
    named = [
        *((blob, EdgeRole.LAYER) for blob in manifest.layers),
        *((child, EdgeRole.MANIFEST) for child in manifest.manifests),
    ]
    if manifest.config:
        named.append((manifest.config, EdgeRole.CONFIG))
    if manifest.subject:
        named.append((manifest.subject, EdgeRole.SUBJECT))
    connection.executemany(
        "INSERT OR IGNORE INTO edge VALUES (?, ?, ?, ?)",
        [(str(link.digest), str(to.digest), role.value, to.size) for to, role in named],
    )
    if manifest.subject:
        annotations = json.dumps(dict(manifest.annotations), separators=(",", ":"))
        connection.execute(
            "INSERT OR REPLACE INTO referrer VALUES (?, ?, ?, ?, ?)",
            (link.repo, str(manifest.subject.digest), str(link.digest), manifest.referrer_type, annotations),
        )


def upsert_tag(
    connection: sqlite3.Connection, repo: str, name: str, digest: Digest, *, pushed: bool, now: float
) -> None:
    """Point a tag; ``changed_at`` moves only when the digest does."""
    connection.execute(
        """INSERT INTO tag VALUES (:repo, :name, :digest, :pushed, :now, :now)
           ON CONFLICT (repo, name) DO UPDATE SET pushed = excluded.pushed, checked_at = excluded.checked_at,
               changed_at = CASE WHEN digest = excluded.digest THEN changed_at ELSE excluded.changed_at END,
               digest = excluded.digest""",
        {"repo": repo, "name": name, "digest": str(digest), "pushed": pushed, "now": now},
    )


def remove_link(connection: sqlite3.Connection, repo: str, digest: Digest) -> bool:
    """Take a repository's link away with its tags and its referrer entry; the content stays, perhaps for nobody."""
    text = str(digest)
    if connection.execute("DELETE FROM link WHERE repo = ? AND digest = ?", (repo, text)).rowcount == 0:
        return False
    connection.execute("DELETE FROM tag WHERE repo = ? AND digest = ?", (repo, text))
    connection.execute("DELETE FROM referrer WHERE repo = ? AND digest = ?", (repo, text))
    connection.execute(
        """UPDATE content SET pushed = 0 WHERE digest = ? AND pushed = 1
           AND NOT EXISTS (SELECT 1 FROM link WHERE link.digest = content.digest AND link.pushed = 1)""",
        (text,),
    )
    connection.execute(
        "DELETE FROM edge WHERE parent = ? AND NOT EXISTS (SELECT 1 FROM link WHERE digest = parent AND kind = ?)",
        (text, LinkKind.MANIFEST.value),
    )
    return True


def remove_content(connection: sqlite3.Connection, paths: StorePaths, digest: Digest) -> Path | None:
    """Take content away with all its rows; return where its file now waits to be unlinked after COMMIT.

    The caller made sure that it is not pushed. The file moves before the rows go: see the module's first lines.
    """
    grave = paths.new_trash()
    try:
        paths.content_file(digest).rename(grave)
    except FileNotFoundError:
        grave = None
    forget_content(connection, digest)
    return grave


def forget_content(connection: sqlite3.Connection, digest: Digest) -> None:
    """Remove every row of a content."""
    for statement in (
        "DELETE FROM tag WHERE digest = ?",
        "DELETE FROM referrer WHERE digest = ?",
        "DELETE FROM edge WHERE parent = ?",
        "DELETE FROM link WHERE digest = ?",
        "DELETE FROM content WHERE digest = ?",
    ):
        connection.execute(statement, (str(digest),))
