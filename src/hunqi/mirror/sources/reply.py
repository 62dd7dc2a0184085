"""One HTTP answer over a :class:`~hunqi.mirror.sources.wire.Wire`: its status, its header, its body.

:mod:`http.client` parses the header and undoes chunking. A body of known length is read past its buffer, straight
from the socket into the caller's memory, and handed over as soon as anything arrived.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hunqi.mirror.sources.errors import Phase, SourceCut, SourceMisbehaves, SourceTimeout

if TYPE_CHECKING:
    import io

    from hunqi.mirror.sources.wire import Wire

DRAIN_BYTES: Final = 64 * 1024
"""Longest rest of an unwanted body that is read so that its connection can be used again."""


class Reply:
    """An answer whose header has arrived. One thread reads; any thread may abort its wire.

    ``release(wire)`` takes the connection back when the body is read to its end; otherwise it is closed.
    """

    def __init__(
        self, label: str, wire: Wire, response: http.client.HTTPResponse, release: Callable[[Wire], None]
    ) -> None:
        self._label = label
        self._wire = wire
        self._response = response
        self._release = release
        self._limit_s = 0.0
        self._received = 0
        self._buffered: int | None = None
        self._is_done = False
        self._is_closed = False
        self.status: Final = response.status
        self.headers: Final = response.headers
        self.length: Final = response.length
        """Bytes of the body, or None if the header does not say (chunked, or until the connection closes)."""

    def expect_each(self, limit_s: float) -> None:
        """Let each read of the body wait for ``limit_s`` seconds."""
        self._limit_s = limit_s
        self._wire.expect_each(limit_s)

    def expect_within(self, limit_s: float) -> None:
        """Let the whole rest of the body take ``limit_s`` seconds."""
        self._limit_s = limit_s
        self._wire.expect_within(limit_s)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` with what arrives next; 0 at the true end of the body.

        Raises :class:`SourceTimeout`, :class:`SourceCut` (short body) or :class:`SourceMisbehaves` (broken chunks).
        """
        if self._is_done or len(buffer) == 0:
            return 0
        try:
            count = self._read(buffer)
        except TimeoutError as error:
            raise SourceTimeout(self._label, Phase.STALL, self._limit_s) from error
        except http.client.IncompleteRead as error:
            raise SourceCut(self._label, f"cut the connection after {self._received} bytes") from error
        except OSError as error:
            raise SourceCut(self._label, f"lost the connection after {self._received} bytes ({error})") from error
        except (http.client.HTTPException, ValueError) as error:
            raise SourceMisbehaves(self._label, "sent a body with broken chunks") from error
        self._received += count
        return count

    def read_all(self, limit_bytes: int) -> bytes:
        """Return the rest of the body; raises as :meth:`readinto`, and :class:`SourceMisbehaves` if it is over
        ``limit_bytes``.
        """
        data, piece = bytearray(), memoryview(bytearray(64 * 1024))
        while count := self.readinto(piece):
            data += piece[:count]
            if len(data) > limit_bytes:
                raise SourceMisbehaves(self._label, f"sent a document of over {limit_bytes} bytes")
        return bytes(data)

    def abort(self) -> None:
        """Wake the reading thread; its read fails."""
        self._wire.abort()

    def close(self, *, reusable: bool = True) -> None:
        """Give the connection back if its body was read to the end and ``reusable``, else close it. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        keep = reusable and self._is_done and not self._response.will_close
        self._response.close()
        if keep:
            self._release(self._wire)
        else:
            self._wire.close()

    def discard(self, limit_s: float) -> None:
        """Close after reading a short rest for at most ``limit_s`` seconds, so that the connection can be reused."""
        is_short = self._response.chunked if self.length is None else self.length <= DRAIN_BYTES
        if is_short and not self._is_closed:
            self.expect_within(limit_s)
            try:
                self.read_all(DRAIN_BYTES)
            except (SourceTimeout, SourceCut, SourceMisbehaves):
                self.close(reusable=False)
        self.close()

    def _read(self, buffer: memoryview) -> int:
        response = self._response
        if response.isclosed():
            self._is_done = True
            return 0
        if response.chunked:
            data = response.read1(len(buffer))
            buffer[: len(data)] = data
            self._is_done = not data
            return len(data)
        if self.length is None:
            count = self._read_plain(response.fp, buffer)
            self._is_done = count == 0
            return count
        left = self.length - self._received
        count = self._read_plain(response.fp, buffer[:left]) if left else 0
        if left and not count:
            raise http.client.IncompleteRead(b"", left)
        self._is_done = count == left
        return count

    def _read_plain(self, stream: io.BufferedReader, buffer: memoryview) -> int:
        """Take what came along with the header from its buffer, everything later from the socket itself.

        ``BufferedReader.readinto1`` will not do: holding some bytes, it still waits for more if the caller's buffer
        is large.
        """
        if self._buffered is None:
            self._buffered = len(stream.peek(1))
        if not self._buffered:
            return self._wire.recv_into(buffer)
        count = stream.readinto(buffer[: self._buffered])
        self._buffered -= count
        return count
