"""Many clients in one thread: each a plain connection whose every byte is compared with what it should be."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from tools.bench.model import BenchError

from testbed.client import MANIFEST_TYPES

_PIECE: Final = 256 * 1024
_SILENCE_S: Final = 30.0
_TICK_S: Final = 0.02


class Reader:
    """One client: a connection that asks for one body after another."""

    def __init__(self, base_url: str, *, receive_buffer: int | None = None) -> None:
        """Connect; ``receive_buffer`` bytes keep the kernel from reading ahead of a slow client."""
        parts = urlsplit(base_url)
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(_SILENCE_S)
        self.sock.connect((parts.hostname or "", parts.port or 80))
        self.sock.setblocking(False)
        self._host = parts.netloc
        self._head = b""
        self._content = b""
        self._in_body = True
        self.received = 0
        """Bytes of the present body."""
        self.first_byte_at = 0.0

    @property
    def is_done(self) -> bool:
        """Whether the present body is whole."""
        return self._in_body and self.received == len(self._content)

    def ask(self, path: str, content: bytes) -> None:
        """Ask for ``path``, whose body must be ``content``."""
        self._head, self._in_body, self._content = b"", False, content
        self.received, self.first_byte_at = 0, 0.0
        request = f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {MANIFEST_TYPES}\r\n\r\n"
        self.sock.sendall(request.encode())

    def read(self, most: int = _PIECE) -> bool:
        """Take what has come; return whether anything had. Raises :class:`BenchError` for a wrong or short answer."""
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return False
        if not data:
            raise BenchError(f"closed after {self.received} of {len(self._content)} bytes; {self._head[:300]!r}")
        if not self._in_body:
            self._head += data
            self._head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return True
            self._check_head()
            self._in_body = True
        if data:
            self.first_byte_at = self.first_byte_at or time.monotonic()
            if data != self._content[self.received : self.received + len(data)]:
                raise BenchError(f"wrong bytes after {self.received}")
            self.received += len(data)
        return True

    def close(self) -> None:
        """Leave."""
        self.sock.close()

    def _check_head(self) -> None:
        head = self._head.lower()
        length = f"\r\ncontent-length: {len(self._content)}".encode()
        if not head.startswith(b"http/1.1 200") or length not in head:
            raise BenchError(f"a wrong answer: {self._head[:300]!r}")


def read_together(readers: Sequence[Reader], path: str, content: bytes) -> float:
    """Let all readers ask at once and read to the end; return the seconds between the first and the last first byte."""
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            reader.ask(path, content)
            selector.register(reader.sock, selectors.EVENT_READ, reader)
        left = len(readers)
        while left:
            ready = selector.select(_SILENCE_S)
            if not ready:
                raise BenchError(f"{left} of {len(readers)} clients got nothing of {path} for {_SILENCE_S} s")
            for key, _ in ready:
                reader = key.data
                reader.read()
                if reader.is_done:
                    selector.unregister(reader.sock)
                    left -= 1
    firsts = [reader.first_byte_at for reader in readers]
    return max(firsts) - min(firsts)


def read_slowly(readers: Sequence[Reader], path: str, content: bytes, *, rate_bytes_s: int, seconds: float) -> None:
    """Let all readers ask at once, then read at most ``rate_bytes_s`` each, for so many seconds."""
    for reader in readers:
        reader.ask(path, content)
    begun = time.monotonic()
    while (elapsed := time.monotonic() - begun) < seconds:
        for reader in readers:
            allowed = int(rate_bytes_s * elapsed) - reader.received
            if allowed > 0 and not reader.is_done:
                reader.read(allowed)
        time.sleep(max(0.0, begun + elapsed + _TICK_S - time.monotonic()))
