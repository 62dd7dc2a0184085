"""What the parts of the catalogue share."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from hunqi.mirror.store.changes import has_content
from hunqi.mirror.store.connections import Connections
from hunqi.mirror.store.paths import StorePaths
from hunqi.oci.digest import Digest


class Tables:
    """A database, the paths of its files, and a clock."""

    def __init__(self, connections: Connections, paths: StorePaths, *, clock: Callable[[], float]) -> None:
        self.connections = connections
        self.paths = paths
        self.clock = clock

    def is_kept(self, connection: sqlite3.Connection, digest: Digest) -> bool:
        """Whether there is both a row and a file, within a write transaction."""
        return has_content(connection, digest) and self.paths.content_file(digest).is_file()
