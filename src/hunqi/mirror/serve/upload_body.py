"""The body of a request, pulled in pieces that are worth a thread's turn.

Memory stays flat: while a piece is written, aiohttp stops reading from the socket at its own small limit. An idle
upload holds one coroutine and no thread. When the client leaves, what it sent before is still handed out, then the
error.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from aiohttp import ClientError, web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError

from hunqi.errors import HunqiError, UserError

PIECE_BYTES: Final = 256 * 1024


class ClientLeftError(UserError):
    """The connection broke, or the body was not HTTP, before its end."""

    code: ClassVar[str] = "serve.client_left"


class BodyStalledError(UserError):
    """Nothing came for as long as the server waits."""

    code: ClassVar[str] = "serve.body_stalled"


class BodyTooLargeError(UserError):
    """The body is over the limit of what is pushed here."""

    code: ClassVar[str] = "serve.body_too_large"


class RequestBody:
    """One request's body. ``stall_timeout_s``: how long to wait for the next bytes, however many there are in all."""

    def __init__(self, request: web.BaseRequest, *, stall_timeout_s: float) -> None:
        self._request = request
        self._stall_timeout_s = stall_timeout_s
        self._invited = False
        self._failure: HunqiError | None = None

    async def next_piece(self) -> bytearray:
        """Return at least :data:`PIECE_BYTES` bytes, or the rest; nothing at the end.

        Raises :class:`ClientLeftError` or :class:`BodyStalledError` once all that came before has been returned.
        """
        piece = bytearray()
        while self._failure is None and len(piece) < PIECE_BYTES:
            chunk = await self._next_chunk()
            if not chunk:
                break
            piece += chunk
        if self._failure is not None and not piece:
            raise self._failure
        return piece

    async def read_whole(self, limit_bytes: int) -> bytes:
        """Return the whole body; raise :class:`BodyTooLargeError` if it has more than ``limit_bytes``."""
        if (self._request.content_length or 0) > limit_bytes:
            raise BodyTooLargeError(f"at most {limit_bytes} bytes are taken here")
        whole = bytearray()
        while piece := await self.next_piece():
            whole += piece
            if len(whole) > limit_bytes:
                raise BodyTooLargeError(f"at most {limit_bytes} bytes are taken here")
        return bytes(whole)

    async def _next_chunk(self) -> bytes:
        try:
            await self._invite()
            async with asyncio.timeout(self._stall_timeout_s):
                return await self._request.content.readany()
        except TimeoutError:
            self._failure = BodyStalledError(f"nothing came for {self._stall_timeout_s:g} s: the upload can be resumed")
        except (OSError, ClientError, HttpProcessingError, web.RequestPayloadError) as error:
            self._failure = ClientLeftError(f"the body ended early: {error}")
        return b""

    async def _invite(self) -> None:
        """Ask for the body of a client that waits for that (``Expect: 100-continue``); aiohttp's low level does not."""
        if self._invited:
            return
        self._invited = True
        request = self._request
        waits = request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11
        if waits and request.can_read_body:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # What was written so far is no part of the response.
            request.writer.output_size = 0
