"""A connection that Docker hands over in both directions (exec, attach).

aiohttp's client does not give an upgraded connection away, so this one is opened by hand: one request, the head of
the answer, and from there on bytes. Without a terminal Docker frames what comes back by stream; with one it does not.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from hunqi.engine.address import Address
from hunqi.engine.errors import EngineUnreachableError
from hunqi.engine.frames import STDOUT, Frames
from hunqi.engine.model import JSON

PIECE_BYTES: Final = 64 * 1024
HEAD_BYTES: Final = 16 * 1024


class Duplex:
    """Both directions of one process. Closing it does not end the process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tty: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = None if tty else Frames()

    async def read(self) -> tuple[str, bytes] | None:
        """Return the stream's name (``stdout``, ``stderr``) and its next bytes; None at the end.

        Raises ``EngineUnreachableError`` when the connection breaks.
        """
        while True:
            if self._frames is not None and (ready := self._frames.take()):
                return ready
            try:
                data = await self._reader.read(PIECE_BYTES)
            except OSError as error:
                raise EngineUnreachableError(f"Docker cut the connection: {error}") from error
            if not data:
                return None
            if self._frames is None:
                return STDOUT, data
            self._frames.feed(data)

    async def write(self, data: bytes) -> None:
        """Send bytes to the process's standard input; waits while it does not read."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise EngineUnreachableError(f"Docker cut the connection: {error}") from error

    def write_eof(self) -> None:
        """End the process's standard input; what it writes can still be read."""
        if self._writer.can_write_eof():
            self._writer.write_eof()

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return


async def open_duplex(
    address: Address, target: str, body: JSON, *, tty: bool, timeout_s: float
) -> tuple[int, bytes, Duplex]:
    """POST ``body`` to ``target`` and return the status, the answer's body if it is an error, and the connection.

    Raises OSError or TimeoutError.
    """
    async with asyncio.timeout(timeout_s):
        if address.path:
            reader, writer = await asyncio.open_unix_connection(address.path, limit=HEAD_BYTES)
        else:
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=HEAD_BYTES)
        try:
            status, answer = await _ask(reader, writer, target, body)
        except BaseException:
            writer.close()
            raise
    return status, answer, Duplex(reader, writer, tty=tty)


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, body: JSON
) -> tuple[int, bytes]:
    data = json.dumps(body).encode()
    head = (
        f"POST {target} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    await writer.drain()
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
        raise ConnectionError("Docker's answer is no HTTP") from error
    if status in {101, 200}:
        return status, b""
    length = next(
        (int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    return status, await reader.readexactly(min(length, HEAD_BYTES))
