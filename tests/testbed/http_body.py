"""Reading the bodies of HTTP/1.1 messages piece by piece, and writing heads: what a proxy needs and no more."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto
from typing import Final, Self, TypeAlias

Reader: TypeAlias = "io.BufferedReader[socket.SocketIO]"
_PIECE: Final = 1024 * 1024


class Framing(Enum):
    """How the end of a body is known."""

    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()


class TruncatedError(ValueError):
    """The other side closed in the middle of a body."""


class Body:
    """One body on a connection: :meth:`pieces` yields it once, decoded."""

    def __init__(self, reader: Reader, framing: Framing, length: int = 0) -> None:
        """``length`` counts for :attr:`Framing.LENGTH` only."""
        self.framing = framing
        self.length = length
        self._reader = reader
        self._left = length
        self._done = framing is Framing.NONE

    @classmethod
    def of_request(cls, reader: Reader, headers: Mapping[str, str]) -> Self:
        """Return the body of a request with these headers."""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return cls(reader, Framing.CHUNKED)
        length = int(headers.get("content-length", "0"))
        return cls(reader, Framing.LENGTH if length else Framing.NONE, length)

    @classmethod
    def of_response(cls, reader: Reader, headers: Mapping[str, str], *, method: str, status: int) -> Self:
        """Return the body of a response (RFC 9112, section 6.3)."""
        if method == "HEAD" or status in (204, 304) or status < 200:
            return cls(reader, Framing.NONE)
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return cls(reader, Framing.CHUNKED)
        if "content-length" in headers:
            length = int(headers["content-length"])
            return cls(reader, Framing.LENGTH if length else Framing.NONE, length)
        return cls(reader, Framing.UNTIL_CLOSE)

    def pieces(self) -> Iterator[memoryview]:
        """Yield the bytes as they come, at most 1 MiB at a time; a piece is good until the next one is asked for."""
        buffer = memoryview(bytearray(_PIECE))
        while not self._done:
            room = self._room()
            if room == 0:
                return
            got = self._reader.readinto1(buffer[: min(room, _PIECE)])
            if not got:
                self._done = True
                if self.framing is Framing.UNTIL_CLOSE:
                    return
                raise TruncatedError("closed in the middle of a body")
            self._consume(got)
            yield buffer[:got]

    def read(self) -> bytes:
        """Return all that is left."""
        return b"".join(bytes(piece) for piece in self.pieces())

    def drain(self) -> None:
        """Read and drop all that is left."""
        for _ in self.pieces():
            pass

    def _room(self) -> int:
        if self.framing is Framing.UNTIL_CLOSE:
            return _PIECE
        if self.framing is Framing.CHUNKED and self._left == 0:
            self._left = int(self._reader.readline(1024).split(b";")[0] or b"0", 16)
            if self._left == 0:
                read_fields(self._reader)
                self._done = True
        return self._left

    def _consume(self, count: int) -> None:
        if self.framing is Framing.UNTIL_CLOSE:
            return
        self._left -= count
        if self._left:
            return
        if self.framing is Framing.CHUNKED:
            self._reader.readline(8)
        else:
            self._done = True


def read_fields(reader: Reader) -> dict[str, str]:
    """Read header (or trailer) fields up to the empty line, with lower-case names; repeated ones are joined."""
    fields: dict[str, str] = {}
    while True:
        line = reader.readline(65537).decode("latin-1").rstrip("\r\n")
        name, colon, value = line.partition(":")
        if not colon:
            return fields
        key = name.strip().lower()
        fields[key] = f"{fields[key]}, {value.strip()}" if key in fields else value.strip()


def head_bytes(first_line: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Return a message's head, with its empty line."""
    lines = [first_line, *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
