"""Blobs that are stored, asked for through a repository that does not show them yet.

Knowing a digest opens nothing: either a manifest of the asked repository names the blob and everyone may see some
repository that holds it, or the upstream says with one HEAD that the repository has it. A second download never
happens.
"""

from __future__ import annotations

from hunqi.mirror.names import Target
from hunqi.mirror.resolve.asking import Unanswered
from hunqi.mirror.resolve.errors import BlobUnknown
from hunqi.mirror.resolve.manifests import Room
from hunqi.mirror.resolve.memory import Expiring
from hunqi.mirror.resolve.plan import Failure
from hunqi.mirror.sources.model import RemoteBlob
from hunqi.mirror.store.errors import StoreFullError, StoreUnavailableError
from hunqi.mirror.store.model import LinkKind
from hunqi.oci.digest import Digest


class BlobLinks:
    """Links stored blobs to repositories. Thread-safe."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._unknown: Expiring[tuple[str, Digest], bool] = Expiring(room.clock)

    def link(self, home: Target, digest: Digest, *, hops: tuple[str, ...]) -> int:
        """Let the repository show a stored blob; return its size in bytes.

        Raises :class:`BlobUnknown` (also if it is not stored any more), or what asking the upstream raises.
        """
        if self._unknown.get((home.key, digest)):
            raise BlobUnknown(home.key, str(digest))
        key = ("blob", home.key, digest)
        try:
            return self._room.flights.do(key, lambda: self._link(home, digest, hops), depth=len(hops))
        except Unanswered as unanswered:
            if unanswered.failure is Failure.UNKNOWN:
                self._unknown.put((home.key, digest), True, for_s=self._room.settings.negative_s)
            raise unanswered.as_error(home, hops, BlobUnknown(home.key, str(digest))) from unanswered

    def _link(self, home: Target, digest: Digest, hops: tuple[str, ...]) -> int:
        content = self._room.catalogue.content(digest)
        if content is None:
            raise BlobUnknown(home.key, str(digest))
        if self._room.catalogue.link(home.key, digest) is not None:
            return content.size
        if not self._is_implied(home, digest):
            blob = RemoteBlob(upstream=home.upstream, repository=home.repository, digest=digest)
            self._room.asking.ask(home, lambda source: source.head_blob(blob, hops=hops))
        try:
            is_linked = self._room.catalogue.add_link(home.key, digest, kind=LinkKind.BLOB, pushed=False)
        except (StoreFullError, StoreUnavailableError):
            # The right is shown; that it cannot be written down must not stop the pull.
            return content.size
        if not is_linked:
            raise BlobUnknown(home.key, str(digest))
        return content.size

    def _is_implied(self, home: Target, digest: Digest) -> bool:
        """Whether what is known suffices.

        A manifest can name any digest, so one of this repository is believed only about content that is open anyway.
        """
        catalogue = self._room.catalogue
        if not catalogue.manifests_containing(digest, repo=home.key):
            return False
        return any(self._room.visibilities.last_decision(repo) for repo in catalogue.repos_of(digest))
