"""Manifests by digest: at hand in the store (or in memory while the disk is full), or fetched, verified and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from hunqi.mirror.names import Target
from hunqi.mirror.resolve.asking import Asking, SourcePort, Unanswered
from hunqi.mirror.resolve.errors import ManifestUnknown
from hunqi.mirror.resolve.flights import Flights
from hunqi.mirror.resolve.memory import Bodies, Body, Expiring
from hunqi.mirror.resolve.model import Resolved
from hunqi.mirror.resolve.plan import Failure
from hunqi.mirror.resolve.visibility import Visibilities
from hunqi.mirror.settings import TagSettings
from hunqi.mirror.sources.errors import SourceMisbehaves
from hunqi.mirror.sources.model import ManifestBody, ManifestHead
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.errors import StoreFullError, StoreUnavailableError
from hunqi.mirror.store.model import LinkKind
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Manifest, ManifestError
from hunqi.oci.reference import Reference, Tag

MAX_BODIES_BYTES: Final = 32 * 1024 * 1024
"""Memory for manifests that the disk has no room for."""

OnManifest = Callable[[str, str, Digest, Manifest], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the parts of this room share."""

    catalogue: Catalogue
    asking: Asking
    flights: Flights
    visibilities: Visibilities
    owners: Callable[[Digest], Sequence[SourcePort]]
    has_peers: Callable[[], bool]
    settings: TagSettings
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """How a question may go on from here."""

    hops: tuple[str, ...]
    """The mirrors that it passed, this one included."""
    peers: bool
    """Whether nodes of this cluster may be asked."""


class Manifests:
    """Finds, fetches and links manifests. Thread-safe."""

    def __init__(self, room: Room, *, on_manifest: OnManifest | None) -> None:
        self._room = room
        self._on_manifest = on_manifest
        self._bodies = Bodies(max_bytes=MAX_BODIES_BYTES)
        self._unknown: Expiring[tuple[str, Reference], bool] = Expiring(room.clock)

    def find(self, home: Target, digest: Digest) -> Resolved | None:
        """Return the manifest if it is at hand and the repository may show it."""
        stored = self._room.catalogue.manifest(home.key, digest)
        if stored is not None:
            return Resolved(digest=digest, media_type=stored.media_type, size=stored.size)
        body = self._bodies.get(home.key, digest)
        if body is None:
            return None
        return Resolved(digest=digest, media_type=body.media_type, size=len(body.data), body=body.data)

    def by_digest(self, home: Target, digest: Digest, *, head: bool, ask: Ask) -> Resolved:
        """Return the manifest, fetched if need be; for a HEAD the upstream's HEAD is enough.

        Raises the errors of :mod:`hunqi.mirror.resolve.errors`.
        """
        found = self.find(home, digest)
        if found is not None:
            return found
        self.refuse_if_unknown(home, digest)
        key = ("manifest", home.key, digest, head)
        try:
            obtain = partial(self._obtain, home, digest, head=head, ask=ask)
            return self._room.flights.do(key, obtain, depth=len(ask.hops))
        except Unanswered as unanswered:
            raise self.settle(home, digest, unanswered, ask.hops) from unanswered

    def fetch(self, home: Target, reference: Reference, *, tag: Tag | None, ask: Ask) -> Resolved:
        """GET a manifest, keep it and point ``tag`` at it. Raises :class:`Unanswered`."""

        def question(source: SourcePort) -> tuple[ManifestBody, Manifest]:
            got = source.get_manifest(home, reference, hops=ask.hops)
            try:
                return got, Manifest.parse(got.data, got.media_type)
            except ManifestError as error:
                raise SourceMisbehaves(source.id, f"sent a manifest that cannot be kept: {error}") from error

        first = self._room.owners(reference) if ask.peers and isinstance(reference, Digest) else ()
        answer = self._room.asking.ask(home, question, first=first)
        got, manifest = answer.value
        resolved = self._keep(home, got, manifest, tag)
        self._unknown.forget((home.key, reference))
        if answer.is_public:
            self._room.visibilities.note_public(home)
        else:
            self._room.visibilities.note_stored(home)
        if self._on_manifest is not None:
            self._on_manifest(home.upstream or "", home.repository, got.digest, manifest)
        return resolved

    def head(self, home: Target, reference: Reference, *, hops: tuple[str, ...]) -> ManifestHead:
        """HEAD a manifest. Raises :class:`Unanswered`."""
        answer = self._room.asking.ask(home, lambda source: source.head_manifest(home, reference, hops=hops))
        if answer.is_public:
            self._room.visibilities.note_public(home)
        self._unknown.forget((home.key, reference))
        return answer.value

    def settle(self, home: Target, reference: Reference, unanswered: Unanswered, hops: tuple[str, ...]) -> Exception:
        """Remember what a failure says for others, and return the error for the caller."""
        unknown = ManifestUnknown(home.key, str(reference))
        if unanswered.failure is Failure.UNKNOWN:
            self._unknown.put((home.key, reference), True, for_s=self._room.settings.negative_s)
        if unanswered.failure is Failure.REFUSED and unanswered.by_stranger:
            self._room.visibilities.note_private(home)
        return unanswered.as_error(home, hops, unknown)

    def refuse_if_unknown(self, home: Target, reference: Reference) -> None:
        """Raise :class:`ManifestUnknown` if the sources lately said so."""
        if self._unknown.get((home.key, reference)):
            raise ManifestUnknown(home.key, str(reference))

    def _obtain(self, home: Target, digest: Digest, *, head: bool, ask: Ask) -> Resolved:
        found = self.find(home, digest)
        if found is not None:
            return found
        if head or self._room.catalogue.content(digest) is not None:
            seen = self.head(home, digest, hops=ask.hops)
            linked = self._link(home, digest)
            if linked is not None:
                return linked
            if head and seen.size is not None:
                return Resolved(digest=digest, media_type=seen.media_type, size=seen.size)
        return self.fetch(home, digest, tag=None, ask=ask)

    def _link(self, home: Target, digest: Digest) -> Resolved | None:
        """Show through this repository what is stored for another one, now that a HEAD has shown it to be here too."""
        try:
            linked = self._room.catalogue.add_link(home.key, digest, kind=LinkKind.MANIFEST, pushed=False)
        except (StoreFullError, StoreUnavailableError):
            return None
        return self.find(home, digest) if linked else None

    def _keep(self, home: Target, got: ManifestBody, manifest: Manifest, tag: Tag | None) -> Resolved:
        resolved = Resolved(digest=got.digest, media_type=manifest.media_type, size=len(got.data))
        tags = (tag,) if tag else ()
        try:
            self._room.catalogue.put_manifest(
                home.key, got.data, manifest=manifest, digest=got.digest, tags=tags, pushed=False
            )
        except (StoreFullError, StoreUnavailableError):
            body = Body(data=got.data, media_type=manifest.media_type)
            self._bodies.put(home.key, got.digest, body)
            return Resolved(digest=got.digest, media_type=manifest.media_type, size=len(got.data), body=got.data)
        self._bodies.forget(home.key, got.digest)
        return resolved
