"""The catalogue: the one truth about what is stored and which repository may show it (``DIR/catalogue.db``).

Content is files, facts are rows. Any number of processes and threads share one data directory: reads take microseconds
and never wait, every change is one ``BEGIN IMMEDIATE`` transaction that is durable when the call returns, and a content
file appears or disappears only inside one. A row without its file is a miss, a file without a row is an orphan.

Every method may raise :class:`~hunqi.mirror.store.errors.StoreFullError` (writes),
:class:`~hunqi.mirror.store.errors.StoreUnavailableError` or :class:`~hunqi.mirror.store.errors.StoreDamagedError`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hunqi.mirror.store.connections import Connections
from hunqi.mirror.store.links import LinkTable
from hunqi.mirror.store.manifests import ManifestTable
from hunqi.mirror.store.paths import StorePaths
from hunqi.mirror.store.repositories import RepositoryTable
from hunqi.mirror.store.schema import create
from hunqi.mirror.store.tags import TagTable


class Catalogue(LinkTable, ManifestTable, TagTable, RepositoryTable):
    """One data directory's catalogue; usable from all threads of the process that opened it."""

    @classmethod
    def open(cls, data_dir: Path, *, clock: Callable[[], float] = time.time) -> Catalogue:
        """Open the store of ``data_dir``, making what is missing; open after forking.

        Raises :class:`~hunqi.mirror.store.errors.StoreDirectoryError`,
        :class:`~hunqi.mirror.store.errors.StoreTooNewError` or
        :class:`~hunqi.mirror.store.errors.StoreDamagedError`.
        """
        paths = StorePaths(data_dir)
        create(paths)
        catalogue = cls(Connections(paths.catalogue, synchronous="FULL"), paths, clock=clock)
        catalogue.totals()  # opens the shared-memory file while there is room, so that a full disk stays readable
        return catalogue

    def version(self) -> int:
        """Return a number that is another whenever a change became visible to the calling thread; 2.5 us.

        Compare it only with what the same thread got before.
        """
        return self.connections.version()

    def close(self) -> None:
        """Close the connections of every thread; none may be in use."""
        self.connections.close()
