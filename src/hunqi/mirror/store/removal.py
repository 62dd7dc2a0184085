"""Removing an image that an operator names, with all that nothing else of its repository holds.

A tag leaves alone while something else holds its manifest. Otherwise the manifest leaves the repository, and with it
what only it named; the bytes themselves go when no repository links them any more.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import ClassVar

from hunqi.errors import UserError
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.changes import remove_link
from hunqi.mirror.store.model import EdgeRole, stored_digest
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Tag


class PinnedError(UserError):
    """What is pinned is not removed by accident."""

    code: ClassVar[str] = "store.pinned"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedImage:
    """How many manifests and blobs left the repository; none when only a tag did."""

    links: int


def remove_image(catalogue: Catalogue, repo: str, digest: Digest, tag: Tag | None) -> RemovedImage:
    """Remove a tag with what only it held, or (``tag`` None) a manifest with its tags; in one transaction.

    Raises :class:`PinnedError` where a pinned manifest would leave, or the store's errors.
    """
    with catalogue.connections.transaction() as connection:
        if tag is not None:
            connection.execute("DELETE FROM tag WHERE repo = ? AND name = ?", (repo, tag.name))
            if _is_held(connection, repo, str(digest)):
                return RemovedImage(links=0)
        if connection.execute("SELECT 1 FROM pin WHERE digest = ?", (str(digest),)).fetchone():
            raise PinnedError(f"{repo}@{digest} is pinned: end that first with `hunqi mirror unpin`")
        links = 0
        pending = [str(digest)]
        while pending:
            text = pending.pop()
            named = connection.execute(
                "SELECT DISTINCT child FROM edge WHERE parent = ? AND role <> ?", (text, EdgeRole.SUBJECT.value)
            ).fetchall()
            links += remove_link(connection, repo, stored_digest(text))
            pending += [child for (child,) in named if _is_left_over(connection, repo, child)]
    return RemovedImage(links=links)


def _is_left_over(connection: sqlite3.Connection, repo: str, digest: str) -> bool:
    row = connection.execute(
        """SELECT EXISTS (SELECT 1 FROM link WHERE repo = :repo AND digest = :digest)
              AND NOT EXISTS (SELECT 1 FROM pin WHERE digest = :digest)""",
        {"repo": repo, "digest": digest},
    ).fetchone()
    return bool(row[0]) and not _is_held(connection, repo, digest)


def _is_held(connection: sqlite3.Connection, repo: str, digest: str) -> bool:
    """Whether a tag or a manifest of the repository holds a digest."""
    row = connection.execute(
        """SELECT EXISTS (SELECT 1 FROM tag WHERE repo = :repo AND digest = :digest)
               OR EXISTS (SELECT 1 FROM edge JOIN link ON link.repo = :repo AND link.digest = parent
                          WHERE child = :digest AND role <> :subject)""",
        {"repo": repo, "digest": digest, "subject": EdgeRole.SUBJECT.value},
    ).fetchone()
    return bool(row[0])
