"""What a fetch tells its readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hunqi.kit.extents import Interval


class FetchStatus(Enum):
    """Where a fetch stands; every status but RUNNING is the last."""

    RUNNING = "running"
    DONE = "done"
    """The blob is in the store."""
    FAILED = "failed"
    NO_SPACE = "no-space"
    """The disk is full: the part file is gone, a relay may serve instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchState:
    """One moment of a fetch. ``extents`` are the bytes of the part file that are there."""

    status: FetchStatus
    size: int | None
    """Bytes; None until a manifest or a source told."""
    extents: tuple[Interval, ...]
    generation: str
    """Another one means that bytes announced before were thrown away: who sent some of them must cut its answer."""
    verified: bool
    """The digest is right: the last bytes may be given out, though the commit may still be running."""
    error: Exception | None
    bytes_by_source: Mapping[str, int]
    """Bytes that each source id sent for this fetch, since the process began."""
