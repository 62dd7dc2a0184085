"""What the connections of one fetch share: size and content as the sources tell them, bytes counted, what went wrong.

One lock guards this, the claims and the standings; it is held for microseconds, never during I/O. A connection that is
given up (``cancel``) loses its claim at once, unless it is inside a write, which then gives the claim back: so two
connections never write the same byte.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from hunqi.mirror.fetch.claims import ENDLESS, Claim, Claims, Work
from hunqi.mirror.fetch.part import PartFile
from hunqi.mirror.fetch.plan import Segment
from hunqi.mirror.fetch.ports import BlobStreamPort
from hunqi.mirror.fetch.standings import Standings
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
"""Readers are told so often at most, but of the first bytes at once: an announcement wakes three processes."""
EAGER_BYTES: Final = 1024 * 1024
PROGRESS_BYTES: Final = 64 * 1024
"""A source that brought so much before it failed has moved the fetch on."""
REFUSED_S: Final = 0.5
"""A fetch looks again after so long whether a source that is out of use is back."""


class RangeIgnored(Exception):
    """The source sends the whole, and another connection is already at it: an outcome inside this room."""


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
        self.claims = Claims(part, standings, settings)
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
        self._clock = clock
        self._announce = announce

    # -- what the driver and readers say

    def want(self, start: int, end: int) -> None:
        """A reader waits for ``[start, end)``."""
        with self.changed:
            if self.claims.want(start, end):
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
        return self.claims.is_whole_mode(self.size)

    def start(self, number: int) -> Claim | None:
        """Return one more connection with its first request, if there is any for it (with the lock held)."""
        now = self._clock()
        if self.is_halted or self.problem or len(self.claims.running) >= self._desired(now):
            return None
        return self.claims.start(number, now, size=self.size, etags=self.etags)

    def halt(self) -> None:
        """Cancel all connections; none gets work until ``resume``."""
        with self.changed:
            self.is_halted = True
            for claim in list(self.claims.running):
                self.cancel(claim)

    def cancel(self, claim: Claim) -> None:
        """Give a connection up (with the lock held): it writes no more, and its bytes are free again."""
        self.claims.cancel(claim)
        self.changed.notify_all()

    def wait_quiet(self) -> None:
        """Wait until no connection is inside a write: only after ``halt``."""
        with self.changed:
            while self.claims.running:
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

    # -- what connections say

    def take(self, claim: Claim) -> Work | None:
        """Return the connection's next request, or None: it should end."""
        now = self._clock()
        with self.changed:
            idle = self.is_halted or self.problem is not None or claim.is_cancelled
            if idle or len(self.claims.running) > self._desired(now):
                return None
            return self.claims.assign(claim, now, size=self.size, etags=self.etags)

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
                if self.claims.others_at_work(claim):
                    raise RangeIgnored
                claim.segment = Segment(0, self.size)
            elif stream.start != work.start:
                raise SourceMisbehaves(source, f"was asked for bytes from {work.start} and sent from {stream.start}")
            claim.stream = stream
            claim.moved = 0
            claim.samples.clear()
            claim.waiting_since = self._clock()
            self.changed.notify_all()

    def begin_write(self, claim: Claim) -> int:
        """Hold the connection's claim open during a write; return where the claim ends now, 0 when it was given up."""
        with self.changed:
            claim.is_writing = not claim.is_cancelled and claim.segment is not None
            if claim.segment is None or not claim.is_writing:
                return 0
            return ENDLESS if claim.segment.end is None else claim.segment.end

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
            due = self.received <= EAGER_BYTES or now - self._announced_at >= ANNOUNCE_S
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
                self._left(claim)

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
            at_work = len(self.claims.running)
            if at_work > 1 and not claim.moved and isinstance(error, SourceBusy | TooManyRequests):
                self.claims.ramp.cap(at_work - 1)
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
            self._left(claim)

    # -- private; the lock is held

    def _desired(self, now: float) -> int:
        return self.claims.desired(now, size=self.size, received=self.received)

    def _left(self, claim: Claim) -> None:
        self.claims.drop(claim)
        self.changed.notify_all()

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
