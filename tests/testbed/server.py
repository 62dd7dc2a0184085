"""A small threaded HTTP/1.1 server on raw sockets, for servers that must be able to misbehave and to count every byte.

``answer`` gets one :class:`Exchange` per request and writes what it wants of a response: a head that lies, half a
body, nothing. The :class:`Link` of the server is read at each write, so a test changes latency and pace
while connections are open.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

from testbed.http_body import Body, head_bytes, read_fields

_SLICE: Final = 64 * 1024
_BIG_SLICE: Final = 1024 * 1024
_IDLE_S: Final = 120.0
_CREDIT_S: Final = 0.02
"""How much lateness of the sleeping thread the pace makes up for."""
_REASONS: Final = {200: "OK", 206: "Partial Content", 302: "Found", 307: "Temporary Redirect", 401: "Unauthorized"}


@dataclass(slots=True, kw_only=True)
class Link:
    """What the way to a server is like; may be changed while it is in use."""

    pace_bytes_s: float | None = None
    """Bytes a second of each connection; ``None`` is as fast as it goes."""
    latency_s: float = 0.0
    """One round trip: waited once when a connection opens, and once for each request."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One request that a server saw, and what it sent back so far."""

    connection: int
    method: str
    target: str
    headers: Mapping[str, str]
    """With lower-case names."""
    at_s: float
    """``time.monotonic()`` when the request's head was read."""
    status: int = 0
    sent_bytes: int = 0
    """Bytes of body."""
    finished: bool = False

    @property
    def path(self) -> str:
        """The target without its query, unquoted."""
        return unquote(self.target.partition("?")[0])


class Gone(Exception):
    """The exchange is over in the middle: the connection was cut, by this side or the other."""


