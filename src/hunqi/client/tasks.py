"""Tasks of an app: lists, logs, one-off runs, commands in tasks, files, forwarded ports."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypedDict

import aiohttp

from hunqi.client.errors import UnreachableError
from hunqi.client.model import Run, TaskView
from hunqi.client.paging import every
from hunqi.client.transport import SILENCE_S, Transport, path_of

_PIECE = 256 * 1024


class LogLine(TypedDict):
    """A line that a task wrote; ``at`` is RFC 3339 with nanoseconds."""

    service: str
    revision: int
    task: str
    node: str
    stream: str
    at: str
    text: str


class Duplex:
    """A stream to a task, both ways; the frames are those of exec or forward (see docs/api.md)."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, frame: bytes | str) -> None:
        """Send a frame; waits while the other end is slow. Raises ``UnreachableError`` when it is gone."""
        try:
            if isinstance(frame, str):
                await self._socket.send_str(frame)
            else:
                await self._socket.send_bytes(frame)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UnreachableError("the stream to the task was closed") from error

    async def receive(self) -> bytes | str | None:
        """Return the next frame, None once the other end has closed."""
        message = await self._socket.receive()
        if message.type in {aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT}:
            return message.data
        if message.type is aiohttp.WSMsgType.ERROR:
            raise UnreachableError("the stream to the task broke")
        return None


class Tasks:
    """The tasks of apps."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def all(self, app: str) -> AsyncIterator[TaskView]:
        """Yield the app's tasks, those that run first."""
        return every(self._transport, path_of("apps", app, "tasks"))

    @asynccontextmanager
    async def logs(
        self,
        app: str,
        services: Sequence[str] = (),
        *,
        follow: bool = False,
        tail: int | None = 100,
        since: str | None = None,
        removed: bool = False,
    ) -> AsyncGenerator[AsyncIterator[LogLine]]:
        """Open what the tasks wrote; ``tail`` lines of each, None for as many as the interface gives."""
        query = {"service": services, "follow": follow, "tail": tail, "since": since, "removed": removed}
        async with self._transport.lines(path_of("apps", app, "logs"), query=query) as lines:
            yield lines

    async def run(self, app: str, service: str, command: Sequence[str] | None = None, **options: Any) -> Run:
        """Start a one-off command; ``options`` are environment, timeout_s and reason."""
        body = {"service": service, "command": None if command is None else list(command), **options}
        return await self._transport.ask("POST", path_of("apps", app, "runs"), body=body)

    def runs(self, app: str) -> AsyncIterator[Run]:
        """Yield runs, newest first."""
        return every(self._transport, path_of("apps", app, "runs"))

    async def show_run(self, app: str, run: str) -> Run:
        """Return one run."""
        return await self._transport.ask("GET", path_of("apps", app, "runs", run))

    async def stop_run(self, app: str, run: str, *, reason: str = "") -> Run:
        """Stop a run."""
        return await self._transport.ask("POST", path_of("apps", app, "runs", run, "stop"), body={"reason": reason})

    @asynccontextmanager
    async def run_logs(self, app: str, run: str, *, follow: bool) -> AsyncGenerator[AsyncIterator[LogLine]]:
        """Open what a run wrote."""
        path = path_of("apps", app, "runs", run, "logs")
        async with self._transport.lines(path, query={"follow": follow}) as lines:
            yield lines

    @asynccontextmanager
    async def execute(
        self, app: str, command: Mapping[str, Any], *, service: str = "", task: str = ""
    ) -> AsyncGenerator[Duplex]:
        """Run a command (``{"command": […], "tty": …, "stdin": …, …}``) in a running task."""
        query = {"service": service, "task": task}
        async with self._transport.socket(path_of("apps", app, "exec"), query=query) as socket:
            await socket.send_str(json.dumps(dict(command)))
            yield Duplex(socket)

    @asynccontextmanager
    async def forward(self, app: str, port: int, *, service: str = "", task: str = "") -> AsyncGenerator[Duplex]:
        """Connect to a TCP port of a running task; binary frames are the bytes."""
        query = {"port": port, "service": service, "task": task}
        async with self._transport.socket(path_of("apps", app, "forward"), query=query) as socket:
            yield Duplex(socket)

    @asynccontextmanager
    async def get_files(
        self, app: str, path: str, *, service: str = "", task: str = ""
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Read a path of a task as tar."""
        query = {"path": path, "service": service, "task": task}
        files = path_of("apps", app, "files")
        async with self._transport.open("GET", files, query=query, silence_s=SILENCE_S) as response:
            yield response.content.iter_chunked(_PIECE)

    async def put_files(
        self, app: str, path: str, chunks: AsyncIterator[bytes], *, service: str = "", task: str = ""
    ) -> None:
        """Unpack a tar stream into a directory of a task."""
        query = {"path": path, "service": service, "task": task}
        files = path_of("apps", app, "files")
        async with self._transport.open("PUT", files, query=query, data=chunks, silence_s=SILENCE_S):
            return
