"""What the connections of one fetch share: which bytes are claimed by whom, what readers wait for, what went wrong.

One lock guards it all; it is held for microseconds, never during I/O. A connection that is given up (``cancel``) loses
its claim at once, unless it is inside a write, which then gives the claim back: so two connections never write the same
byte.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hunqi.kit.extents import Extents, Interval
from hunqi.mirror.fetch import plan
from hunqi.mirror.fetch.part import PartFile
from hunqi.mirror.fetch.plan import Pace, Ramp, Segment, Situation
from hunqi.mirror.fetch.ports import BlobStreamPort
from hunqi.mirror.fetch.standings import Candidate, Key, Standings
from hunqi.mirror.settings import FetchSettings
from hunqi.mirror.sources.errors import (
    SourceBusy,
    SourceChanged,
    SourceError,
    SourceMisbehaves,
    SourceUnreachable,
    TooManyRequests,
)
from hunqi.mirror.sources.health import Admission, HealthMemory

ANNOUNCE_S: Final = 0.004
"""Readers are told so often at most: an announcement wakes three processes."""
PROGRESS_BYTES: Final = 64 * 1024
"""A source that brought so much before it failed has moved the fetch on."""
REFUSED_S: Final = 0.5
"""A fetch looks again after so long whether a source that is out of use is back."""
MAX_WANTS: Final = 64
WANT_BYTES: Final = 8 * 1024 * 1024
"""So much of what a reader waits for goes before the rest; it asks again when it waits again."""
_ENDLESS: Final = 2**62


class RangeIgnored(Exception):
    """The source sends the whole, and another connection is already at it: an outcome inside this room."""


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


class Fill:
    """``changed`` is notified when the driver has something to decide; ``announce`` is called without the lock."""

    def __init__(
        self,
        part: PartFile,
        standings: Standings,
        *,
        health: HealthMemory,
        settings: FetchSettings,
        clock: Callable[[], float],
        announce: Callable[[], None],
    ) -> None:
        self.part = part
        self.standings = standings
        self.changed = threading.Condition()
        self.size: int | None = None
        self.is_size_trusted = False
        self.etags: dict[str, str] = {}
        self.bytes_by_source: dict[str, int] = {}
        self.claims: list[Claim] = []
        self.ramp = Ramp(settings.connections)
        self.problem: Exception | None = None
        """What ends the fetch: the disk, or a bug."""
        self.changed_source: str | None = None
        """A source whose content changed: its bytes must go."""
        self.is_halted = False
        self.received = 0
        self.moved_at = clock()
        self.pending = 0
        self._health = health
        self._size_from: str | None = None
        self._announced_at = 0.0
        self._settings = settings
        self._clock = clock
        self._announce = announce
        self._wants: list[Interval] = []
        self._turn = 0

    # -- what the driver and readers say

    def want(self, start: int, end: int) -> None:
        """A reader waits for ``[start, end)``."""
        with self.changed:
            wanted = (start, min(end, start + WANT_BYTES))
            if start < end and wanted not in self._wants:
                self._wants = [*self._wants[-MAX_WANTS + 1 :], wanted]
                self.changed.notify_all()

    def trust_size(self, size: int) -> None:
        """The manifest says how long the blob is."""
        with self.changed:
            self.size, self.is_size_trusted = size, True

    def is_complete(self) -> bool:
        """Whether every byte is there (with the lock held)."""
        return self.size is not None and self.part.frontier >= self.size

    def is_whole_mode(self) -> bool:
        """Whether one connection fetches all (with the lock held)."""
        small = self.size is not None and self.size < self._settings.range_threshold
        return self._settings.connections == 1 or small

    def desired(self, now: float) -> int:
        """Return how many connections should be at work (with the lock held)."""
        if self.is_whole_mode() or self.size is None:
            return 1
        delivering = sum(1 for claim in self.claims if claim.moved)
        level = self.ramp.observe(now, self.received, delivering)
        if level < self.ramp.limit and plan.unclaimed_want(self._situation(None)):
            level += 1
        return level

    def start(self, number: int) -> Claim | None:
        """Return one more connection with its first request, if there is any for it (with the lock held)."""
        now = self._clock()
        if self.is_halted or self.problem or len(self.claims) >= self.desired(now):
            return None
        claim = Claim(number=number, for_want=bool(self._wants))
        if self._assign(claim, now) is None:
            return None
        self.claims.append(claim)
        return claim

    def halt(self) -> None:
        """Cancel all connections; none gets work until ``resume``."""
        with self.changed:
            self.is_halted = True
            for claim in list(self.claims):
                self.cancel(claim)

    def cancel(self, claim: Claim) -> None:
        """Give a connection up (with the lock held): it writes no more, and its bytes are free again."""
        claim.is_cancelled = True
        if claim.stream is not None:
            claim.stream.abort()
        if not claim.is_writing:
            self._drop(claim)

    def wait_quiet(self) -> None:
        """Wait until no connection is inside a write: only after ``halt``."""
        with self.changed:
            while self.claims:
                self.changed.wait(1.0)

    def resume(self, *, forget: str | None) -> None:
        """Hand out work again; what ``forget`` (a source id, or None for all) said of size and content is void."""
        with self.changed:
            self.is_halted = False
            self.changed_source = None
            if forget is None:
                self.etags.clear()
            else:
                self.etags.pop(forget, None)
            if not self.is_size_trusted and forget in {None, self._size_from}:
                self.size = self._size_from = None

    def flush(self) -> None:
        """Bring data and journal to the disk; raises :class:`OSError`."""
        with self.changed:
            size, etags = self.size, dict(self.etags)
        self.part.flush(size=size, etags=etags)

    def paces(self, now: float) -> list[tuple[Claim, Pace]]:
        """Return how the connections that hold a request do (with the lock held); call about once a second."""
        found: list[tuple[Claim, Pace]] = []
        for claim in self.claims:
            if claim.stream is None:
                continue
            claim.samples.append((now, claim.moved))
            age_s = now - claim.waiting_since
            found.append(
                (claim, Pace(age_s=age_s, recent=_rate(claim, now, plan.SHARE_AFTER_S), long=_rate(claim, now, 10.0)))
            )
        return found

    # -- what connections say

    def take(self, claim: Claim) -> Work | None:
        """Return the connection's next request, or None: it should end."""
        now = self._clock()
        with self.changed:
            idle = self.is_halted or self.problem is not None or claim.is_cancelled
            return None if idle or len(self.claims) > self.desired(now) else self._assign(claim, now)

    def admit(self, claim: Claim, work: Work) -> bool:
        """Ask the health memory whether the source may be asked; if not, its turn is over.

        A fetch that has moved already waits for a source to come back; one that has not ends, so that the client's own
        fallback need not wait.
        """
        key, now = work.candidate.key, self._clock()
        if self._health.admit(work.candidate.source.id) is not Admission.DOWN or self.standings.is_retrying(key):
            return True
        with self.changed:
            if self.received:
                self.standings.postpone(key, now + REFUSED_S)
            else:
                reason = "out of use since it failed; it is tried again before long"
                self.standings.give_up(key, SourceUnreachable(work.candidate.source.id, reason))
            claim.segment = claim.stream = None
            self.changed.notify_all()
        return False

    def opened(self, claim: Claim, work: Work, stream: BlobStreamPort) -> None:
        """Check an answer against what is known; raises :class:`SourceError` or :class:`RangeIgnored`."""
        source = work.candidate.source.id
        with self.changed:
            if claim.is_cancelled:
                self._health.succeeded(source)
                stream.abort()
                return
            range_ignored = not stream.status_partial and (work.start > 0 or work.end is not None)
            if range_ignored:
                self.standings.set_rangeless(work.candidate.key)
            self._check_size(source, stream)
            self._check_etag(source, stream)
            if range_ignored:
                if any(one is not claim and one.segment for one in self.claims):
                    raise RangeIgnored
                claim.segment = Segment(0, self.size)
            elif stream.start != work.start:
                raise SourceMisbehaves(source, f"was asked for bytes from {work.start} and sent from {stream.start}")
            claim.stream = stream
            claim.moved = 0
            claim.samples.clear()
            claim.waiting_since = self._clock()
            self.changed.notify_all()

    def limit(self, claim: Claim) -> int:
        """Return up to where the connection may read; 0 when it was given up."""
        with self.changed:
            if claim.is_cancelled or claim.segment is None:
                return 0
            return _ENDLESS if claim.segment.end is None else claim.segment.end

    def begin_write(self, claim: Claim) -> bool:
        """Hold the connection's claim open during a write; False when it was given up."""
        with self.changed:
            claim.is_writing = not claim.is_cancelled
            return claim.is_writing

    def wrote(self, claim: Claim, count: int) -> None:
        """Account for ``count`` bytes that are in the file now, and tell the readers."""
        now = self._clock()
        with self.changed:
            claim.moved += count
            self.received += count
            self.moved_at = now
            if claim.work is not None:
                source = claim.work.candidate.source.id
                if claim.moved - count < PROGRESS_BYTES <= claim.moved:
                    self._health.succeeded(source)
                self.bytes_by_source[source] = self.bytes_by_source.get(source, 0) + count
            due = now - self._announced_at >= ANNOUNCE_S
            if due:
                self.pending, self._announced_at = 0, now
            else:
                if not self.pending:
                    self.changed.notify_all()
                self.pending += count
        if due:
            self._announce()

    def end_write(self, claim: Claim) -> None:
        """The connection touches neither file nor hash any more."""
        with self.changed:
            claim.is_writing = False
            if claim.is_cancelled:
                self._drop(claim)

    def announce_pending(self) -> None:
        """Tell the readers of bytes that were too few to tell of at once."""
        with self.changed:
            due, self.pending = self.pending > 0, 0
            self._announced_at = self._clock()
        if due:
            self._announce()

    def finished(self, claim: Claim, position: int) -> None:
        """The answer ended cleanly at ``position``."""
        now = self._clock()
        with self.changed:
            work, segment = claim.work, claim.segment
            if claim.is_cancelled or work is None or segment is None:
                return
            if self.size is None and segment.end is None:
                self.size, self._size_from = position, work.candidate.source.id
            if claim.moved:
                self.standings.moved(work.candidate.key)
                self._health.succeeded(work.candidate.source.id)
                self._note_rate(claim, now)
            else:
                error = SourceMisbehaves(work.candidate.source.id, "answered with no bytes")
                self.standings.failed(work.candidate.key, error, now, moved=False)
                self._health.failed(work.candidate.source.id, error.blame)
            claim.segment = claim.stream = None
            self.changed.notify_all()

    def failed(self, claim: Claim, error: SourceError) -> None:
        """The request failed; its bytes are free again."""
        now = self._clock()
        with self.changed:
            work = claim.work
            if work is None:
                return
            moved = claim.moved >= PROGRESS_BYTES
            if moved:
                self._health.succeeded(work.candidate.source.id)
            self._health.failed(work.candidate.source.id, error.blame)
            if claim.is_cancelled:
                return
            alone = len(self.claims) <= 1
            if not alone and not claim.moved and isinstance(error, SourceBusy | TooManyRequests):
                self.ramp.cap(len(self.claims) - 1)
            if isinstance(error, SourceChanged):
                self.changed_source = work.candidate.source.id
            self.standings.failed(work.candidate.key, error, now, moved=moved)
            claim.segment = claim.stream = None
            self.changed.notify_all()

    def release(self, claim: Claim) -> None:
        """The source ignores ranges and another connection is at work: nobody's failure."""
        with self.changed:
            claim.segment = claim.stream = None

    def broke(self, error: Exception) -> None:
        """The disk failed, or a thread did: the fetch must end."""
        with self.changed:
            self.problem = self.problem or error
            self.changed.notify_all()

    def left(self, claim: Claim) -> None:
        """The connection has ended."""
        with self.changed:
            self._drop(claim)

    # -- private; the lock is held

    def _drop(self, claim: Claim) -> None:
        claim.segment = None
        if claim in self.claims:
            self.claims.remove(claim)
        self.changed.notify_all()

    def _assign(self, claim: Claim, now: float) -> Work | None:
        busy: dict[Key, int] = {}
        for one in self.claims:
            if one is not claim and one.work is not None and one.segment is not None:
                busy[one.work.candidate.key] = busy.get(one.work.candidate.key, 0) + 1
        candidate = self.standings.choose(now, busy, claim.work.candidate.key if claim.work else None)
        segment = plan.next_segment(self._situation(claim, candidate)) if candidate else None
        if candidate is None or segment is None:
            return None
        self._turn += 1
        claim.for_want, claim.stream, claim.moved = False, None, 0
        whole = self.standings.is_rangeless(candidate.key)
        claim.segment = Segment(0, self.size) if whole else segment
        claim.work = Work(
            candidate=candidate,
            start=claim.segment.start,
            end=None if whole or segment.end == self.size else segment.end,
            etag=self.etags.get(candidate.source.id),
        )
        return claim.work

    def _situation(self, claim: Claim | None, candidate: Candidate | None = None) -> Situation:
        there = self.part.extents()
        self._wants = [(start, end) for start, end in self._wants if not there.covers(start, self._clip(end))]
        claimed = Extents()
        others = [one for one in self.claims if one is not claim and one.segment is not None]
        for one in others:
            if one.segment is not None:
                end = one.segment.end
                claimed.add(one.segment.start, (self.size or _ENDLESS) if end is None else end)
        return Situation(
            size=self.size,
            there=there,
            claimed=claimed,
            wants=tuple(self._wants),
            want_first=bool(self._wants) and ((claim is not None and claim.for_want) or self._turn % 2 == 1),
            whole=self.is_whole_mode() or (candidate is not None and self.standings.is_rangeless(candidate.key)),
            rate=claim.rate if claim else None,
            lanes=max(1, len(others) + 1, self.ramp.level),
        )

    def _clip(self, end: int) -> int:
        return end if self.size is None else min(end, self.size)

    def _check_size(self, source: str, stream: BlobStreamPort) -> None:
        told = stream.total_size
        if told is None or told == self.size:
            return
        if self.size is None:
            if self.part.extents().end > told:
                raise SourceMisbehaves(source, f"says that the blob has {told} bytes and gave more before")
            self.size, self._size_from = told, source
            return
        if not self.is_size_trusted and self._size_from is not None and self._size_from != source:
            self.changed_source = self._size_from
        raise SourceMisbehaves(source, f"says that the blob has {told} bytes, not {self.size}")

    def _check_etag(self, source: str, stream: BlobStreamPort) -> None:
        if stream.etag is None:
            return
        known = self.etags.setdefault(source, stream.etag)
        if known != stream.etag:
            raise SourceChanged(source, f"has another ETag ({stream.etag}) than before ({known})")

    def _note_rate(self, claim: Claim, now: float) -> None:
        took_s = now - claim.waiting_since
        if claim.work is not None and took_s > 0 and claim.moved >= PROGRESS_BYTES:
            claim.rate = claim.moved / took_s
            self.standings.note_rate(claim.work.candidate.key, claim.rate)
            self._health.measured(claim.work.candidate.source.id, claim.moved, took_s)


def _rate(claim: Claim, now: float, over_s: float) -> float:
    began, counted = claim.waiting_since, 0
    for at, moved in claim.samples:
        if at > now - over_s:
            break
        began, counted = at, moved
    return (claim.moved - counted) / max(now - began, 0.001)
