"""Values that resolving gives. Times are seconds, sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass

from hunqi.oci.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a reference means at the moment. The bytes are in the store under ``digest``, unless ``body`` has them."""

    digest: Digest
    media_type: str
    size: int
    stale: bool = False
    """Past its TTL and not (yet) revalidated: the answer wears a warning."""
    age_s: float = 0.0
    """Since the upstream last confirmed it; 0 for digests, which never change."""
    body: bytes | None = None
    """Only when the disk had no room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedDocument:
    """A tag list or a referrers list as the upstream answered it; its links are still the upstream's own."""

    body: bytes
    content_type: str
    link_header: str | None
    filters_applied: str | None
    """``OCI-Filters-Applied`` of the upstream; without it the list is unfiltered."""
    stale: bool = False
    age_s: float = 0.0
