"""The connections of the load generator: HTTP/1.1 exchanges, and WebSockets that are held (RFC 9112, RFC 6455).

Sockets never block; whoever owns the loop calls ``handle`` with epoll's events. A failure is named by how far the
exchange had come: no byte of an answer (``refused unreachable reset closed``), or in the midst of one (``cut``).
"""

from __future__ import annotations

import base64
import errno
import os
import select
import socket
import struct
import time
from typing import Any, Final, Protocol

_READ: Final = select.EPOLLIN | select.EPOLLRDHUP
_BODY: Final = b"x" * 64
_ECHO_S: Final = 1.0
_AGAIN_S: Final = 1.0
_REFUSED: Final = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset"}


class Loop(Protocol):
    """What connections ask of the loop."""

    def watch(self, connection: Any, events: int) -> None: ...
    def change(self, connection: Any, events: int) -> None: ...
    def forget(self, connection: Any) -> None: ...
    def note_socket(self, row: dict[str, Any]) -> None: ...


class Exchange:
    """One request and what it came to; ``kind`` is empty while it is under way."""

    __slots__ = ("at", "connection", "deadline", "ended_at", "fresh", "id", "kind", "late_s", "post", "seen", "status")
    __slots__ += ("target", "task")

    def __init__(self, name: str, at: float, target: int, *, post: bool, fresh: bool, timeout_s: float) -> None:
        self.id, self.at, self.target, self.post, self.fresh = name, at, target, post, fresh
        self.deadline = at + timeout_s
        self.connection: HttpConnection | None = None
        self.kind = self.task = ""
        self.status = self.seen = 0
        self.ended_at = self.late_s = 0.0

    def end(self, kind: str) -> None:
        """Take in the end; only the first counts."""
        if not self.kind:
            self.kind, self.ended_at = kind, time.monotonic()

    def row(self) -> list[Any]:
        """Return it for the report."""
        method = "POST" if self.post else "GET"
        spent = self.ended_at - self.at
        row = [self.id, self.at, spent, self.kind, self.status, self.target, method, self.fresh]
        return [*row, self.task, self.seen, self.late_s]


class Pool:
    """The kept connections to one target, taken in turn."""

    def __init__(self, loop: Loop, target: int, spec: dict[str, Any]) -> None:
        self._loop = loop
        self._address = tuple(spec["targets"][target])
        self._idle: list[HttpConnection] = []
        self._most = spec["kept"]
        self._get = f"GET {spec['path']} HTTP/1.1\r\nHost: {spec['host']}\r\nX-Load-Id: ".encode()
        self._post = (
            f"POST {spec['path']} HTTP/1.1\r\nHost: {spec['host']}\r\nContent-Length: {len(_BODY)}\r\n".encode()
        )
        self._post += b"Content-Type: text/plain\r\nX-Load-Id: "

    def send(self, exchange: Exchange) -> None:
        """Send a request on a connection as it asks for."""
        data = (self._post if exchange.post else self._get) + exchange.id.encode() + b"\r\n\r\n"
        data += _BODY if exchange.post else b""
        if not exchange.fresh and self._idle:
            self._idle.pop(0).begin(exchange, data)
        else:
            HttpConnection(self._loop, self, self._address).begin(exchange, data)

    def give_back(self, connection: HttpConnection) -> None:
        """Keep a connection that may be used again."""
        if len(self._idle) < self._most:
            self._idle.append(connection)
        else:
            connection.close()

    def lose(self, connection: HttpConnection) -> None:
        """Forget one that has ended."""
        if connection in self._idle:
            self._idle.remove(connection)


