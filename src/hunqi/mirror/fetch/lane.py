"""One connection's thread: takes a stretch of the blob, asks a source for it, writes what comes, takes the next.

The stream gives its connection back when it was read to its end, so one stretch after another uses the same one.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from hunqi.mirror.fetch.fill import Claim, Fill, RangeIgnored, Work
from hunqi.mirror.fetch.ports import BlobStreamPort
from hunqi.mirror.sources.errors import SourceError

BUFFER_BYTES: Final = 1024 * 1024
FIRST_BYTES: Final = 64 * 1024
"""The first read of an answer is short: readers wait for its first byte."""

_log = logging.getLogger(__name__)


class Lane:
    """Runs until there is nothing to do for it; never raises."""

    def __init__(self, fill: Fill, claim: Claim, *, name: str) -> None:
        self._fill = fill
        self._claim = claim
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
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
        limit = self._fill.limit(self._claim)
        while position < limit:
            count = stream.readinto(self._buffer[: min(room, limit - position)])
            if count == 0 or not self._store(position, count, source):
                break
            position, room = position + count, BUFFER_BYTES
        return position

    def _store(self, position: int, count: int, source: str) -> bool:
        """Write what of the read bytes is missing and still ours; False when this connection was given up."""
        if not self._fill.begin_write(self._claim):
            return False
        part = self._fill.part
        try:
            for start, end in part.gaps(position, position + count):
                data = self._buffer[start - position : end - position]
                part.write(start, data, source)
                self._fill.wrote(self._claim, end - start)
                part.hash(start, data)
        finally:
            self._fill.end_write(self._claim)
        return True
