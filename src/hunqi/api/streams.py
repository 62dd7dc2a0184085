"""Streams: server-sent events with heartbeats and Last-Event-ID, lines of JSON, bytes; bounded in number.

A stream's source is a context manager, entered before the first byte (so that its errors are still problems with a
status) and left when the client goes. After the first byte an error cuts the connection: there is never a false end.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hunqi.api.errors import TooManyStreamsError

HEARTBEAT_S: Final = 15.0
MOST_STREAMS: Final = 200
_log = logging.getLogger(__name__)


class Streams:
    """Counts the streams of this process, and ends them when it stops."""

    def __init__(self, *, most: int = MOST_STREAMS) -> None:
        self._most = most
        self._open = 0

    @asynccontextmanager
    async def one(self) -> AsyncGenerator[None]:
        """Hold a place. Raises ``TooManyStreamsError``."""
        if self._open >= self._most:
            raise TooManyStreamsError(f"{self._most} streams are open: close some, or ask again later")
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


class Stream(Response):
    """A response whose body is pulled from a source that is open already."""

    def __init__(self, source: AsyncIterator[bytes], stack: AsyncExitStack, *, media_type: str) -> None:
        super().__init__(media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the source ends or the client goes."""
        async with self._stack:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if await _until_gone(self._send(send), receive):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async for chunk in self._source:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def open_stream(
    streams: Streams, source: AbstractAsyncContextManager[AsyncIterator[bytes]], *, media_type: str
) -> Stream:
    """Enter ``source`` and return the response that sends it. Raises what entering raises."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(streams.one())
        chunks = await stack.enter_async_context(source)
        return Stream(chunks, stack.pop_all(), media_type=media_type)
    raise AssertionError


async def _until_gone(sending: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Run ``sending`` until it ends (True) or the client goes (False)."""
    gone = False

    async def watch(task: asyncio.Task[None]) -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(sending)
        watching = tasks.create_task(watch(task))
        task.add_done_callback(lambda _: watching.cancel())
    return not gone


def event(kind: str, data: Any, *, id: str | None = None) -> bytes:  # noqa: A002  (the protocol's word)
    """Return one server-sent event; ``data`` becomes one line of JSON."""
    head = f"event: {kind}\n" if id is None else f"id: {id}\nevent: {kind}\n"
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


HEARTBEAT: Final = b": still here\n\n"


def line(data: Mapping[str, Any]) -> bytes:
    """Return one line of newline-delimited JSON."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def last_event_id(request: Request, after: int | None) -> int | None:
    """Return after which number to go on: the header's (a browser that reconnects), else the query's."""
    header = request.headers.get("last-event-id", "")
    return int(header) if header.isascii() and header.isdigit() and len(header) < 16 else after


def mapped(
    source: AbstractAsyncContextManager[AsyncIterator[Any]], render: Callable[[Any], bytes]
) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
    """Return ``source`` with each item rendered."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[AsyncIterator[bytes]]:
        async with source as items:
            yield (render(item) async for item in items)

    return opened()
