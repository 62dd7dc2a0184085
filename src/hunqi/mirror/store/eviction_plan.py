"""What leaves the cache, decided without I/O.

Between two marks: nothing happens up to the high one; above it, content leaves until the low one is reached. Order: a
manifest is as recently used as itself or any index that names it, a blob as itself or any manifest that names it; the
least recent leaves first, and of equals what names others before what is named. So every candidate's turn comes after
the turns of all that name it, and one pass in that order is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class MarksError(ValueError):
    """Marks that could never be met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Bytes of cached content (part files included) at which eviction begins and ends."""

    high_bytes: int
    low_bytes: int

    def __post_init__(self) -> None:
        if not 0 <= self.low_bytes <= self.high_bytes:
            raise MarksError(f"0 <= low ({self.low_bytes}) <= high ({self.high_bytes}) must hold")

    @classmethod
    def of_limit(cls, limit_bytes: int, *, low_percent: int = 90) -> Marks:
        """Return the marks of ``--cache-max``."""
        return cls(high_bytes=limit_bytes, low_bytes=limit_bytes * low_percent // 100)

    def bytes_to_free(self, *, cached_bytes: int, part_bytes: int) -> int:
        """Return how much is to leave now; 0 for nothing. Pushed bytes are nobody's business here."""
        used = cached_bytes + part_bytes
        return used - self.low_bytes if used > self.high_bytes else 0


class Verdict(Enum):
    """What becomes of a candidate when its turn comes."""

    EVICT = "evict"
    GONE = "gone"
    PUSHED = "pushed"
    PINNED = "pinned"
    IN_USE = "in use"
    REFERENCED = "referenced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A candidate as it stands at its turn, within the transaction that would take it."""

    stored: bool
    pushed: bool
    pinned: bool
    in_use: bool
    referenced: bool
    """By a stored manifest, other than as its subject."""


def judge(standing: Standing) -> Verdict:
    """Decide on one candidate. What a pinned or pushed manifest names is referenced, since that manifest stays."""
    if not standing.stored:
        return Verdict.GONE
    for holds, verdict in (
        (standing.pushed, Verdict.PUSHED),
        (standing.pinned, Verdict.PINNED),
        (standing.in_use, Verdict.IN_USE),
        (standing.referenced, Verdict.REFERENCED),
    ):
        if holds:
            return verdict
    return Verdict.EVICT
