"""What a name means at the moment and who may see it: the one place that speaks for this room.

Blocking and thread-safe, for the fetcher's threads. Answers come from the catalogue where they are fresh; questions
to the sources are single flights, across the TTLs, failures and visibilities that :mod:`hunqi.mirror.resolve.plan`
decides on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hunqi.mirror.names import Target
from hunqi.mirror.resolve.asking import Asking, SourcePort
from hunqi.mirror.resolve.blobs import BlobLinks
from hunqi.mirror.resolve.documents import Documents
from hunqi.mirror.resolve.errors import RelayLoop
from hunqi.mirror.resolve.flights import Flights
from hunqi.mirror.resolve.manifests import Ask, Manifests, OnManifest, Room
from hunqi.mirror.resolve.model import PassedDocument, Resolved
from hunqi.mirror.resolve.tags import Tags
from hunqi.mirror.resolve.visibility import Visibilities
from hunqi.mirror.settings import TagSettings
from hunqi.mirror.sources.health import HealthMemory
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Reference, Tag

FOLLOWER_WAIT_S: Final = 90.0
"""Longest wait for another client's equal question: several sources with their deadlines fit in."""
MAX_HOPS: Final = 16
"""Mirrors that a question may pass; more of them is a loop that hides its marks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a resolver is wired to."""

    catalogue: Catalogue
    sources: Callable[[str], Sequence[SourcePort]]
    """The sources of an upstream in the order of asking: relays, the upstream itself."""
    owners: Callable[[Digest], Sequence[SourcePort]]
    """The peers to ask for a manifest before those: the node that owns it, unless that is this one."""
    has_peers: Callable[[], bool]
    """Whether another node of the cluster is live."""
    health: HealthMemory
    """Who is down, shared with the fetches."""
    with_credentials: Callable[[str], bool]
    """Whether any source of an upstream may be asked with credentials of ours."""
    background: Callable[[Callable[[], None]], None]
    """Runs what it is given some time in another thread, or raises: then the next question has it run."""
    clock: Callable[[], float]
    """Seconds since the epoch."""
    node: str
    """This mirror's mark in ``hops``."""


class Resolver:
    """Decides freshness and visibility. Thread-safe; every method may block for as long as the sources' deadlines."""

    def __init__(self, around: Surroundings, settings: TagSettings, *, on_manifest: OnManifest | None = None) -> None:
        """``on_manifest(upstream, repository, digest, manifest)`` is told of each manifest that was fetched."""
        self._node = around.node
        asking = Asking(
            sources=around.sources,
            health=around.health,
            with_credentials=around.with_credentials,
            clock=around.clock,
        )
        flights = Flights(background=around.background, wait_s=FOLLOWER_WAIT_S)
        self._visibilities = Visibilities(
            catalogue=around.catalogue, asking=asking, flights=flights, settings=settings, clock=around.clock
        )
        room = Room(
            catalogue=around.catalogue,
            asking=asking,
            flights=flights,
            visibilities=self._visibilities,
            owners=around.owners,
            has_peers=around.has_peers,
            settings=settings,
            clock=around.clock,
        )
        self._manifests = Manifests(room, on_manifest=on_manifest)
        self._tags = Tags(room, self._manifests)
        self._documents = Documents(room, self._tags)
        self._blobs = BlobLinks(room)

    def manifest(
        self,
        upstream: str,
        repository: str,
        reference: Reference,
        *,
        head: bool = False,
        hops: tuple[str, ...] = (),
        from_peer: bool = False,
    ) -> Resolved:
        """Return what ``reference`` means in a mirrored repository; ``hops`` are the mirrors that were passed.

        ``from_peer``: a node of this cluster asks, so no peer is asked in turn.
        A GET's manifest is in the store then, or in ``body`` if the disk is full; a HEAD downloads nothing.
        Raises ``ManifestUnknown``, ``RepositoryDenied``, ``UpstreamLimited``, ``UpstreamUnavailable`` or ``RelayLoop``.
        """
        home, passed = Target(upstream, repository), self._pass(upstream, hops)
        ask = Ask(hops=passed, peers=not from_peer)
        if isinstance(reference, Digest):
            resolved = self._manifests.by_digest(home, reference, head=head, ask=ask)
            if not head and resolved.body is None:
                self._tags.keep(home, reference)
            return resolved
        return self._tags.resolve(home, reference, head=head, ask=ask)

    def visibility(
        self, upstream: str, repository: str, reference: Reference | None = None, *, hops: tuple[str, ...] = ()
    ) -> bool:
        """Return whether everyone may see a mirrored repository; ``reference`` is what the client asked for.

        Undecidable is the last decision, else False. Raises :class:`RelayLoop`.
        """
        return self._visibilities.is_public(Target(upstream, repository), reference, hops=self._pass(upstream, hops))

    def link_blob(self, upstream: str, repository: str, digest: Digest, *, hops: tuple[str, ...] = ()) -> int:
        """Let a mirrored repository show a blob that is stored already; return its size in bytes.

        Raises ``BlobUnknown``, ``RepositoryDenied``, ``UpstreamLimited``, ``UpstreamUnavailable`` or ``RelayLoop``.
        """
        return self._blobs.link(Target(upstream, repository), digest, hops=self._pass(upstream, hops))

    def document(
        self, upstream: str, repository: str, path_and_query: str, *, hops: tuple[str, ...] = ()
    ) -> PassedDocument:
        """Return ``tags/list[?…]`` or ``referrers/<digest>[?…]`` of a mirrored repository as the upstream answers it.

        Raises as :meth:`manifest`; ``ManifestUnknown`` then means the repository.
        """
        return self._documents.get(Target(upstream, repository), path_and_query, hops=self._pass(upstream, hops))

    def invalidate(self, upstream: str, repository: str, tag: Tag) -> None:
        """Forget what a tag meant; its manifest stays stored."""
        self._tags.forget(Target(upstream, repository), tag)

    def _pass(self, upstream: str, hops: tuple[str, ...]) -> tuple[str, ...]:
        """Return the hops with this mirror's mark, or raise :class:`RelayLoop` before any flight waits for itself."""
        if self._node in hops or len(hops) >= MAX_HOPS:
            raise RelayLoop(upstream, (*hops, self._node))
        return (*hops, self._node)
