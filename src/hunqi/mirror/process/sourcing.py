"""Who is asked for what: the configured sources, watched by the health memory and in its order.

A source that is out of use answers at once with an error instead of being dialled, so that a client's own fallback need
not wait. Of a blob, the way that the first question for it came is remembered, so that it is not asked back along it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from hunqi.mirror.names import Target
from hunqi.mirror.settings import MirrorSettings, Origin
from hunqi.mirror.sources.errors import SourceError, SourceUnreachable
from hunqi.mirror.sources.health import Admission, HealthMemory
from hunqi.mirror.sources.model import Document, ManifestBody, ManifestHead, RemoteBlob, SourceKind
from hunqi.mirror.sources.proxies import ProxyRules
from hunqi.mirror.sources.source import Source
from hunqi.mirror.sources.stream import BlobStream
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Reference

ANY_UPSTREAM: Final = "*"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Way:
    """How a question came to this mirror."""

    hops: tuple[str, ...] = ()
    from_peer: bool = False


class WatchedSource:
    """A source whose successes and failures are remembered."""

    def __init__(self, source: Source, health: HealthMemory) -> None:
        self.source: Final = source
        self._health = health

    @property
    def id(self) -> str:
        """The source's id."""
        return self.source.id

    @property
    def kind(self) -> SourceKind:
        """Peer, relay or upstream."""
        return self.source.kind

    def open_blob(
        self,
        blob: RemoteBlob,
        *,
        start: int,
        end: int | None,
        if_match_etag: str | None,
        hops: tuple[str, ...] = (),
    ) -> WatchedStream:
        """Open a range of a blob; raises :class:`SourceError`."""
        begun = time.monotonic()
        stream = self._watch(
            lambda: self.source.open_blob(blob, start=start, end=end, if_match_etag=if_match_etag, hops=hops)
        )
        return WatchedStream(stream, self.source.id, self._health, begun)

    def head_blob(self, target: RemoteBlob, *, hops: tuple[str, ...] = ()) -> int | None:
        """HEAD a blob; raises :class:`SourceError`."""
        return self._watch(lambda: self.source.head_blob(target, hops=hops))

    def head_manifest(
        self, repository: Target, reference: Reference, *, anonymous: bool = False, hops: tuple[str, ...] = ()
    ) -> ManifestHead:
        """HEAD a manifest; raises :class:`SourceError`."""
        return self._watch(lambda: self.source.head_manifest(repository, reference, anonymous=anonymous, hops=hops))

    def get_manifest(self, repository: Target, reference: Reference, *, hops: tuple[str, ...] = ()) -> ManifestBody:
        """GET a manifest; raises :class:`SourceError`."""
        return self._watch(lambda: self.source.get_manifest(repository, reference, hops=hops))

    def get_document(self, repository: Target, path: str, *, hops: tuple[str, ...] = ()) -> Document:
        """GET a list; raises :class:`SourceError`."""
        return self._watch(lambda: self.source.get_document(repository, path, hops=hops))

    def _watch(self, question: Callable[[], T]) -> T:
        if self._health.admit(self.id) is Admission.DOWN:
            raise SourceUnreachable(self.id, "is out of use after its last failures, and probed again soon")
        try:
            answer = question()
        except SourceError as error:
            self._health.failed(self.id, error.blame)
            raise
        self._health.succeeded(self.id)
        return answer


class WatchedStream:
    """A blob's stream that tells the health memory how fast it was and how it ended."""

    def __init__(self, stream: BlobStream, source: str, health: HealthMemory, begun: float) -> None:
        self._stream = stream
        self._source = source
        self._health = health
        self._begun = begun
        self._bytes = 0
        self.status_partial: Final = stream.status_partial
        self.start: Final = stream.start
        self.length: Final = stream.length
        self.total_size: Final = stream.total_size
        self.etag: Final = stream.etag

    def readinto(self, buffer: memoryview, /) -> int:
        """Read; 0 is the clean end. Raises :class:`SourceError`."""
        try:
            count = self._stream.readinto(buffer)
        except SourceError as error:
            self._health.failed(self._source, error.blame)
            raise
        self._bytes += count
        return count

    def abort(self) -> None:
        """Make a read in another thread raise at once."""
        self._stream.abort()

    def close(self) -> None:
        """Close, and report the speed once."""
        if self._bytes:
            self._health.measured(self._source, self._bytes, time.monotonic() - self._begun)
            self._bytes = 0
        self._stream.close()


