"""Everything that can be set about a mirror, as values with their units and defaults.

Nothing here reads a file or the environment; ``hunqi.config`` does, and builds these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

WELL_KNOWN_UPSTREAMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "docker.io": "https://registry-1.docker.io",
        "ghcr.io": "https://ghcr.io",
        "quay.io": "https://quay.io",
        "registry.k8s.io": "https://registry.k8s.io",
        "gcr.io": "https://gcr.io",
        "mcr.microsoft.com": "https://mcr.microsoft.com",
    }
)


ANY_UPSTREAM: Final = "*"
"""The name of a relay that serves every upstream."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """A certificate chain and its key, in PEM."""

    cert_file: Path
    key_file: Path
    ca_file: Path | None = None
    """With it, clients must show a certificate of this authority."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One place that images come from: an upstream registry, a relay or a peer."""

    name: str
    """The upstream's name in image references (``docker.io``); for a relay or a peer a label."""
    url: str
    """``https://host[:port]`` or, when written so, ``http://…``."""
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    credentials_file: Path | None = None
    """A Docker ``config.json``; its entry for this origin's host is used."""
    credential_helper: str | None = None
    """``NAME`` of a ``docker-credential-NAME`` program."""
    bandwidth_limit: int | None = None
    """Bytes a second from this origin, all connections together."""
    max_connections: int = 32
    allow: tuple[str, ...] = ()
    """Patterns (``library/*``) of repositories that may be mirrored; empty allows all."""
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long the outside may take, in seconds; there is no cap on a whole download."""

    connect_s: float = 3.0
    first_byte_s: float = 10.0
    stall_s: float = 15.0


class OnDisconnect(Enum):
    """What becomes of a fetch when its last reader has left."""

    FINISH = "finish"
    FINISH_IF_OVER = "finish-if-over"
    STOP = "stop"


SMALL_BLOB: Final = 2 * MIB
"""What is read ahead up to this size costs a round trip rather than bandwidth."""
SMALL_PARALLEL: Final = 24
"""Most blobs of read-ahead in flight, small ones included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """How blobs are downloaded."""

    connections: int = 8
    """Most connections for one blob; 1 turns ranges off."""
    range_threshold: int = 16 * MIB
    """Bytes; a smaller blob is fetched over one connection."""
    on_disconnect: OnDisconnect = OnDisconnect.FINISH
    finish_percent: int = 50
    """For ``finish-if-over``: a fetch that is this far goes on."""
    parallel: int = 64
    """Most blobs in flight; further ones wait."""
    read_ahead: bool = True
    read_ahead_parallel: int = 4
    """Most blobs of read-ahead in flight; small ones do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSettings:
    """How long a tag's answer is good, in seconds."""

    ttl_s: float = 60.0
    patterns: tuple[tuple[str, float], ...] = ()
    """``(pattern of "repository:tag", ttl_s)``; the first match wins."""
    stale_s: float = 300.0
    """For so long after its TTL a tag is answered at once and revalidated behind the answer; later, before it."""
    negative_s: float = 10.0
    """How long "there is no such manifest" is remembered."""
    visibility_s: float = 3600.0
    """How long an upstream repository's being public or private is remembered."""

    def ttl_of(self, repository: str, tag: str) -> float:
        """Return the TTL in seconds of ``repository:tag``."""
        name = f"{repository}:{tag}"
        return next((ttl for pattern, ttl in self.patterns if fnmatchcase(name, pattern)), self.ttl_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """What of a pushed repository ``gc`` removes."""

    pattern: str
    """Of the repository's name."""
    keep_newest: int | None = None
    max_age_s: float | None = None
    untagged_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSettings:
    """How much may be kept."""

    cache_max: int = 50 * GIB
    """Bytes of cached content and part files; pushed content does not count."""
    low_percent: int = 90
    """An eviction pass goes down to this share of ``cache_max``."""
    upload_max_age_s: float = 7 * 86400.0
    retention: tuple[RetentionRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """The mirrors of other nodes of this cluster."""

    urls: tuple[str, ...] = ()
    """Peer addresses of the others (this node's own may be among them)."""
    listen: Address | None = None
    tls: TlsFiles | None = None
    """Certificate, key and authority of the cluster; without it peers speak plain HTTP, allowed on loopback only."""
    names: tuple[str, ...] = ()
    """Host names in the certificates of nodes that may ask; empty: whoever has a certificate of the authority."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Who may do what without being a known user."""

    users_file: Path | None = None
    """Default ``DIR/users.json``."""
    trusted_key: Path | None = None
    """A public key (PEM, Ed25519) that vouches for users: that of a Hunqi control."""
    allow_anonymous_push: bool = False
    local: tuple[str, ...] = ()
    """Namespaces that are local before anyone pushed to them."""
    token_ttl_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSettings:
    """One mirror instance."""

    data_dir: Path
    listen: Address = Address("127.0.0.1", 5000)
    upstreams: tuple[Origin, ...] = ()
    relays: tuple[Origin, ...] = ()
    """``NAME=URL``: mirrors that are asked before the upstream NAME (``*`` for all)."""
    default_upstream: str = "docker.io"
    workers: int = 2
    workers_at_rest: int | None = None
    """So many while there is little to do; all of them otherwise and if None."""
    tls: TlsFiles | None = None
    proxies: Mapping[str, str] = field(default_factory=dict[str, str])
    """The proxy variables of the environment (``https_proxy``, ``http_proxy``, ``no_proxy``), lower case."""
    deadlines: Deadlines = Deadlines()
    fetch: FetchSettings = FetchSettings()
    tags: TagSettings = TagSettings()
    space: SpaceSettings = SpaceSettings()
    peers: PeerSettings = PeerSettings()
    access: AccessSettings = AccessSettings()
    drain_s: float = 30.0
    """Longest wait for running answers when stopping."""
    access_log: Path | None = None
    """File of the access lines; default standard output."""
