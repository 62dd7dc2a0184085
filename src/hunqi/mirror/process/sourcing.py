"""Who is asked for what: the configured sources in the order of the health memory.

Of a blob, the way that the first question for it came is remembered, so that it is not asked back along it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from hunqi.mirror.peers.client import PeerClient
from hunqi.mirror.peers.roster import Peer
from hunqi.mirror.settings import ANY_UPSTREAM, MirrorSettings, Origin
from hunqi.mirror.sources.errors import NotFound, SourceError, SourceServerError
from hunqi.mirror.sources.health import HealthMemory
from hunqi.mirror.sources.model import RemoteBlob, SourceKind
from hunqi.mirror.sources.proxies import ProxyRules
from hunqi.mirror.sources.source import Source
from hunqi.mirror.sources.stream import BlobStream
from hunqi.oci.digest import Digest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Way:
    """How a question came to this mirror."""

    hops: tuple[str, ...] = ()
    from_peer: bool = False


@dataclass(frozen=True, slots=True)
class BoundSource:
    """A source as a fetch sees it: it marks every question with the way that it came. The fetch reports its health."""

    source: Source
    hops: tuple[str, ...]

    @property
    def id(self) -> str:
        """The source's id."""
        return self.source.id

    @property
    def kind(self) -> SourceKind:
        """Peer, relay or upstream."""
        return self.source.kind

    def open_blob(self, blob: RemoteBlob, /, *, start: int, end: int | None, if_match_etag: str | None) -> BlobStream:
        """Open a range of a blob; raises :class:`SourceError`.

        A peer whose own sources fail is well: it does not have the blob, and the next source is asked.
        """
        try:
            return self.source.open_blob(blob, start=start, end=end, if_match_etag=if_match_etag, hops=self.hops)
        except SourceServerError as error:
            if self.kind is SourceKind.PEER and blob.upstream is not None:
                raise NotFound(self.id, f"could not get it either: {error.reason}") from error
            raise


PeersOf = Callable[[RemoteBlob], Sequence[Source]]
"""The peers to ask for a blob, best first."""
MAX_OWNERS: Final = 2
"""Peers that are asked for a mirrored blob before this node goes upstream itself: each that fails costs time."""


class Sourcing:
    """The sources of one mirror; thread-safe."""

    def __init__(self, settings: MirrorSettings, *, node: str) -> None:
        self.node: Final = node
        self.health: Final = HealthMemory(time.monotonic)
        self._settings = settings
        self._proxies = ProxyRules.from_environment(settings.proxies)
        self._upstreams = {origin.name: self.source(origin, SourceKind.UPSTREAM) for origin in settings.upstreams}
        self._relays = [(origin.name, self.source(origin, SourceKind.RELAY)) for origin in settings.relays]
        self._credentialed = frozenset(
            origin.name
            for origin in (*settings.upstreams, *settings.relays)
            if origin.credentials_file is not None or origin.credential_helper is not None
        )
        self._lock = threading.Lock()
        self._ways: dict[Digest, Way] = {}
        self.peers: Final = [self._peer(url) for url in settings.peers.urls]
        self.peers_of: PeersOf = lambda _blob: ()

    def source(self, origin: Origin, kind: SourceKind) -> Source:
        """Return a new source with this mirror's deadlines and proxies."""
        return Source(origin, kind, deadlines=self._settings.deadlines, proxies=self._proxies)

    def _peer(self, url: str) -> Peer:
        """Return how a node is reached: straight, with the cluster's certificates and no others, on short notice."""
        tls, deadlines = self._settings.peers.tls, self._settings.deadlines
        origin = Origin(
            name="peer",
            url=url,
            ca_file=tls.ca_file if tls else None,
            client_cert_file=tls.cert_file if tls else None,
            client_key_file=tls.key_file if tls else None,
        )
        # The owner answers when its own source has: it may take as long as that takes.
        patience_s = deadlines.connect_s + deadlines.first_byte_s + 1.0
        near = replace(deadlines, connect_s=min(1.0, deadlines.connect_s), first_byte_s=patience_s)
        source = Source(origin, SourceKind.PEER, deadlines=near, proxies=ProxyRules())
        return Peer(source, PeerClient(origin, label=source.id))

    def all(self) -> list[Source]:
        """Return the upstreams and relays."""
        return [*(relay for _, relay in self._relays), *self._upstreams.values()]

    def of_upstream(self, upstream: str) -> Sequence[Source]:
        """Return relays, then the upstream, those out of use last."""
        relays = [relay for name, relay in self._relays if name in {upstream, ANY_UPSTREAM}]
        origin = self._upstreams.get(upstream)
        return self.health.order([*relays, *((origin,) if origin else ())])

    def with_credentials(self, upstream: str) -> bool:
        """Whether an answer about ``upstream`` may be for this mirror's credentials only."""
        return bool(self._credentialed & {upstream, ANY_UPSTREAM})

    def has_peers(self) -> bool:
        """Whether other nodes of the cluster are configured."""
        return bool(self._settings.peers.urls)

    def could_have(self, peer: Source, error: SourceError) -> bool:
        """Whether a peer that failed may still have what it was asked for: it is live, and did not say no."""
        self.health.failed(peer.id, error.blame)
        return not isinstance(error, NotFound) and self.health.state(peer.id).down_until_s is None

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
        return [BoundSource(source, (*way.hops, self.node)) for source in self._asked(blob, way)]

    def of_head(self, blob: RemoteBlob, way: Way) -> Sequence[Source]:
        """Return who can tell of a blob whether it is there, in the order of asking."""
        if blob.upstream is not None:
            return self.of_upstream(blob.upstream)
        return self._asked(blob, way)

    def _asked(self, blob: RemoteBlob, way: Way) -> Sequence[Source]:
        peers = () if way.from_peer else self.peers_of(blob)
        others = self.of_upstream(blob.upstream) if blob.upstream else ()
        return (*peers, *others)

    def close(self) -> None:
        """Close the idle connections."""
        for source in self.all():
            source.close()
