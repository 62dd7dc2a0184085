"""Calls between processes of one machine over a unix socket: length-prefixed JSON, both directions on one connection.

A frame is four bytes of length (big endian) and a JSON object: a call ``{id, op, p}``, its events ``{id, event}``, its
end ``{id, ok}`` or ``{id, error}``, or a notice ``{topic, p}``. Replies and events are never dropped (the sender
waits); notices are: the latest of a topic and key wins, so a slow reader costs memory once per key.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

from hunqi.errors import DependencyError, HunqiError, InvariantError
from hunqi.kit.sockets import listen, short_path

Payload = dict[str, Any]
"""A JSON object; its shape is the business of the two ends."""

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
_QUEUE_FRAMES: Final = 256
_MAX_CALLS: Final = 4096
_LENGTH = struct.Struct(">I")
_log = logging.getLogger(__name__)


class RpcError(HunqiError):
    """The other end answered a call with an error; ``code`` is the other end's own."""

    code: ClassVar[str] = "rpc.error"

    def __init__(self, remote_code: str, message: str, data: Payload | None = None) -> None:
        super().__init__(message)
        self.remote_code = remote_code
        self.data: Payload = data or {}


class RpcUnavailableError(DependencyError):
    """There is nobody at the other end, or it went away before it answered."""

    code: ClassVar[str] = "rpc.unavailable"


class RpcLostError(RpcUnavailableError):
    """The other end went away before it answered; whether it did what was asked is not known."""


Op = Callable[["Session", "Call", Payload], Awaitable[Payload]]


class Call:
    """A call that is being answered; lets an op tell of its progress."""

    __slots__ = ("_session", "id")

    def __init__(self, session: Session, call_id: int) -> None:
        self._session = session
        self.id = call_id

    async def emit(self, event: Payload) -> None:
        """Send one event of this call; waits while the reader is slow."""
        await self._session.send({"id": self.id, "event": event})


class Session:
    """One connection, seen from the server."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._outbox = _Outbox(writer)
        self.state: dict[str, Any] = {}
        """What the server's owner remembers about this connection."""

    async def send(self, message: Payload) -> None:
        """Queue a frame; waits while too many are queued."""
        await self._outbox.put(_encode(message))

    def notify(self, topic: str, key: str, payload: Payload) -> None:
        """Send a notice; a later one of the same topic and key replaces it while it waits."""
        self._outbox.replace(f"{topic}\0{key}", _encode({"topic": topic, "p": payload}))

    async def run_writer(self) -> None:
        """Send what is queued until cancelled."""
        await self._outbox.run()


class RpcServer:
    """Answers calls on a unix socket; ``ops`` maps names to coroutine functions."""

    def __init__(
        self,
        path: Path,
        ops: Mapping[str, Op],
        *,
        on_notice: Callable[[Session, str, Payload], None] | None = None,
        on_close: Callable[[Session], None] | None = None,
        describe_error: Callable[[HunqiError], Payload] = lambda _error: {},
    ) -> None:
        self._path = path
        self._ops = ops
        self._on_notice = on_notice
        self._on_close = on_close
        self._describe_error = describe_error
        self.sessions: set[Session] = set()

    async def run(self) -> None:
        """Listen and answer until cancelled."""
        loop = asyncio.get_running_loop()
        with listen(self._path) as sock:
            try:
                async with asyncio.TaskGroup() as group:
                    while True:
                        connection, _ = await loop.sock_accept(sock)
                        group.create_task(self._serve(*await asyncio.open_unix_connection(sock=connection)))
            finally:
                with contextlib.suppress(FileNotFoundError):
                    self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(writer)
        self.sessions.add(session)
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(session.run_writer())
                calls: set[asyncio.Task[None]] = set()
                async for message in _frames(reader):
                    if "topic" in message:
                        if self._on_notice:
                            self._on_notice(session, message["topic"], message["p"])
                    elif len(calls) < _MAX_CALLS:
                        task = group.create_task(self._answer(session, message))
                        calls.add(task)
                        task.add_done_callback(calls.discard)
                for task in (*calls, sender):
                    task.cancel()
        except* (OSError, asyncio.IncompleteReadError, ValueError, KeyError) as lost:
            _log.debug("session ended: %s", lost.exceptions)
        finally:
            self.sessions.discard(session)
            if self._on_close:
                self._on_close(session)
            writer.close()

    async def _answer(self, session: Session, message: Payload) -> None:
        call_id: int = message["id"]
        op = self._ops.get(message["op"])
        try:
            if op is None:
                raise RpcError("rpc.unknown_op", f"no such call: {message['op']}")
            result = await op(session, Call(session, call_id), message["p"])
            await session.send({"id": call_id, "ok": result})
        except RpcError as error:
            await session.send(_error(call_id, error.remote_code, str(error), error.data))
        except HunqiError as error:
            await session.send(_error(call_id, error.code, str(error), self._describe_error(error)))
        except OSError as error:
            await session.send(_error(call_id, "os.error", str(error), {"errno": error.errno}))
        except Exception as error:
            _log.exception("call %s failed", message["op"])
            await session.send(_error(call_id, InvariantError.code, f"internal error: {type(error).__name__}", {}))


