"""A blob streamed through without being stored: how a full disk keeps serving.

One thread, one connection at a time, back-pressure by the receiving socket. It goes on at byte *n* at the same or the
next source as a fetch does. The blob's last 64 KiB leave only after the digest of the whole proved right; so an answer
that contains any of them reads the blob from its beginning, and drops what was not asked for. A prefix that a lost part
file still holds is read from there.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from hunqi.mirror.fetch.errors import DigestMismatchError, NoSourceError
from hunqi.mirror.fetch.ports import BlobStreamPort, FetchPorts
from hunqi.mirror.fetch.standings import Candidate, Standings
from hunqi.mirror.sources.errors import Blame, SourceChanged, SourceError, SourceMisbehaves, SourceUnreachable
from hunqi.mirror.sources.health import Admission
from hunqi.mirror.sources.model import RemoteBlob

WITHHELD_BYTES: Final = 64 * 1024
GIVE_UP_S: Final = 20.0
"""So long without a byte from any source ends a relay."""
_PIECE: Final = 256 * 1024
_PROGRESS: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The first ``length`` bytes of the blob, readable at ``fd``, which stays the caller's."""

    fd: int
    length: int


class RelayStream:
    """``open``, then ``send_to``, then ``close``: by one thread. ``abort`` may be called by any.

    ``size`` is the manifest's, in bytes, if known; ``[start, end)`` is what the client asked for (``end=None``: all).
    ``on_prefix_read`` is called when ``prefix`` is not needed any more.
    """

    def __init__(
        self,
        blob: RemoteBlob,
        *,
        ports: FetchPorts,
        size: int | None,
        start: int = 0,
        end: int | None = None,
        prefix: Prefix | None = None,
        on_prefix_read: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._blob = blob
        self._ports = ports
        self._size = size
        self._start = start
        self._end = end
        self._prefix = prefix
        self._on_prefix_read = on_prefix_read
        self._clock = clock
        self._standings = Standings(rng or random.Random())  # noqa: S311 - jitter, not secrets
        self._stream: BlobStreamPort | None = None
        self._from: Candidate | None = None
        self._moved = 0
        self._etags: dict[str, str] = {}
        self._contributors: set[str] = set()
        self._aborted = threading.Event()
        self._buffer = memoryview(bytearray(_PIECE))

    def open(self) -> int:
        """Find a source that answers; return the size of the whole blob in bytes.

        Raises what the last source said (:class:`SourceError`) or :class:`NoSourceError`.
        """
        self._refresh()
        if self._size is None:
            self._stream, self._from = self._connect(self._start)
            self._size = self._stream.total_size
            if self._size is None:
                raise NoSourceError(self._blob.digest, "no source says how long the blob is")
            if self._prefix or self._position_needed() != self._start:
                self.close()
        elif self._position_needed() < self._size and not self._prefix:
            self._stream, self._from = self._connect(self._position_needed())
        return self._size

    def send_to(self, sock: socket.socket) -> None:
        """Write the asked bytes into ``sock``; its time-out is the deadline of each write.

        Raises :class:`OSError` when the client is gone, else :class:`SourceError`, :class:`NoSourceError` or
        :class:`DigestMismatchError`: the answer is short then, and its connection must be cut.
        """
        size = self.open() if self._from is None else self._size or 0
        end = size if self._end is None else min(self._end, size)
        verified = end > size - WITHHELD_BYTES
        hasher = self._blob.digest.hasher()
        withheld = bytearray()
        hold_from = max(0, size - WITHHELD_BYTES)
        for position, data in self._pieces(0 if verified else self._start, size if verified else end):
            if verified:
                hasher.update(data)
            until = min(end, hold_from)
            if position < until:
                sock.sendall(data[max(0, self._start - position) : max(0, until - position)])
            withheld += data[max(0, hold_from - position) :]
        if verified:
            if hasher.hexdigest() != self._blob.digest.hex:
                self._report_wrong()
            sock.sendall(memoryview(withheld)[max(0, self._start - hold_from) : max(0, end - hold_from)])

    def abort(self) -> None:
        """Make ``send_to`` raise soon."""
        self._aborted.set()
        stream = self._stream
        if stream is not None:
            stream.abort()

    def close(self) -> None:
        """Let go of the source. May be called twice."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _position_needed(self) -> int:
        size = self._size or 0
        end = size if self._end is None else min(self._end, size)
        return 0 if end > size - WITHHELD_BYTES else self._start

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, memoryview]]:
        """Yield ``(position, bytes)`` in order from ``start`` to ``stop``, whoever can give them."""
        position = start
        while self._prefix and position < min(self._prefix.length, stop):
            room = min(_PIECE, self._prefix.length - position, stop - position)
            count = os.preadv(self._prefix.fd, [self._buffer[:room]], position)
            if count == 0:
                raise OSError("the part file is shorter than what was read from it")
            yield position, self._buffer[:count]
            position += count
        self._on_prefix_read()
        moved_at = self._clock()
        while position < stop:
            count = self._read(position, stop, moved_at)
            if count:
                moved_at = self._clock()
                yield position, self._buffer[:count]
                moved_at = self._clock()
                position += count

    def _read(self, position: int, stop: int, moved_at: float) -> int:
        """Return how many bytes came; 0 after a failure that another try may mend."""
        if self._stream is None:
            self._stream, self._from = self._connect(position, give_up_at=moved_at + GIVE_UP_S)
        stream, source = self._stream, self._from
        if source is None:
            raise NoSourceError(self._blob.digest, "no source")
        try:
            count = stream.readinto(self._buffer[: min(_PIECE, stop - position)])
            if count == 0:
                raise SourceMisbehaves(source.source.id, f"ended at byte {position} of {self._size}")
        except SourceError as error:
            self._fail(source, error)
            return 0
        self._moved += count
        self._contributors.add(source.source.id)
        if self._moved - count < _PROGRESS <= self._moved or position + count == stop:
            self._ports.health.succeeded(source.source.id)
        return count

    def _fail(self, source: Candidate, error: SourceError) -> None:
        self.close()
        self._ports.health.failed(source.source.id, error.blame)
        if self._aborted.is_set():
            raise error
        self._standings.failed(source.key, error, self._clock(), moved=self._moved >= _PROGRESS)
        self._moved = 0

    def _connect(self, position: int, *, give_up_at: float | None = None) -> tuple[BlobStreamPort, Candidate]:
        """Return an open stream that stands at ``position``, and its source."""
        give_up_at = self._clock() + GIVE_UP_S if give_up_at is None else give_up_at
        while True:
            now = self._clock()
            at = self._standings.next_try_at()
            if at is None or now > give_up_at:
                raise self._standings.last_error() or NoSourceError(self._blob.digest, "no source could be asked")
            candidate = self._standings.choose(now, {})
            if candidate is None:
                if self._aborted.wait(min(max(0.001, at - now), 0.5)):
                    raise NoSourceError(self._blob.digest, "the relay was given up")
                self._refresh()
                continue
            if self._ports.health.admit(candidate.source.id) is Admission.DOWN:
                if self._contributors:
                    self._standings.postpone(candidate.key, now + 0.5)
                else:
                    down = SourceUnreachable(candidate.source.id, "out of use since it failed")
                    self._standings.give_up(candidate.key, down)
                continue
            try:
                return self._open_at(candidate, position), candidate
            except SourceError as error:
                self._fail(candidate, error)

    def _open_at(self, candidate: Candidate, position: int) -> BlobStreamPort:
        source = candidate.source.id
        stream = candidate.source.open_blob(
            candidate.blob, start=position, end=None, if_match_etag=self._etags.get(source)
        )
        try:
            if self._size is not None and stream.total_size not in {None, self._size}:
                raise SourceMisbehaves(source, f"says that the blob has {stream.total_size} bytes, not {self._size}")
            if stream.etag is not None and self._etags.setdefault(source, stream.etag) != stream.etag:
                raise SourceChanged(source, "has another ETag than before")
            skip = position - stream.start
            while skip > 0:
                count = stream.readinto(self._buffer[: min(_PIECE, skip)])
                if count == 0:
                    raise SourceMisbehaves(source, f"ended before byte {position}")
                skip -= count
        except BaseException:
            stream.close()
            raise
        return stream

    def _refresh(self) -> None:
        self._standings.refresh([Candidate(source, self._blob) for source in self._ports.candidates(self._blob)])

    def _report_wrong(self) -> None:
        if len(self._contributors) == 1 and not self._prefix:
            (culprit,) = self._contributors
            self._ports.health.failed(culprit, Blame.SOFT)
            self._ports.blame(culprit, self._blob.digest)
        sources = ", ".join(sorted(self._contributors))
        raise DigestMismatchError(self._blob.digest, f"wrong bytes from {sources}")
