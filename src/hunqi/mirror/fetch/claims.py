"""Who fetches which bytes of one blob, and what readers wait for. Guarded by its fill's lock; no I/O, no clock.

A connection claims one segment after another. A claim may become shorter while it is worked at: when a reader waits far
behind its position, or another connection has nothing to do. Two claims never overlap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hunqi.kit.extents import Extents, Interval
from hunqi.mirror.fetch import plan
from hunqi.mirror.fetch.part import PartFile
from hunqi.mirror.fetch.plan import Pace, Ramp, Segment, Situation
from hunqi.mirror.fetch.ports import BlobStreamPort
from hunqi.mirror.fetch.standings import Candidate, Key, Standings
from hunqi.mirror.settings import FetchSettings

MAX_WANTS: Final = 64
WANT_BYTES: Final = 8 * 1024 * 1024
"""So much of what a reader waits for goes before the rest; it asks again when it waits again."""
ENDLESS: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One request that a connection is to make."""

    candidate: Candidate
    start: int
    end: int | None
    etag: str | None


@dataclass(eq=False, slots=True)
class Claim:
    """One connection at work: the bytes that are its own, and how it is doing."""

    number: int
    for_want: bool = False
    work: Work | None = None
    segment: Segment | None = None
    stream: BlobStreamPort | None = None
    moved: int = 0
    """Bytes since the request was made."""
    rate: float | None = None
    waiting_since: float = 0.0
    is_writing: bool = False
    is_cancelled: bool = False
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque[tuple[float, int]](maxlen=64))

    @property
    def position(self) -> int:
        """The first byte of the segment that is not there yet."""
        return (self.segment.start if self.segment else 0) + self.moved

    def rate_over(self, now: float, over_s: float) -> float:
        """Return the bytes a second of the last ``over_s`` seconds, or since the request."""
        began, counted = self.waiting_since, 0
        for at, moved in self.samples:
            if at > now - over_s:
                break
            began, counted = at, moved
        return (self.moved - counted) / max(now - began, 0.001)