class RpcClient:
    """The other end, for an event loop: connects again by itself for as long as :meth:`run` runs."""

    def __init__(self, path: Path, *, on_notice: Callable[[str, Payload], None] | None = None) -> None:
        self._path = path
        self._on_notice = on_notice
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Payload]] = {}
        self._outbox: _Outbox | None = None
        self._connected = asyncio.Event()
        self.on_connect: Callable[[], None] | None = None
        self.on_disconnect: Callable[[], None] | None = None

    async def run(self) -> None:
        """Keep one connection until cancelled; back off from 20 ms to 1 s while there is nobody."""
        delay_s = 0.02
        while True:
            try:
                reader, writer = await _open(self._path)
            except OSError:
                await asyncio.sleep(delay_s)
                delay_s = min(1.0, delay_s * 2)
                continue
            delay_s = 0.02
            try:
                await self._converse(reader, writer)
            finally:
                writer.close()

    async def call(self, op: str, payload: Payload, *, timeout_s: float = 60.0) -> Payload:
        """Call ``op``; raise :class:`RpcError` if it says so, :class:`RpcUnavailableError` if nobody answers."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
                outbox = self._outbox
                if outbox is None:
                    raise RpcLostError("the fetcher process went away")
                call_id = next(self._ids)
                future: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
                self._pending[call_id] = future
                try:
                    await outbox.put(_encode({"id": call_id, "op": op, "p": payload}))
                    return await future
                finally:
                    self._pending.pop(call_id, None)
        except TimeoutError as error:
            raise RpcUnavailableError(f"no answer to {op} within {timeout_s:g} s") from error

    def notify(self, topic: str, key: str, payload: Payload) -> None:
        """Send a notice if connected; the latest of a key wins."""
        if self._outbox is not None:
            self._outbox.replace(f"{topic}\0{key}", _encode({"topic": topic, "p": payload}))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._outbox = _Outbox(writer)
        self._connected.set()
        if self.on_connect:
            self.on_connect()
        try:
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._outbox.run())
                async for message in _frames(reader):
                    self._take(message)
                sender.cancel()
        except* (OSError, asyncio.IncompleteReadError) as lost:
            _log.debug("connection ended: %s", lost.exceptions)
        finally:
            self._connected.clear()
            self._outbox = None
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(RpcLostError("the fetcher process went away"))
            if self.on_disconnect:
                self.on_disconnect()

    def _take(self, message: Payload) -> None:
        if "topic" in message:
            if self._on_notice:
                self._on_notice(message["topic"], message["p"])
            return
        future = self._pending.get(message["id"])
        if future is None or future.done():
            return
        if "ok" in message:
            future.set_result(message["ok"])
        elif "error" in message:
            future.set_exception(_remote_error(message["error"]))


class RpcCaller:
    """The other end, for plain blocking code such as a command line: one connection per call."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def call(
        self,
        op: str,
        payload: Payload,
        *,
        on_event: Callable[[Payload], None] | None = None,
        timeout_s: float | None = None,
    ) -> Payload:
        """Call ``op``, handing its events to ``on_event``; ``timeout_s`` bounds each silence, ``None`` does not.

        Raises :class:`RpcError` and :class:`RpcUnavailableError`.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            try:
                with short_path(self._path) as name:
                    sock.connect(name)
                sock.settimeout(timeout_s)
                sock.sendall(_encode({"id": 1, "op": op, "p": payload}))
                with sock.makefile("rb") as stream:
                    while True:
                        message = _read_frame(stream)
                        if "event" in message:
                            if on_event:
                                on_event(message["event"])
                        elif "error" in message:
                            raise _remote_error(message["error"])
                        elif "ok" in message:
                            return message["ok"]
            except OSError as error:
                raise RpcUnavailableError(f"no running instance answers at {self._path}: {error}") from error


class _Outbox:
    """Frames that wait to be written: a bounded queue that blocks, and notices of which the latest wins."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._queue: deque[bytes] = deque()
        self._latest: dict[str, bytes] = {}
        self._room = asyncio.Semaphore(_QUEUE_FRAMES)
        self._wake = asyncio.Event()

    async def put(self, frame: bytes) -> None:
        await self._room.acquire()
        self._queue.append(frame)
        self._wake.set()

    def replace(self, key: str, frame: bytes) -> None:
        self._latest[key] = frame
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue or self._latest:
                while self._queue:
                    self._writer.write(self._queue.popleft())
                    self._room.release()
                if self._latest:
                    frames, self._latest = self._latest, {}
                    self._writer.writelines(frames.values())
                await self._writer.drain()


def _encode(message: Payload) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[Payload]:
    while True:
        try:
            head = await reader.readexactly(_LENGTH.size)
        except asyncio.IncompleteReadError:
            return
        (length,) = _LENGTH.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise ConnectionAbortedError(f"a frame of {length} bytes")
        yield json.loads(await reader.readexactly(length))


def _read_frame(stream: BinaryIO) -> Payload:
    head = stream.read(_LENGTH.size)
    body = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if not body:
        raise ConnectionResetError("the instance went away before it answered")
    return json.loads(body)


def _error(call_id: int, code: str, message: str, data: Payload) -> Payload:
    return {"id": call_id, "error": {"code": code, "message": message, "data": data}}


def _remote_error(error: Payload) -> RpcError:
    return RpcError(error["code"], error["message"], error.get("data"))


async def _open(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        with short_path(path) as name:
            await asyncio.get_running_loop().sock_connect(sock, name)
        return await asyncio.open_unix_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
