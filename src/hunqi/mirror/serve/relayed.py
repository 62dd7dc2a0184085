"""Reading a blob that cannot be stored: it passes through the fetcher, over a socket of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hunqi.kit.rpc import Payload, RpcError, RpcUnavailableError
from hunqi.mirror.names import Target
from hunqi.mirror.serve.asking import Trace
from hunqi.mirror.serve.bodies import Body
from hunqi.mirror.serve.fetcher import Via
from hunqi.mirror.serve.rest import Rest
from hunqi.oci.digest import Digest

_OPEN_S: Final = 60.0
_STALL_S: Final = 60.0
_PIECE_BYTES: Final = 256 * 1024
_ENDED: Final = b'{"error": {"code": "rpc.unavailable", "message": "the relay ended", "data": {}}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayedBlob:
    """A blob under way; ``size`` is the whole blob's in bytes."""

    size: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, body: Body, length: int, trace: Trace) -> None:
        """Send ``length`` bytes to a client; raises ``ConnectionError`` when they end early."""
        left = length
        while left:
            try:
                async with asyncio.timeout(_STALL_S):
                    piece = await self.reader.read(min(_PIECE_BYTES, left))
            except TimeoutError as error:
                raise ConnectionAbortedError("the source fell silent") from error
            if not piece:
                raise ConnectionAbortedError("the source could not finish")
            await body.write(piece)
            left -= len(piece)
            trace.sent += len(piece)

    def close(self) -> None:
        """Let go of it."""
        self.writer.close()


@dataclass(frozen=True, slots=True)
class Relays:
    """Opens blobs that pass through."""

    path: Path
    """The fetcher's relay socket."""

    async def open(
        self, target: Target, digest: Digest, *, start: int, end: int | None, via: Via, rest: Rest | None = None
    ) -> RelayedBlob:
        """Ask for bytes ``[start, end)``; raises ``RpcError`` with the source's error.

        With ``rest`` they go on after bytes that were sent already, and are of a blob of that size or none.
        """
        beginning = rest.beginning if rest else None
        wanted = {
            "upstream": target.upstream,
            "repository": target.repository,
            "digest": str(digest),
            "start": start,
            "end": end,
            "hops": list(via.hops),
            "from_peer": via.from_peer,
            "size": rest.span.size if rest else None,
            "beginning": beginning.length if beginning else 0,
        }
        line = json.dumps(wanted).encode() + b"\n"
        try:
            reader, writer = await self._connect(line, [beginning.fd] if beginning else [])
        except OSError as error:
            raise RpcUnavailableError("the fetcher process does not answer") from error
        try:
            async with asyncio.timeout(_OPEN_S):
                answer: Payload = json.loads(await reader.readline() or _ENDED)
            if "size" not in answer:
                told: Payload = answer["error"]
                raise RpcError(told["code"], told["message"], told["data"])
        except BaseException:
            writer.close()
            raise
        return RelayedBlob(size=answer["size"], reader=reader, writer=writer)

    async def _connect(self, line: bytes, descriptors: list[int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            name = f"/proc/self/fd/{folder}/{self.path.name}"
            await asyncio.get_running_loop().sock_connect(sock, name)
            socket.send_fds(sock, [line], descriptors)  # one short line into an empty buffer: it does not block
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(folder)
        return await asyncio.open_unix_connection(sock=sock)
