"""Values of the sources room: what is asked and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hunqi.mirror.names import Target
from hunqi.mirror.sources.ratelimit import RateLimit
from hunqi.oci.digest import Digest


class SourceKind(Enum):
    """What stands behind a URL; the order is the order of asking."""

    PEER = "peer"
    RELAY = "relay"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBlob:
    """A blob of a repository; ``upstream`` is None for a local repository, which only peers have."""

    upstream: str | None
    repository: str
    digest: Digest

    @property
    def home(self) -> Target:
        """The repository it is asked through."""
        return Target(self.upstream, self.repository)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestHead:
    """The answer to HEAD on a manifest; ``size`` in bytes."""

    digest: Digest | None
    media_type: str
    size: int | None
    rate: RateLimit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestBody:
    """A manifest, byte-exact; ``digest`` is computed from ``data`` and agrees with what was asked and what the source
    said.
    """

    data: bytes
    media_type: str
    digest: Digest
    rate: RateLimit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A JSON answer that is passed through: tag lists and referrers."""

    status: int
    data: bytes
    content_type: str
    link_header: str | None
    filters_applied: str | None
    """``OCI-Filters-Applied`` of a referrers list."""