class HttpConnection:
    """One connection: connects at its first request, one exchange at a time."""

    def __init__(self, loop: Loop, pool: Pool, address: tuple[str, int]) -> None:
        self._loop, self._pool, self._address = loop, pool, address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self._socket.fileno()
        self._connected = self._closed = False
        self._exchange: Exchange | None = None
        self._unsent = b""
        self._in = bytearray()

    def begin(self, exchange: Exchange, data: bytes) -> None:
        """Send ``data`` and take the answer in as that of ``exchange``."""
        self._exchange, exchange.connection = exchange, self
        self._unsent = data
        if self._connected:
            self._write()
            return
        failed = self._socket.connect_ex(self._address)
        if failed not in (0, errno.EINPROGRESS):
            self._fail(_REFUSED.get(failed, "unreachable"))
            return
        self._loop.watch(self, select.EPOLLOUT | _READ)

    def handle(self, mask: int) -> None:
        """Go on after an event of the socket."""
        if not self._connected:
            failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                self._fail(_REFUSED.get(failed, "unreachable"))
                return
            if not mask & select.EPOLLOUT:
                return
            self._connected = True
            self._loop.change(self, _READ)
            self._write()
        elif mask & (_READ | select.EPOLLHUP | select.EPOLLERR):
            self._read()

    def close(self) -> None:
        """Close without a word."""
        if not self._closed:
            self._closed = True
            self._loop.forget(self)
            self._pool.lose(self)
            self._socket.close()

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except OSError as error:
            self._fail(_REFUSED.get(error.errno or 0, "reset"))
            return
        if sent < len(self._unsent):
            raise RuntimeError("a request did not fit into an empty socket")

    def _read(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._fail("cut" if self._in else "reset")
            return
        if not data:
            self._fail("cut" if self._in else "closed")
            return
        self._in += data
        if self._exchange is None:
            self.close()
            return
        self._take_in(self._exchange)

    def _take_in(self, exchange: Exchange) -> None:
        head_end = self._in.find(b"\r\n\r\n")
        if head_end < 0:
            if not b"HTTP/1.".startswith(self._in[:7]):
                self._fail("garbage")
            return
        try:
            status, headers = parse_head(bytes(self._in[:head_end]))
            size = body_size(self._in, head_end + 4, headers)
        except ValueError:
            self._fail("garbage")
            return
        if size is None or len(self._in) < head_end + 4 + size:
            return
        surplus = len(self._in) > head_end + 4 + size
        self._in.clear()
        self._exchange = exchange.connection = None
        exchange.status, exchange.task = status, headers.get("x-task", "")
        exchange.seen = int(headers.get("x-seen", "0"))
        right = headers.get("x-load-id") == exchange.id and not surplus
        exchange.end("status" if not 200 <= status < 300 else "ok" if right else "wrong")
        if exchange.fresh or surplus or headers.get("connection", "").lower() == "close":
            self.close()
        else:
            self._pool.give_back(self)

    def _fail(self, kind: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection = None
            exchange.end(kind)
        self.close()


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return status and headers, names in lower case; raise :class:`ValueError` for what is no HTTP/1.x answer."""
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1.") or len(first) < 12:
        raise ValueError(first)
    pairs = (line.split(":", 1) for line in lines)
    return int(first[9:12]), {name.lower(): value.strip() for name, value in pairs}


def body_size(data: bytearray, start: int, headers: dict[str, str]) -> int | None:
    """Return the size of the body on the wire; None while a chunked one is not whole."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return int(headers.get("content-length", "0"))
    position = start
    while True:
        line_end = data.find(b"\r\n", position)
        if line_end < 0:
            return None
        size = int(data[position:line_end].split(b";")[0], 16)
        position = line_end + 2 + size + 2
        if len(data) < position:
            return None
        if size == 0:
            return position - start


class SocketHolder:
    """Holds one WebSocket open, with an echo each second; opens it again when it ends."""

    def __init__(self, loop: Loop, spec: dict[str, Any], number: int) -> None:
        self._loop = loop
        self._target = number % len(spec["targets"])
        self._address = tuple(spec["targets"][self._target])
        self._patience_s = spec["timeout_s"]
        key = base64.b64encode(os.urandom(16)).decode()
        self._request = (
            f"GET {spec['websocket_path']} HTTP/1.1\r\nHost: {spec['host']}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self._socket: socket.socket | None = None
        self.fd = -1
        self._next = 0.0
        self._reset()

    def tick(self, now: float) -> float:
        """Do what is due; return when to come again."""
        if self._socket is None:
            if now >= self._next:
                self._open(now)
        elif self._awaited and now > self._awaited + self._patience_s:
            self._end("stalled" if self._upgraded else "refused", detail="no answer in time")
        elif self._upgraded and now >= self._next:
            self._next = now + _ECHO_S
            self._awaited = self._awaited or now
            self._send_frame(1, b"%.6f" % now)
        return max(self._next, now + 0.001) if self._socket is None or self._upgraded else now + 0.25

    def handle(self, mask: int) -> None:
        """Go on after an event of the socket."""
        if self._socket is None:
            return
        try:
            if not self._sent:
                if failed := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(failed, os.strerror(failed))
                if mask & select.EPOLLOUT:
                    self._sent = True
                    self._loop.change(self, _READ)
                    self._socket.send(self._request)
                return
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._end("cut" if self._upgraded else "refused", detail=str(error))
            return
        if not data:
            self._end("cut" if self._upgraded else "refused", detail="the connection ended")
            return
        self._in += data
        if not self._upgraded and not self._take_upgrade():
            return
        self._take_frames()

    def leave(self) -> None:
        """Close it, as a client that has no more to do."""
        if self._socket is not None and self._upgraded:
            self._send_frame(8, struct.pack("!H", 1000))
        if self._socket is not None:
            self._end("held" if self._upgraded else "refused", detail="the run ended")

    def _reset(self) -> None:
        self._in = bytearray()
        self._sent = self._upgraded = False
        self._awaited = self._opened_at = 0.0
        self._echoes = 0
        self._task = ""

    def _open(self, now: float) -> None:
        self._reset()
        self._opened_at = self._awaited = now
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.fd = self._socket.fileno()
        failed = self._socket.connect_ex(self._address)
        self._loop.watch(self, select.EPOLLOUT | _READ)
        if failed not in (0, errno.EINPROGRESS):
            self._end("refused", detail=os.strerror(failed))

    def _take_upgrade(self) -> bool:
        head, found, rest = bytes(self._in).partition(b"\r\n\r\n")
        if not found:
            return False
        try:
            status, headers = parse_head(head)
        except ValueError:
            status, headers = 0, {}
        if status != 101:
            self._end("refused", detail=f"status {status}")
            return False
        self._in = bytearray(rest)
        self._task, self._upgraded = headers.get("x-task", ""), True
        self._awaited, self._next = 0.0, time.monotonic()
        return True

    def _take_frames(self) -> None:
        while len(self._in) >= 2:
            opcode, size, head = self._in[0] & 0x0F, self._in[1] & 0x7F, 2
            if size == 126:
                size, head = int.from_bytes(self._in[2:4], "big"), 4
            if len(self._in) < head + size:
                return
            payload = bytes(self._in[head : head + size])
            del self._in[: head + size]
            if opcode == 8:
                code = int.from_bytes(payload[:2], "big")
                self._send_frame(8, payload[:2])
                self._end("closed", code=code, detail=payload[2:].decode(errors="replace"))
                return
            if opcode == 9:
                self._send_frame(10, payload)
            elif opcode in (1, 2):
                self._echoes += 1
                self._awaited = 0.0

    def _send_frame(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        try:
            if self._socket is not None:
                self._socket.send(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)
        except OSError as error:
            if opcode != 8:
                self._end("cut", detail=str(error))

    def _end(self, how: str, *, code: int = 0, detail: str = "") -> None:
        if self._socket is None:
            return
        now = time.monotonic()
        self._loop.forget(self)
        self._socket.close()
        self._socket = None
        self._next = now + _AGAIN_S
        row = {"opened_at": self._opened_at, "ended_at": now, "end": how, "code": code, "target": self._target}
        self._loop.note_socket({**row, "task": self._task, "echoes": self._echoes, "detail": detail})
