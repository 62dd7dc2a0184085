"""What is remembered of the sources' health: who is out of use, until when, and how fast each one is.

A source goes out of use at once when nothing there answers, and after three soft failures in a row. It stays so for 1
s, doubling up to 60 s. Then one request at a time is let through as a probe; its success brings the source back.
Failures that arrive while a source is already out of use are of the same event and count once. Pure but for the
clock, and thread-safe.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeVar

from hunqi.mirror.sources.errors import Blame
from hunqi.mirror.sources.model import SourceKind

FIRST_BACK_OFF_S: Final = 1.0
LONGEST_BACK_OFF_S: Final = 60.0
SOFT_LIMIT: Final = 3
"""So many soft failures in a row put a source out of use."""
PROBE_LEASE_S: Final = 30.0
"""A probe that nobody reports on is forgotten after so long."""
SPEED_WEIGHT: Final = 0.3
"""Of a new measurement in the moving average."""
SMALLEST_SAMPLE_BYTES: Final = 64 * 1024

_KINDS: Final = tuple(SourceKind)


class Admission(Enum):
    """Whether a source may be asked now."""

    OPEN = "open"
    PROBE = "probe"
    """Yes, as the one probe; report what came of it."""
    DOWN = "down"


class Ranked(Protocol):
    """What the order needs to know of a source."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def kind(self) -> SourceKind:
        """What it is."""
        ...


T = TypeVar("T", bound=Ranked)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHealth:
    """The state of one source; times are seconds of the given clock."""

    failures: int
    """In a row."""
    down_until_s: float | None
    """When it is probed (or was due to be); None while it is in use."""
    speed: float | None
    """Bytes a second, moving average; None before the first measurement."""


@dataclass(slots=True)
class _Entry:
    failures: int = 0
    downs: int = 0
    down_until_s: float | None = None
    probe_until_s: float | None = None
    speed: float | None = None


class HealthMemory:
    """Remembers the health of sources by id."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: defaultdict[str, _Entry] = defaultdict(_Entry)

    def admit(self, source: str) -> Admission:
        """Say whether to ask ``source`` now; whoever gets ``PROBE`` must report :meth:`succeeded` or :meth:`failed`."""
        now = self._clock()
        with self._lock:
            entry = self._entries[source]
            if entry.down_until_s is None:
                return Admission.OPEN
            if now < entry.down_until_s or (entry.probe_until_s is not None and now < entry.probe_until_s):
                return Admission.DOWN
            entry.probe_until_s = now + PROBE_LEASE_S
            return Admission.PROBE

    def succeeded(self, source: str) -> None:
        """The source answered as it should: back in use."""
        with self._lock:
            entry = self._entries[source]
            entry.failures = entry.downs = 0
            entry.down_until_s = entry.probe_until_s = None

    def failed(self, source: str, blame: Blame) -> None:
        """Take in an error's ``blame``; a mere refusal (404 and its like) is a success here."""
        if blame is Blame.ANSWERED:
            self.succeeded(source)
            return
        now = self._clock()
        with self._lock:
            entry = self._entries[source]
            is_probe = entry.probe_until_s is not None
            entry.probe_until_s = None
            if blame is Blame.OURS or (entry.down_until_s is not None and now < entry.down_until_s):
                return
            entry.failures += 1
            if blame is Blame.HARD or is_probe or entry.failures >= SOFT_LIMIT:
                back_off_s = min(FIRST_BACK_OFF_S * 2.0 ** min(entry.downs, 16), LONGEST_BACK_OFF_S)
                entry.downs += 1
                entry.down_until_s = now + back_off_s

    def measured(self, source: str, size_bytes: int, elapsed_s: float) -> None:
        """Take in how fast a transfer went; samples under 64 KiB say nothing."""
        if size_bytes < SMALLEST_SAMPLE_BYTES or elapsed_s <= 0:
            return
        sample = size_bytes / elapsed_s
        with self._lock:
            entry = self._entries[source]
            entry.speed = sample if entry.speed is None else entry.speed + SPEED_WEIGHT * (sample - entry.speed)

    def order(self, sources: Iterable[T]) -> list[T]:
        """Return the sources, best first: in use before down, peers, relays, upstreams, unmeasured, then faster
        first.
        """
        with self._lock:

            def rank(source: T) -> tuple[bool, int, bool, float]:
                entry = self._entries.get(source.id) or _Entry()
                kind = _KINDS.index(source.kind)
                return entry.down_until_s is not None, kind, entry.speed is not None, -(entry.speed or 0.0)

            return sorted(sources, key=rank)

    def state(self, source: str) -> SourceHealth:
        """Return what is known of ``source``."""
        with self._lock:
            entry = self._entries.get(source) or _Entry()
            return SourceHealth(failures=entry.failures, down_until_s=entry.down_until_s, speed=entry.speed)