class Claims:
    """The connections of one fetch; ``running`` are those at work, in the order of their birth."""

    def __init__(self, part: PartFile, standings: Standings, settings: FetchSettings) -> None:
        self.running: list[Claim] = []
        self.ramp: Final = Ramp(settings.connections)
        self._part = part
        self._standings = standings
        self._settings = settings
        self._wants: list[Interval] = []
        self._turn = 0

    def want(self, start: int, end: int) -> bool:
        """Note that a reader waits for ``[start, end)``; False when that is known."""
        wanted = (start, min(end, start + WANT_BYTES))
        if start >= end or wanted in self._wants:
            return False
        self._wants = [*self._wants[-MAX_WANTS + 1 :], wanted]
        return True

    def is_whole_mode(self, size: int | None) -> bool:
        """Whether one connection fetches all."""
        small = size is not None and size < self._settings.range_threshold
        return self._settings.connections == 1 or small

    def desired(self, now: float, *, size: int | None, received: int) -> int:
        """Return how many connections should be at work."""
        if self.is_whole_mode(size) or size is None:
            return 1
        self._shorten_before_wants(now)
        delivering = sum(1 for claim in self.running if claim.moved)
        level = self.ramp.observe(now, received, delivering)
        if level < self.ramp.limit and plan.unclaimed_want(self._situation(None, size)):
            level += 1
        return level

    def start(self, number: int, now: float, *, size: int | None, etags: Mapping[str, str]) -> Claim | None:
        """Return one more connection with its first request, if there is any for it."""
        claim = Claim(number=number, for_want=bool(self._wants))
        if self.assign(claim, now, size=size, etags=etags) is None:
            return None
        self.running.append(claim)
        return claim

    def assign(self, claim: Claim, now: float, *, size: int | None, etags: Mapping[str, str]) -> Work | None:
        """Give a connection its next request; None: there is nothing for it."""
        busy: dict[Key, int] = {}
        for one in self.running:
            if one is not claim and one.work is not None and one.segment is not None:
                busy[one.work.candidate.key] = busy.get(one.work.candidate.key, 0) + 1
        candidate = self._standings.choose(now, busy, claim.work.candidate.key if claim.work else None)
        if candidate is None:
            return None
        situation = self._situation(claim, size, candidate)
        segment = plan.next_segment(situation) or (None if situation.whole else self._split_longest(now))
        if segment is None:
            return None
        self._turn += 1
        claim.for_want, claim.stream, claim.moved = False, None, 0
        whole = self._standings.is_rangeless(candidate.key)
        claim.segment = Segment(0, size) if whole else segment
        claim.work = Work(
            candidate=candidate,
            start=claim.segment.start,
            end=None if whole or segment.end == size else segment.end,
            etag=etags.get(candidate.source.id),
        )
        return claim.work

    def cancel(self, claim: Claim) -> None:
        """Give a connection up: it writes no more, and its bytes are free again."""
        claim.is_cancelled = True
        if claim.stream is not None:
            claim.stream.abort()
        if not claim.is_writing:
            self.drop(claim)

    def drop(self, claim: Claim) -> None:
        """Forget a connection."""
        claim.segment = None
        if claim in self.running:
            self.running.remove(claim)

    def others_at_work(self, claim: Claim) -> bool:
        """Whether another connection holds a segment."""
        return any(one is not claim and one.segment for one in self.running)

    def paces(self, now: float) -> list[tuple[Claim, Pace]]:
        """Return how the connections that hold a request do; call about once a second."""
        found: list[tuple[Claim, Pace]] = []
        for claim in self.running:
            if claim.stream is None:
                continue
            claim.samples.append((now, claim.moved))
            recent, long = claim.rate_over(now, plan.SHARE_AFTER_S), claim.rate_over(now, plan.SLOW_AFTER_S)
            found.append((claim, Pace(age_s=now - claim.waiting_since, recent=recent, long=long)))
        return found

    # -- private

    def _splittable(self) -> list[tuple[Claim, int]]:
        """Return the claims that can lose their rest, with its end: who delivers, from a source that knows ranges."""
        return [
            (one, one.segment.end)
            for one in self.running
            if one.segment is not None
            and one.segment.end is not None
            and one.moved
            and one.work is not None
            and not self._standings.is_rangeless(one.work.candidate.key)
        ]

    def _split_longest(self, now: float) -> Segment | None:
        """Take half of what one connection has left, if that is long: it was claimed when its source was faster."""
        found = max(self._splittable(), key=lambda entry: entry[1] - entry[0].position, default=None)
        if found is None:
            return None
        claim, end = found
        left = end - claim.position
        if claim.segment is None or left < 2 * plan.reach_bytes(claim.rate_over(now, plan.SHARE_AFTER_S)):
            return None
        middle = end - left // 2
        claim.segment = Segment(claim.segment.start, middle)
        return Segment(middle, end)

    def _shorten_before_wants(self, now: float) -> None:
        """Free what a reader waits for when the connection that claimed it would come there late."""
        for wanted, _ in self._wants:
            for claim, end in self._splittable():
                reach = plan.reach_bytes(claim.rate_over(now, plan.SHARE_AFTER_S))
                if claim.segment is not None and claim.position + reach <= wanted < end:
                    claim.segment = Segment(claim.segment.start, wanted)

    def _situation(self, claim: Claim | None, size: int | None, candidate: Candidate | None = None) -> Situation:
        there = self._part.extents()
        self._wants = [
            (start, end)
            for start, end in self._wants
            if not there.covers(start, end if size is None else min(end, size))
        ]
        claimed = Extents()
        segments = [one.segment for one in self.running if one is not claim and one.segment is not None]
        for segment in segments:
            claimed.add(segment.start, (size or ENDLESS) if segment.end is None else segment.end)
        return Situation(
            size=size,
            there=there,
            claimed=claimed,
            wants=tuple(self._wants),
            want_first=bool(self._wants) and ((claim is not None and claim.for_want) or self._turn % 2 == 1),
            whole=self.is_whole_mode(size) or (candidate is not None and self._standings.is_rangeless(candidate.key)),
            rate=claim.rate if claim else None,
            lanes=max(1, len(segments) + 1, self.ramp.level),
        )
