"""One connection's thread: takes a stretch of the blob, asks a source for it, writes what comes, takes the next.

The stream gives its connection back when it was read to its end, so one stretch after another uses the same one.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from queue import SimpleQueue
from typing import Final

from hunqi.mirror.fetch.claims import Claim, Work
from hunqi.mirror.fetch.fill import Fill, RangeIgnored
from hunqi.mirror.fetch.ports import BlobStreamPort
from hunqi.mirror.sources.errors import SourceError

BUFFER_BYTES: Final = 1024 * 1024
FIRST_BYTES: Final = 64 * 1024
"""The first read of an answer is short: readers wait for its first byte."""
BUFFERS: Final = 3
"""One is received into while others are being hashed."""

_log = logging.getLogger(__name__)


class Lane:
    """Runs until there is nothing to do for it; never raises."""

    def __init__(self, fill: Fill, claim: Claim, *, name: str) -> None:
        self._fill = fill
        self._claim = claim
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._made = 0
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        try:
            work = self._claim.work
            while work is not None:
                self._serve(work)
                work = self._fill.take(self._claim)
        except OSError as error:
            self._fill.broke(error)
        except Exception as error:
            _log.exception("a connection of a fetch failed", extra={"thread": self.thread.name})
            self._fill.broke(error)
        finally:
            self._fill.left(self._claim)

    def _serve(self, work: Work) -> None:
        source = work.candidate.source
        if not self._fill.admit(self._claim, work):
            return
        try:
            stream = source.open_blob(work.candidate.blob, start=work.start, end=work.end, if_match_etag=work.etag)
        except SourceError as error:
            self._fill.failed(self._claim, error)
            return
        try:
            self._fill.opened(self._claim, work, stream)
            position = self._copy(stream, source.id)
        except SourceError as error:
            stream.close()
            self._fill.failed(self._claim, error)
        except RangeIgnored:
            stream.close()
            self._fill.release(self._claim)
        else:
            stream.close()
            self._fill.finished(self._claim, position)
        finally:
            stream.close()

    def _copy(self, stream: BlobStreamPort, source: str) -> int:
        position, room = stream.start, FIRST_BYTES
        while True:
            buffer = self._buffer()
            is_kept = False
            try:
                count = stream.readinto(buffer[:room])
                limit = self._fill.begin_write(self._claim) if count else 0
                if limit:
                    is_kept = self._store(position, buffer, min(count, limit - position), source)
            finally:
                if not is_kept:
                    self._free.put(buffer)
            position, room = min(position + count, max(limit, position)), BUFFER_BYTES
            if position >= limit:
                return position

    def _buffer(self) -> memoryview:
        """Return a buffer that nobody uses; waits for the hash when all are in use."""
        if self._free.empty() and self._made < BUFFERS:
            self._made += 1
            return memoryview(bytearray(BUFFER_BYTES))
        return self._free.get()

    def _store(self, position: int, buffer: memoryview, count: int, source: str) -> bool:
        """Write what of the read bytes is missing; True when the buffer was handed over to the hash."""
        part, give_back = self._fill.part, partial(self._free.put, buffer)
        is_kept = False
        try:
            gaps = part.gaps(position, position + count)
            for start, end in gaps:
                data = buffer[start - position : end - position]
                is_kept |= part.write(start, data, source, give_back=give_back if len(gaps) == 1 else None)
                self._fill.wrote(self._claim, end - start)
        finally:
            self._fill.end_write(self._claim)
        return is_kept
