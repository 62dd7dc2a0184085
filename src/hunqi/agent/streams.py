"""Streams into containers of the cluster on this node: commands, TCP ports, files (see ``hunqi.nodes.wire``).

A stream ends with its client: what it started in the container is told so by the end of its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, cast

from aiohttp import WSMsgType, web

from hunqi.agent.chores import find_ours
from hunqi.agent.errors import BadRequestError, NotOursError
from hunqi.agent.netns import connect_inside
from hunqi.engine.client import Docker
from hunqi.engine.duplex import Duplex
from hunqi.engine.model import Container
from hunqi.errors import HunqiError
from hunqi.kit.codec import CodecError, loads
from hunqi.nodes.wire import STDERR, STDIN, STDOUT, ExecRequest

_FIRST_FRAME_S: Final = 15.0
_EXIT_S: Final = 10.0
_EXIT_STEP_S: Final = 0.05
_MAX_FRAME: Final = 4 * 1024 * 1024
_PIECE: Final = 256 * 1024
_MAX_PORT: Final = 65535
_log: Final = logging.getLogger(__name__)


class _LeftError(Exception):
    """The client closed its end."""


class Streams:
    """Answers the streaming paths."""

    def __init__(self, docker: Docker, *, cluster: str) -> None:
        self._docker = docker
        self._cluster = cluster

    async def execute(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/exec``: a command; the first frame is the request."""
        socket = await _accept(request)
        async with _told(socket):
            wanted = await _first(socket)
            container = await self._ours(wanted.container)
            execs = self._docker.execs
            command = await execs.create(
                container.id,
                wanted.command,
                env=wanted.env,
                user=wanted.user,
                directory=wanted.workdir,
                stdin=wanted.stdin,
                tty=wanted.tty,
            )
            async with execs.start(command, tty=wanted.tty) as duplex:
                if wanted.tty:
                    await self._resize(command, wanted.columns, wanted.rows)
                async with asyncio.TaskGroup() as group:
                    inward = group.create_task(self._inward(socket, duplex, command, reads=wanted.stdin))
                    await _outward(socket, duplex)
                    inward.cancel()
            await socket.send_json({"exit": await self._exit_code(command)})
        return socket

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/forward?container=&port=``: a TCP connection from inside the container's network."""
        container, port = request.query.get("container", ""), request.query.get("port", "")
        if not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
            raise BadRequestError(f"{port[:20]!r} is no port")
        found = await self._ours(container)
        if not found.pid:
            raise NotOursError(container)
        sock = await connect_inside(found.pid, int(port), hosts=("127.0.0.1", *found.addresses.values()))
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            socket = await _accept(request)
            async with _told(socket), asyncio.TaskGroup() as group:
                inward = group.create_task(_pump_in(socket, writer))
                while data := await reader.read(_PIECE):
                    await socket.send_bytes(data)
                inward.cancel()
        finally:
            writer.close()
        return socket

    async def get_files(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/files?container=&path=``: a tar of the path."""
        container, path = await self._place(request)
        async with self._docker.containers.read_archive(container.id, path) as body:
            response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
            await response.prepare(request)
            try:
                async for piece in body:
                    await response.write(piece)
            except HunqiError as error:
                # The answer has begun: only a cut tells the client that it is not whole.
                _log.warning("files of %s were cut: %s", container.id[:12], error)
                if request.transport:
                    request.transport.abort()
                return response
            await response.write_eof()
        return response

    async def put_files(self, request: web.Request) -> web.StreamResponse:
        """``PUT /v1/files?container=&path=``: unpack a tar into a directory."""
        container, path = await self._place(request)
        await self._docker.containers.write_archive(container.id, path, _pieces(request))
        return web.json_response({})

    async def _place(self, request: web.Request) -> tuple[Container, str]:
        path = request.query.get("path", "")
        if not path.startswith("/") or "\0" in path:
            raise BadRequestError("a path in a container begins with /")
        return await self._ours(request.query.get("container", "")), path

    async def _ours(self, container: str) -> Container:
        found = await find_ours(self._docker, container, cluster=self._cluster)
        if not found.running:
            raise NotOursError(container)
        return found

    async def _inward(self, socket: web.WebSocketResponse, duplex: Duplex, command: str, *, reads: bool) -> None:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                data: bytes = message.data
                if reads and data[:1] == bytes([STDIN]):
                    await duplex.write(data[1:])
            elif message.type is WSMsgType.TEXT:
                asked = _json(message.data)
                if "resize" in asked:
                    columns, rows = asked["resize"]
                    await self._resize(command, int(columns), int(rows))
                elif asked.get("eof"):
                    duplex.write_eof()
        raise _LeftError

    async def _resize(self, command: str, columns: int, rows: int) -> None:
        with contextlib.suppress(HunqiError):  # the command may have ended, or not have begun
            await self._docker.execs.resize(command, rows=rows, columns=columns)

    async def _exit_code(self, command: str) -> int | None:
        # Docker says it a moment after the streams have ended.
        for _ in range(int(_EXIT_S / _EXIT_STEP_S)):
            code = await self._docker.execs.exit_code(command)
            if code is not None:
                return code
            await asyncio.sleep(_EXIT_STEP_S)
        return None


async def _accept(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=20.0, max_msg_size=_MAX_FRAME, autoclose=True)
    await socket.prepare(request)
    return socket


async def _first(socket: web.WebSocketResponse) -> ExecRequest:
    try:
        wanted = loads(ExecRequest, await socket.receive_str(timeout=_FIRST_FRAME_S))
    except (CodecError, TypeError, TimeoutError) as error:
        raise BadRequestError("the first frame is to be the command") from error
    if not wanted.command:
        raise BadRequestError("there is no command")
    return wanted


async def _outward(socket: web.WebSocketResponse, duplex: Duplex) -> None:
    while (read := await duplex.read()) is not None:
        stream, data = read
        await socket.send_bytes(bytes([STDERR if stream == "stderr" else STDOUT]) + data)


async def _pump_in(socket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            writer.write(message.data)
            await writer.drain()
        elif message.type is WSMsgType.TEXT and _json(message.data).get("eof"):
            writer.write_eof()
    raise _LeftError


@contextlib.asynccontextmanager
async def _told(socket: web.WebSocketResponse) -> AsyncGenerator[None]:
    """Tell the client of an error by a frame, since its stream has begun; close in every case."""
    try:
        yield
    except* (_LeftError, OSError) as left:
        _log.debug("a stream ended: %s", left.exceptions)
    except* HunqiError as failed:
        error = failed.exceptions[0]
        code = error.code if isinstance(error, HunqiError) else "agent.error"
        with contextlib.suppress(OSError):
            await socket.send_json({"error": {"code": code, "message": str(error)}})
    finally:
        await socket.close()


def _json(text: str) -> dict[str, Any]:
    try:
        held: Any = json.loads(text)
    except ValueError as error:
        raise BadRequestError("a text frame is to be JSON") from error
    if not isinstance(held, dict):
        raise BadRequestError("a text frame is to be a JSON object")
    return cast("dict[str, Any]", held)


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_chunked(_PIECE):
        yield piece
