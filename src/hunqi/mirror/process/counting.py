"""Counts what comes from each source, as it comes: of downloads that fail or pass through as well."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hunqi.mirror.fetch.ports import BlobStreamPort, Candidates, SourcePort
from hunqi.mirror.sources.model import RemoteBlob, SourceKind


class Counting:
    """Bytes of blobs by source since the process began; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()

    def add(self, source: str, count: int) -> None:
        """Note bytes of a source."""
        with self._lock:
            self._bytes[source] += count

    def by_source(self) -> dict[str, int]:
        """Return the bytes so far."""
        with self._lock:
            return dict(self._bytes)

    def around(self, candidates: Candidates) -> Candidates:
        """Return the same sources, counted."""

        def counted(blob: RemoteBlob) -> Sequence[SourcePort]:
            return [_CountedSource(source, self) for source in candidates(blob)]

        return counted


@dataclass(frozen=True, slots=True)
class _CountedSource:
    source: SourcePort
    counting: Counting

    @property
    def id(self) -> str:
        return self.source.id

    @property
    def kind(self) -> SourceKind:
        return self.source.kind

    def open_blob(
        self, blob: RemoteBlob, /, *, start: int, end: int | None, if_match_etag: str | None
    ) -> BlobStreamPort:
        stream = self.source.open_blob(blob, start=start, end=end, if_match_etag=if_match_etag)
        return _CountedStream(stream, self.source.id, self.counting)


class _CountedStream:
    def __init__(self, stream: BlobStreamPort, source: str, counting: Counting) -> None:
        self._stream = stream
        self._source = source
        self._counting = counting
        self.status_partial = stream.status_partial
        self.start = stream.start
        self.length = stream.length
        self.total_size = stream.total_size
        self.etag = stream.etag
        self.abort = stream.abort
        self.close = stream.close

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._stream.readinto(buffer)
        self._counting.add(self._source, count)
        return count
