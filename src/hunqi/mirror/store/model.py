"""Values that the store takes and gives. Times are seconds since the epoch, sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import cast

from hunqi.oci.digest import Algorithm, Digest


class LinkKind(Enum):
    """What a digest is to a repository; a manifest's bytes may be read as a blob too."""

    BLOB = 0
    MANIFEST = 1


class EdgeRole(Enum):
    """How a manifest names another digest. A subject may be absent, and is not held by its referrers."""

    CONFIG = 0
    LAYER = 1
    MANIFEST = 2
    SUBJECT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Bytes that are stored once, whoever links them. ``pushed``: some repository had them pushed to it."""

    digest: Digest
    size: int
    pushed: bool
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The right of a repository to show a digest."""

    repo: str
    digest: Digest
    kind: LinkKind
    pushed: bool
    created_at: float
    media_type: str | None
    """Of manifests, as they were put; None for blobs."""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredManifest:
    """A manifest byte for byte."""

    digest: Digest
    media_type: str
    size: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRow:
    """Where a tag points; ``checked_at``: last asked upstream, ``changed_at``: last moved."""

    digest: Digest
    pushed: bool
    checked_at: float
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A list that an upstream answered (tags, referrers), kept as it came."""

    body: bytes
    content_type: str
    checked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """The last decision about an upstream's repository."""

    public: bool
    decided_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A digest that neither eviction nor retention may take, with all that it names."""

    repo: str
    digest: Digest
    reason: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What is stored; only cached bytes count against the cache's size."""

    cached_files: int
    cached_bytes: int
    pushed_files: int
    pushed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A push in progress; ``offset`` is how many bytes it had when this value was read."""

    id: str
    repo: str
    offset: int
    algorithm: Algorithm
    started_at: float


def stored_digest(text: str) -> Digest:
    """Return the digest of a text that was a digest when it was written."""
    algorithm, _, encoded = text.partition(":")
    return Digest(cast("Algorithm", algorithm), encoded)
