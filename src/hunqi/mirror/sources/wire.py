"""One connection's bytes, with a deadline on every wait.

A :class:`Wire` stands where :mod:`http.client` expects a socket. A phase (handshake, header, small document) has a
deadline as a whole, however its bytes trickle in; a blob's body has a limit for each wait only. ``abort`` may be
called from any thread.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

HEADER_BUFFER_BYTES: Final = 16 * 1024


class Wire:
    """A connected socket whose reads and writes raise :class:`TimeoutError` when their deadline has passed."""

    def __init__(self, sock: socket.socket, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._sock = sock
        self._clock = clock
        self._deadline: float | None = None

    def expect_within(self, limit_s: float) -> None:
        """From now on everything together must be done in ``limit_s`` seconds."""
        self._deadline = self._clock() + limit_s

    def expect_each(self, limit_s: float) -> None:
        """From now on each single wait may take ``limit_s`` seconds."""
        self._deadline = None
        self._sock.settimeout(limit_s)

    def sendall(self, data: bytes) -> None:
        """Send all of ``data`` (called by :mod:`http.client`)."""
        self._arm()
        self._sock.sendall(data)

    def recv_into(self, buffer: WriteableBuffer) -> int:
        """Receive what is there, waiting for the first byte; 0 at the end."""
        self._arm()
        return self._sock.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a buffered reader of this wire (called by :mod:`http.client`); closing it leaves the wire open."""
        if mode != "rb":
            raise io.UnsupportedOperation(mode)
        return io.BufferedReader(_WireReader(self), HEADER_BUFFER_BYTES)

    def is_quiet(self) -> bool:
        """Whether an idle connection is fit for another request: open, and nothing unasked has arrived."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return False
        poller = select.poll()
        try:
            poller.register(self._sock, select.POLLIN | select.POLLPRI)
            return not poller.poll(0)
        except (OSError, ValueError):
            return False

    def abort(self) -> None:
        """Wake whoever waits in a read or write of this wire; its data are worthless from now on."""
        # Not SSLSocket.shutdown: that one would make the other thread go on reading, in clear.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def _arm(self) -> None:
        if self._deadline is None:
            return
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)


class _WireReader(io.RawIOBase):
    """The raw stream below the header's buffered reader."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return self._wire.recv_into(buffer)
