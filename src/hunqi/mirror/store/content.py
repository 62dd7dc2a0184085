"""Content files: ``DIR/content/<algorithm>/<first two hex digits>/<hex>``, complete and verified or not there."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from hunqi.errors import InvariantError
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.changes import NewLink, Staged, insert_link, place
from hunqi.mirror.store.errors import translate
from hunqi.mirror.store.model import LinkKind
from hunqi.oci.digest import Digest


class ContentFiles:
    """The files of one catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def path(self, digest: Digest) -> Path:
        """Return where a digest's file lies if it is stored."""
        return self._catalogue.paths.content_file(digest)

    def open_for_read(self, digest: Digest) -> int | None:
        """Return a descriptor that the caller closes, or None: not stored. It stays readable after an eviction."""
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise translate(error) from error

    def commit(self, source: Path, digest: Digest, size: int, *, links: Sequence[tuple[str, LinkKind, bool]]) -> None:
        """Move ``source`` (on the same file system, verified by the caller) into the store and link it, durably.

        ``links`` are (repository, BLOB, pushed); manifests come by ``Catalogue.put_manifest``. What was stored under
        the digest before is replaced, which repairs a damaged file. On an error ``source`` is left where it was.
        """
        if any(kind is LinkKind.MANIFEST for _, kind, _ in links):
            raise InvariantError("a manifest is put with Catalogue.put_manifest: what it names must be known")
        now = self._catalogue.clock()

        def fill(connection: sqlite3.Connection) -> None:
            for repo, kind, pushed in links:
                insert_link(connection, NewLink(repo=repo, digest=digest, kind=kind, pushed=pushed), now=now)

        staged = Staged(source=source, digest=digest, size=size)
        place(self._catalogue.connections, self._catalogue.paths, staged, now=now, fill=fill)
