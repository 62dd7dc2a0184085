"""The bytes of one blob, or of a range of it, as they arrive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from hunqi.mirror.sources.errors import StreamAborted
from hunqi.mirror.sources.limits import Bandwidth
from hunqi.mirror.sources.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a stream carries of a blob, in bytes."""

    start: int
    """Where its first byte stands in the blob; 0 when the source ignored the range."""
    length: int | None
    """How many bytes are announced; None if the source does not say."""
    total_size: int | None
    """The whole blob's size as the source tells it."""
    is_partial: bool
    """Whether the source answered 206."""


class BlobStream:
    """An open download. One thread reads and closes it; any thread may :meth:`abort` it.

    ``on_close`` is called once, at :meth:`close`.
    """

    def __init__(
        self, source: str, reply: Reply, span: Span, *, bandwidth: Bandwidth | None, on_close: Callable[[], None]
    ) -> None:
        self._source = source
        self._reply = reply
        self._bandwidth = bandwidth
        self._on_close = on_close
        self._aborted = threading.Event()
        self._is_closed = False
        self._wait_s = 0.0
        self.status_partial: Final = span.is_partial
        self.start: Final = span.start
        self.length: Final = span.length
        self.total_size: Final = span.total_size
        self.etag: Final = reply.headers.get("ETag")

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` as soon as anything arrives; return the count of bytes, 0 at the clean end.

        Raises :class:`SourceTimeout` (stall), :class:`SourceCut`, :class:`SourceMisbehaves` or :class:`StreamAborted`.
        A bandwidth limit is waited for before reading on, apart from the stall deadline.
        """
        if self._aborted.wait(self._wait_s) if self._wait_s else self._aborted.is_set():
            raise StreamAborted(self._source, "the download was given up")
        try:
            count = self._reply.readinto(buffer[: self._bandwidth.piece_bytes] if self._bandwidth else buffer)
        except Exception as error:
            if self._aborted.is_set():
                raise StreamAborted(self._source, "the download was given up") from error
            raise
        if self._aborted.is_set():
            raise StreamAborted(self._source, "the download was given up")
        if self._bandwidth is not None:
            self._wait_s = self._bandwidth.spend(count)
        return count

    def abort(self) -> None:
        """End the download from any thread: a blocked :meth:`readinto` raises :class:`StreamAborted` at once."""
        self._aborted.set()
        self._reply.abort()

    def close(self, *, reusable: bool = True) -> None:
        """Close; the connection is kept for later only if the stream was read to its end and ``reusable``.
        Idempotent.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._reply.close(reusable=reusable and not self._aborted.is_set())
        finally:
            self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(reusable=error is None)
