"""Sending bytes of files: by the kernel over plain TCP, in large pieces over TLS; always with an exact length.

A body that cannot be finished is cut (the connection is aborted), never ended as if it were whole. Slices are bounded
so that one bulk reader does not hold the event loop (unbounded ``sendfile`` raised manifest p99 from 5 to 24-78 ms).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import BinaryIO, Final, Protocol

from aiohttp import web

SLICE_BYTES: Final = 1024 * 1024
_TLS_PIECE_BYTES: Final = 256 * 1024

Headers = Sequence[tuple[str, str]]


class SentResponse(web.StreamResponse):
    """Tells aiohttp of an answer that is already on the wire."""

    def __init__(self, *, status: int, length: int, keep_alive: bool) -> None:
        super().__init__(status=status)
        self.length = length
        self._sent_keep_alive = keep_alive

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection takes another request."""
        return self._sent_keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # nothing is left to prepare, so there is no writer
        """Do nothing: the head is sent."""

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Do nothing: the body is sent."""


class Body(Protocol):
    """A response under way whose length was announced."""

    async def send(self, file: BinaryIO, start: int, end: int) -> None:
        """Send ``file[start:end]``; raises ``ConnectionError`` when the client has left."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes from memory."""
        ...

    def cut(self) -> None:
        """Abort the connection: the client must see that this body is not whole."""
        ...

    def finish(self) -> web.StreamResponse:
        """Return what the request's coroutine returns."""
        ...


def encode_head(status: int, headers: Headers, *, keep_alive: bool = True) -> bytes:
    """Return a response head as bytes; ``headers`` hold ``Content-Length`` already."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1", "replace")


def live_transport(request: web.BaseRequest) -> asyncio.Transport:
    """Return the request's transport; raise ``ConnectionResetError`` when the client has left."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has left")
    return transport


def send_memory(request: web.BaseRequest, *, status: int, data: bytes, keep_alive: bool) -> SentResponse:
    """Send a whole prepared answer (head and body) in one write."""
    live_transport(request).write(data)
    return SentResponse(status=status, length=len(data), keep_alive=keep_alive)


async def begin_body(request: web.BaseRequest, *, status: int, headers: Headers, length: int) -> Body:
    """Send the head with ``Content-Length: length`` and return the body to be sent."""
    transport = live_transport(request)
    if transport.get_extra_info("sslcontext") is None:
        keep_alive = request.keep_alive
        transport.write(encode_head(status, (*headers, ("Content-Length", str(length))), keep_alive=keep_alive))
        return _KernelBody(request, transport, SentResponse(status=status, length=length, keep_alive=keep_alive))
    response = web.StreamResponse(status=status, headers=dict(headers))
    response.content_length = length
    await response.prepare(request)
    return _TlsBody(transport, response)


class _KernelBody:
    def __init__(self, request: web.BaseRequest, transport: asyncio.Transport, response: SentResponse) -> None:
        self._request = request
        self._transport = transport
        self._response = response
        self._loop = asyncio.get_running_loop()

    async def send(self, file: BinaryIO, start: int, end: int) -> None:
        await self._drained()
        # Not loop.sendfile: it stops and starts reading, asks for the file's size and makes futures for every slice.
        # The loop lends nobody a transport's descriptor to wait for, so the wait is on a copy of it.
        descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
        try:
            while start < end:
                if self._transport.is_closing():
                    raise ConnectionResetError("the client has left")
                try:
                    sent = os.sendfile(descriptor, file.fileno(), start, min(SLICE_BYTES, end - start))
                except BlockingIOError:
                    await self._writable(descriptor)
                    continue
                except OSError as error:
                    raise ConnectionResetError("the client has left") from error
                if not sent:
                    raise ConnectionAbortedError("the file is shorter than announced")
                start += sent
                await asyncio.sleep(0)
        finally:
            os.close(descriptor)

    async def _drained(self) -> None:
        """Wait until what was written through the transport, the head at least, is with the kernel."""
        if self._transport.is_closing():
            raise ConnectionResetError("the client has left")
        if self._transport.get_write_buffer_size():
            low, high = self._transport.get_write_buffer_limits()
            self._transport.set_write_buffer_limits(high=0)
            try:
                await self._request.writer.drain()
            finally:
                self._transport.set_write_buffer_limits(high=high, low=low)
            if self._transport.is_closing():
                raise ConnectionResetError("the client has left")

    async def _writable(self, descriptor: int) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(descriptor, _settle, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(descriptor)

    async def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the client has left")
        self._transport.write(data)
        await self._request.writer.drain()

    def cut(self) -> None:
        self._transport.abort()

    def finish(self) -> web.StreamResponse:
        return self._response


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class _TlsBody:
    def __init__(self, transport: asyncio.Transport, response: web.StreamResponse) -> None:
        self._transport = transport
        self._response = response

    async def send(self, file: BinaryIO, start: int, end: int) -> None:
        while start < end:
            piece = await read_piece(file.fileno(), start, min(_TLS_PIECE_BYTES, end - start))
            if not piece:
                raise ConnectionAbortedError("the file is shorter than announced")
            await self._response.write(piece)
            start += len(piece)

    async def write(self, data: bytes) -> None:
        await self._response.write(data)

    def cut(self) -> None:
        self._transport.abort()

    def finish(self) -> web.StreamResponse:
        return self._response


async def read_piece(fd: int, offset: int, count: int) -> bytes:
    """Read from the page cache at once, from the disk in a thread."""
    buffer = bytearray(count)
    try:
        got = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    except (BlockingIOError, OSError):
        got = 0
    if got:
        return bytes(memoryview(buffer)[:got])
    return await asyncio.to_thread(os.pread, fd, count, offset)