class Exchange:
    """One request and the means to answer it, well or badly."""

    def __init__(self, connection: Connection, record: Record, body: Body) -> None:
        """Belongs to the server."""
        self.record = record
        self.body = body
        self.connection = connection

    @property
    def method(self) -> str:
        """``GET``, ``HEAD``, …"""
        return self.record.method

    @property
    def path(self) -> str:
        """The unquoted path."""
        return self.record.path

    def header(self, name: str) -> str | None:
        """Return a header of the request."""
        return self.record.headers.get(name.lower())

    def head(self, status: int, headers: Mapping[str, object] | None = None) -> None:
        """Send the head of a response."""
        self.record.status = status
        reason = _REASONS.get(status, "Status")
        fields = [(name, str(value)) for name, value in (headers or {}).items()]
        self.connection.send(head_bytes(f"HTTP/1.1 {status} {reason}", fields))

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes of the body, as slowly as the link says; raise :class:`Gone` when nobody reads them."""
        for piece in self._slices(memoryview(data)):
            self.record.sent_bytes += len(piece)
            try:
                self.connection.send(piece)
            except Gone:
                self.record.sent_bytes -= len(piece)
                raise

    def reply(self, status: int, body: bytes = b"", headers: Mapping[str, object] | None = None) -> None:
        """Send a whole, honest response (no body for HEAD)."""
        self.head(status, {"Content-Length": len(body), **(headers or {})})
        if self.method != "HEAD":
            self.write(body)

    def cut(self) -> None:
        """Close the connection after what was sent; raises :class:`Gone`."""
        self.connection.close()
        raise Gone

    def reset(self) -> None:
        """Break the connection with a TCP reset; raises :class:`Gone`."""
        self.connection.reset()
        raise Gone

    def stay_silent(self) -> None:
        """Send nothing until the client or the server goes away; raises :class:`Gone`."""
        self.connection.wait_for_end()
        raise Gone

    def _slices(self, view: memoryview) -> Iterator[memoryview]:
        size = _SLICE if self.connection.link.pace_bytes_s else _BIG_SLICE
        return (view[start : start + size] for start in range(0, len(view), size))


class Connection:
    """One accepted connection, with its own pace."""

    def __init__(self, sock: socket.socket, *, number: int, link: Link) -> None:
        """Take over ``sock``."""
        self.number = number
        self.link = link
        self._sock = sock
        self._reader = io.BufferedReader(socket.SocketIO(sock, "r"), _BIG_SLICE)
        self._free_at_s = 0.0
        self._closed = False
        self.stopping = threading.Event()

    def exchanges(self, remember: Callable[[Record], None]) -> Iterator[Exchange]:
        """Yield the requests of this connection until it ends."""
        time.sleep(self.link.latency_s)
        while not self._closed:
            first = self._reader.readline(65537).decode("latin-1").split()
            if len(first) != 3:
                return
            headers = read_fields(self._reader)
            record = Record(
                connection=self.number, method=first[0], target=first[1], headers=headers, at_s=time.monotonic()
            )
            remember(record)
            body = Body.of_request(self._reader, headers)
            time.sleep(self.link.latency_s)
            if headers.get("expect", "").lower() == "100-continue":
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            yield Exchange(self, record, body)
            record.finished = True
            body.drain()
            if headers.get("connection", "").lower() == "close":
                return

    def send(self, data: bytes | memoryview) -> None:
        """Send all of ``data`` at this link's pace; raise :class:`Gone`."""
        pace = self.link.pace_bytes_s
        if pace:
            time.sleep(max(0.0, self._free_at_s - time.monotonic()))
            self._free_at_s = max(time.monotonic() - _CREDIT_S, self._free_at_s) + len(data) / pace
        try:
            self._sock.sendall(data)
        except (OSError, ValueError) as error:
            raise Gone from error

    def close(self) -> None:
        """End the connection after what was sent."""
        self._closed = True
        with contextlib.suppress(OSError, ValueError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self.release()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self._closed = True
        with contextlib.suppress(OSError, ValueError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.release()

    def release(self) -> None:
        """Close the socket itself; only by the thread that serves it."""
        self._closed = True
        with contextlib.suppress(OSError, ValueError):
            self._reader.close()
        self._sock.close()

    def wake(self) -> None:
        """Make the thread that serves this connection find it ended; from any thread."""
        self.stopping.set()
        with contextlib.suppress(OSError, ValueError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def wait_for_end(self) -> None:
        """Wait until the client has closed its side or the server stops."""
        with contextlib.suppress(OSError, ValueError):
            while not self.stopping.is_set() and self._sock.recv(4096):
                pass
        self.close()


@dataclass(slots=True)
class _Listening:
    sock: socket.socket
    thread: threading.Thread
    closing: threading.Event = field(default_factory=threading.Event)


class Server:
    """Serves ``answer`` on 127.0.0.1; a context manager. ``refuse()`` takes it away, ``listen()`` brings it back."""

    def __init__(
        self,
        answer: Callable[[Exchange], None],
        *,
        tls: ssl.SSLContext | None = None,
        link: Link | None = None,
        host: str = "127.0.0.1",
        hold_back: Callable[[], bool] = lambda: False,
        on_close: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``hold_back()`` true: a connection is accepted and never answered. ``on_close`` gets its number.

        ``host`` may be an IPv6 address.
        """
        self._answer = answer
        self._tls = tls
        self._hold_back = hold_back
        self._on_close = on_close
        self.link = link or Link()
        self.host = host
        self.port = 0
        self.records: list[Record] = []
        self.accepted = 0
        """Connections so far."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._open: dict[int, tuple[Connection, threading.Thread]] = {}
        self._listening: _Listening | None = None

    def __enter__(self) -> Self:
        """Listen."""
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """Stop."""
        self.stop()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT`` or ``https://``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        with self._lock:
            return len(self._open)

    def listen(self) -> None:
        """Accept connections, at the port that was used before if there was one."""
        if self._listening is not None:
            return
        sock = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.host, self.port))
        sock.listen(1024)
        self.port = sock.getsockname()[1]
        closing = threading.Event()
        thread = threading.Thread(target=self._accept, args=(sock, closing), name=f"accept-{self.port}", daemon=True)
        self._listening = _Listening(sock, thread, closing)
        thread.start()

    def refuse(self) -> None:
        """Close the port and every connection: the next connect is refused."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.closing.set()
            with contextlib.suppress(OSError):
                listening.sock.shutdown(socket.SHUT_RDWR)
            listening.thread.join(5.0)
            listening.sock.close()
        with self._lock:
            current = list(self._open.values())
        for connection, _ in current:
            connection.wake()
        for _, thread in current:
            if thread is not threading.current_thread():
                thread.join(5.0)

    def stop(self) -> None:
        """Stop serving; bounded."""
        self.refuse()

    def requests(self, method: str | None = None, *, containing: str = "") -> list[Record]:
        """Return the requests so far whose path contains ``containing``."""
        return [
            record for record in list(self.records) if method in (None, record.method) and containing in record.path
        ]

    def sent_bytes(self, *, containing: str = "") -> int:
        """Return the bytes of body sent so far for paths that contain ``containing``."""
        return sum(record.sent_bytes for record in self.requests(containing=containing))

    def forget(self) -> None:
        """Drop what was recorded so far."""
        self.records = []

    def _remember(self, record: Record) -> None:
        self.records.append(record)

    def _accept(self, sock: socket.socket, closing: threading.Event) -> None:
        while not closing.is_set():
            try:
                client, _ = sock.accept()
            except OSError:
                return
            number = next(self._numbers)
            self.accepted = number
            thread = threading.Thread(target=self._serve, args=(client, number), name=f"serve-{number}", daemon=True)
            thread.start()

    def _serve(self, client: socket.socket, number: int) -> None:
        client.settimeout(_IDLE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._tls is not None and not self._hold_back():
                client = self._tls.wrap_socket(client, server_side=True)
        except OSError:
            client.close()
            return
        connection = Connection(client, number=number, link=self.link)
        with self._lock:
            self._open[number] = (connection, threading.current_thread())
        try:
            if self._hold_back():
                connection.wait_for_end()
            for exchange in connection.exchanges(self._remember):
                self._answer(exchange)
        except (Gone, OSError, ValueError):
            pass
        finally:
            with self._lock:
                del self._open[number]
            connection.close()
            self._on_close(number)