@dataclass(frozen=True, slots=True)
class BoundSource:
    """A source as a fetch sees it: it marks every question with the way that it came."""

    watched: WatchedSource
    hops: tuple[str, ...]

    @property
    def id(self) -> str:
        """The source's id."""
        return self.watched.id

    @property
    def kind(self) -> SourceKind:
        """Peer, relay or upstream."""
        return self.watched.kind

    def open_blob(self, blob: RemoteBlob, *, start: int, end: int | None, if_match_etag: str | None) -> WatchedStream:
        """Open a range of a blob; raises :class:`SourceError`."""
        return self.watched.open_blob(blob, start=start, end=end, if_match_etag=if_match_etag, hops=self.hops)


PeersOf = Callable[[RemoteBlob], Sequence[WatchedSource]]
"""The peers to ask for a blob, best first."""


class Sourcing:
    """The sources of one mirror; thread-safe."""

    def __init__(self, settings: MirrorSettings, *, node: str) -> None:
        self.node: Final = node
        self.health: Final = HealthMemory(time.monotonic)
        self._settings = settings
        self._proxies = ProxyRules.from_environment(settings.proxies)
        self._upstreams = {origin.name: self.watched(origin, SourceKind.UPSTREAM) for origin in settings.upstreams}
        self._relays = [(origin.name, self.watched(origin, SourceKind.RELAY)) for origin in settings.relays]
        self._credentialed = frozenset(
            origin.name
            for origin in (*settings.upstreams, *settings.relays)
            if origin.credentials_file is not None or origin.credential_helper is not None
        )
        self._lock = threading.Lock()
        self._ways: dict[Digest, Way] = {}
        self.peers_of: PeersOf = lambda _blob: ()

    def watched(self, origin: Origin, kind: SourceKind) -> WatchedSource:
        """Return a new source of this mirror's deadlines and health memory."""
        source = Source(origin, kind, deadlines=self._settings.deadlines, proxies=self._proxies)
        return WatchedSource(source, self.health)

    def all(self) -> list[WatchedSource]:
        """Return the upstreams and relays."""
        return [*(relay for _, relay in self._relays), *self._upstreams.values()]

    def of_upstream(self, upstream: str) -> Sequence[WatchedSource]:
        """Return relays, then the upstream, those out of use last."""
        relays = [relay for name, relay in self._relays if name in {upstream, ANY_UPSTREAM}]
        origin = self._upstreams.get(upstream)
        return self.health.order([*relays, *((origin,) if origin else ())])

    def with_credentials(self, upstream: str) -> bool:
        """Whether an answer about ``upstream`` may be for this mirror's credentials only."""
        return bool(self._credentialed & {upstream, ANY_UPSTREAM})

    def set_way(self, digest: Digest, way: Way) -> None:
        """Remember how the first question for a blob came."""
        with self._lock:
            self._ways[digest] = way

    def forget_way(self, digest: Digest) -> None:
        """Forget it again."""
        with self._lock:
            self._ways.pop(digest, None)

    def of_blob(self, blob: RemoteBlob) -> Sequence[BoundSource]:
        """Return the sources of a blob, best first: the peer that owns it, relays, the upstream."""
        with self._lock:
            way = self._ways.get(blob.digest, Way())
        peers = () if way.from_peer else self.peers_of(blob)
        others = self.of_upstream(blob.upstream) if blob.upstream else ()
        return [BoundSource(source, (*way.hops, self.node)) for source in (*peers, *others)]

    def close(self) -> None:
        """Close the idle connections."""
        for watched in self.all():
            watched.source.close()
