"""Which bytes a connection fetches next, over how many connections, and who is too slow. Pure: no I/O, no clock.

Segments are handed out in order from the first missing byte, so that readers who began at 0 do not starve; a reader who
waits for bytes further on gets every second segment. They last about a second each and shrink towards the end, so that
the connections finish together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hunqi.kit.extents import Extents, Interval

MIB: Final = 1024 * 1024
FIRST_SEGMENT: Final = 8 * MIB
"""Bytes of a connection's first segment, when its speed is not known."""
MIN_SEGMENT: Final = 4 * MIB
MAX_SEGMENT: Final = 64 * MIB
MAX_SEGMENT_ALONE: Final = 512 * MIB
"""For a single connection: nobody waits for a share, and each request costs a round trip."""
SEGMENT_S: Final = 1.0
"""A segment should last about so long: a request costs a round trip."""
WINDOW_S: Final = 0.2
"""Over so long the speed of a number of connections is measured."""
SETTLE_S: Final = 2.0
"""Longest wait for new connections to deliver before measuring anyway."""
GAIN: Final = 1.2
"""Doubling the connections must raise the speed by this factor, or it is taken back."""
RETRY_RAMP_S: Final = 10.0
FAST_BYTES_S: Final = 128 * MIB
"""A connection that fills a gigabit link is not multiplied: the processor is the limit then (docs/adr/0004)."""
SLOW_BYTES_S: Final = 16 * 1024
SLOW_AFTER_S: Final = 10.0
SLOW_SHARE: Final = 8
"""A source is too slow below one eighth of the best other one."""
SHARE_AFTER_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes ``[start, end)`` of the blob; without ``end`` all that follow."""

    start: int
    end: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the next segment depends on."""

    size: int | None
    there: Extents
    claimed: Extents
    """What other connections are fetching; ends at ``size``, or at any greater number where the end is not known."""
    wants: tuple[Interval, ...] = ()
    """What readers wait for, most urgent first."""
    want_first: bool = False
    """It is the wants' turn."""
    whole: bool = False
    """One connection fetches all that is missing."""
    rate: float | None = None
    """Bytes a second of the asking connection."""
    lanes: int = 1
    """Connections at work, the asking one included."""


def next_segment(situation: Situation) -> Segment | None:
    """Return the bytes that the asking connection fetches next, or None when nothing is left to hand out."""
    size = situation.size
    if size is None:
        return _unsized(situation)
    taken = Extents(situation.there)
    for start, end in situation.claimed:
        taken.add(start, end)
    gaps = list(taken.gaps(0, size))
    if not gaps:
        return None
    if situation.whole:
        return Segment(*gaps[0])
    start, end = gaps[0]
    if situation.want_first:
        start, end = _wanted(gaps, situation.wants) or gaps[0]
    free = sum(high - low for low, high in gaps)
    length = segment_bytes(situation.rate, free_bytes=free, lanes=situation.lanes)
    return Segment(start, end if end - start < length + MIN_SEGMENT // 2 else start + length)


def segment_bytes(rate: float | None, *, free_bytes: int, lanes: int) -> int:
    """Return the length of a segment for a connection of ``rate`` bytes a second with ``free_bytes`` left for all."""
    length = FIRST_SEGMENT if rate is None else int(rate * SEGMENT_S)
    if lanes == 1:
        return min(max(length, MIN_SEGMENT), MAX_SEGMENT_ALONE)
    length = min(max(length, MIN_SEGMENT), MAX_SEGMENT)
    return max(MIN_SEGMENT, min(length, free_bytes // (2 * lanes)))


def reach_bytes(rate: float) -> int:
    """Return how far ahead of a connection of ``rate`` bytes a second another one is not sooner."""
    return max(MIN_SEGMENT, int(rate * SEGMENT_S))


def unclaimed_want(situation: Situation) -> bool:
    """Whether a reader waits for a byte that nobody is fetching."""
    return any(
        not situation.there.covers(start, start + 1) and not situation.claimed.covers(start, start + 1)
        for start, _ in situation.wants
    )


def _unsized(situation: Situation) -> Segment | None:
    if situation.claimed:
        return None
    start = situation.there.end_from(0)
    return Segment(start, None if situation.whole else start + FIRST_SEGMENT)


def _wanted(gaps: list[Interval], wants: tuple[Interval, ...]) -> Interval | None:
    for start, end in wants:
        for low, high in gaps:
            if low < end and start < high:
                return max(low, start), high
    return None


@dataclass(slots=True)
class Ramp:
    """How many connections: 1, 2, 4, … while each step still raises the speed; looked at again every ten seconds."""

    limit: int
    level: int = 1
    _since: float | None = None
    _window: tuple[float, int] | None = None
    _before: float | None = None
    _settled_until: float = field(default=0.0)

    def observe(self, now: float, received: int, delivering: int) -> int:
        """Return the number of connections to have.

        ``received`` counts the bytes of all connections so far, ``delivering`` the connections that get bytes now.
        """
        if self.level >= self.limit and self._before is None:
            return self.level
        if now < self._settled_until:
            return self.level
        if self._window is None:
            self._begin(now, received, delivering)
            return self.level
        began, counted = self._window
        if now - began >= WINDOW_S:
            self._decide((received - counted) / (now - began), now)
        return self.level

    def cap(self, limit: int) -> None:
        """Never go over ``limit`` again: a source refused another connection."""
        self.limit = max(1, min(self.limit, limit))
        self.level = min(self.level, self.limit)
        self._before = None

    def _begin(self, now: float, received: int, delivering: int) -> None:
        if self._since is None:
            self._since = now
        if delivering >= self.level or (delivering and now - self._since >= SETTLE_S):
            self._window = (now, received)

    def _decide(self, rate: float, now: float) -> None:
        self._window = self._since = None
        if self._before is not None and rate < self._before * GAIN:
            self.level = max(1, self.level // 2)
            self._before = None
            self._settled_until = now + RETRY_RAMP_S
            return
        if self.level >= self.limit or rate >= FAST_BYTES_S * self.level:
            self._before = None
            return
        self._before = rate
        self.level = min(self.level * 2, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast one connection has been since it began to wait for bytes."""

    age_s: float
    recent: float
    """Bytes a second over the last ``SHARE_AFTER_S``."""
    long: float
    """Bytes a second over the last ``SLOW_AFTER_S``."""


def is_too_slow(pace: Pace, *, best_elsewhere: float | None, has_alternative: bool) -> bool:
    """Whether a connection's source should be given up for another one.

    ``best_elsewhere`` is the best speed of one connection to another source; ``has_alternative`` whether another source
    could be asked now.
    """
    if not has_alternative:
        return False
    if pace.age_s >= SLOW_AFTER_S and pace.long < SLOW_BYTES_S:
        return True
    if best_elsewhere is None or pace.age_s < SHARE_AFTER_S:
        return False
    return pace.recent < best_elsewhere / SLOW_SHARE
