"""A counting reverse proxy before a real registry: counts bytes and requests, paces, delays, and breaks when told to.

Bodies pass unchanged and unbuffered. The ``Host`` header passes too, so that the registry's own links come back
through the wire. Run it in a process of its own (:func:`apart`) where its share of the interpreter lock would spoil a
measurement.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, auto
from multiprocessing.managers import BaseManager
from typing import Final, cast

from testbed.http_body import Body, Framing, Reader, head_bytes, read_fields
from testbed.server import Exchange, Gone, Link, Record, Server

_UPSTREAM_TIMEOUT_S: Final = 120.0
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade"})


class Break(Enum):
    """What can go wrong on a wire."""

    RESET = auto()
    """The connection is reset instead of an answer."""
    SILENT = auto()
    """No answer at all."""
    STATUS = auto()
    """``Fault.status`` instead of the real answer."""
    CUT = auto()
    """The connection ends after ``Fault.after_bytes`` of a body."""
    STALL = auto()
    """The body stops after ``Fault.after_bytes`` and the connection stays open."""
    CORRUPT = auto()
    """The byte at ``Fault.after_bytes`` of a body is another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, for the requests whose path matches ``pattern``."""

    kind: Break
    pattern: str = "/blobs/"
    """Regular expression, searched in the path."""
    after_bytes: int = 0
    status: int = 503
    headers: tuple[tuple[str, str], ...] = ()
    times: int | None = None
    """How often it strikes; ``None`` until it is healed."""


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None


class Wire:
    """The proxy. All methods are safe from any thread and, through :func:`apart`, from another process."""

    def __init__(
        self, target: str, *, link: Link | None = None, tls: ssl.SSLContext | None = None, pem: str | None = None
    ) -> None:
        """``target`` is ``host:port`` of a plain HTTP server; ``pem`` a file with certificate and key, for ``tls``."""
        if pem is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(pem)
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._scheme = "https" if tls else "http"
        self._server = Server(self._answer, tls=tls, link=link, on_close=self._forget_upstream)
        self._lock = threading.Lock()
        self._faults: list[_Armed] = []
        self._pooled: dict[int, tuple[socket.socket, Reader]] = {}

    def start(self) -> str:
        """Listen; return the URL."""
        self._server.listen()
        return self._server.url

    def stop(self) -> None:
        """Stop and close all connections."""
        self._server.stop()

    def url(self) -> str:
        """Return the URL."""
        return self._server.url

    def set_link(self, *, pace_bytes_s: float | None = None, latency_s: float = 0.0) -> None:
        """Change pace and latency from now on, of open connections too."""
        self._server.link.pace_bytes_s = pace_bytes_s
        self._server.link.latency_s = latency_s

    def inject(self, fault: Fault) -> None:
        """Switch ``fault`` on."""
        with self._lock:
            self._faults.append(_Armed(fault, fault.times))

    def heal(self) -> None:
        """Switch all faults off and listen again if :meth:`refuse` was called."""
        with self._lock:
            self._faults.clear()
        self._server.listen()

    def refuse(self) -> None:
        """Refuse connections until :meth:`heal`."""
        self._server.refuse()

    def cut_all(self) -> None:
        """Cut every open connection once and go on."""
        self._server.refuse()
        self._server.listen()

    def records(self) -> list[Record]:
        """Return every request so far."""
        return list(self._server.records)

    def count(self, method: str | None = None, containing: str = "") -> int:
        """Return how many requests had this method and a path that contains ``containing``."""
        return len(self._server.requests(method, containing=containing))

    def sent_bytes(self, containing: str = "") -> int:
        """Return the bytes of body sent for paths that contain ``containing``."""
        return self._server.sent_bytes(containing=containing)

    def connections(self) -> int:
        """Return the number of connections so far."""
        return self._server.accepted

    def forget(self) -> None:
        """Begin to count anew."""
        self._server.forget()

    def _answer(self, exchange: Exchange) -> None:
        fault = self._strike(exchange.path)
        if fault is not None:
            self._break_instead(exchange, fault)
        if fault is not None and fault.kind is Break.STATUS:
            return
        number = exchange.connection.number
        sock, reader = self._upstream(number)
        try:
            self._pass(exchange, sock, reader, fault)
        except (OSError, ValueError, Gone):
            self._forget_upstream(number)
            exchange.cut()

    def _break_instead(self, exchange: Exchange, fault: Fault) -> None:
        if fault.kind is Break.RESET:
            exchange.reset()
        if fault.kind is Break.SILENT:
            exchange.stay_silent()
        if fault.kind is Break.STATUS:
            exchange.reply(fault.status, b'{"errors":[]}', dict(fault.headers))

    def _pass(self, exchange: Exchange, sock: socket.socket, reader: Reader, fault: Fault | None) -> None:
        self._send_request(exchange, sock)
        status_line = reader.readline(65537).decode("latin-1").rstrip()
        headers = read_fields(reader)
        status = int(status_line.split()[1])
        exchange.record.status = status
        body = Body.of_response(reader, headers, method=exchange.method, status=status)
        kept = [(name, value) for name, value in headers.items() if name not in _HOP_BY_HOP]
        if body.framing is Framing.CHUNKED:
            data = body.read()
            exchange.connection.send(head_bytes(status_line, [*kept, ("Content-Length", str(len(data)))]))
            exchange.write(data)
        else:
            exchange.connection.send(head_bytes(status_line, kept))
            for piece in body.pieces():
                self._pass_piece(exchange, piece, fault)
        if body.framing is Framing.UNTIL_CLOSE or headers.get("connection", "").lower() == "close":
            self._forget_upstream(exchange.connection.number)
            if body.framing is Framing.UNTIL_CLOSE:
                exchange.cut()

    def _pass_piece(self, exchange: Exchange, piece: memoryview, fault: Fault | None) -> None:
        start = exchange.record.sent_bytes
        if fault is None or not start <= fault.after_bytes < start + len(piece):
            exchange.write(piece)
            return
        at = fault.after_bytes - start
        if fault.kind is Break.CORRUPT:
            piece[at] ^= 0xFF
            exchange.write(piece)
            return
        exchange.write(piece[:at])
        if fault.kind is Break.STALL:
            exchange.stay_silent()
        exchange.cut()

    def _send_request(self, exchange: Exchange, sock: socket.socket) -> None:
        record, body = exchange.record, exchange.body
        kept = [(name, value) for name, value in record.headers.items() if name not in _HOP_BY_HOP]
        kept = [(name, value) for name, value in kept if name != "expect"]
        chunked = body.framing is Framing.CHUNKED
        extra = [("x-forwarded-proto", self._scheme), *([("transfer-encoding", "chunked")] if chunked else [])]
        sock.sendall(head_bytes(f"{record.method} {record.target} HTTP/1.1", [*kept, *extra]))
        for piece in body.pieces():
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            sock.sendall(b"0\r\n\r\n")

    def _strike(self, path: str) -> Fault | None:
        with self._lock:
            for armed in self._faults:
                if armed.left != 0 and re.search(armed.fault.pattern, path):
                    armed.left = None if armed.left is None else armed.left - 1
                    return armed.fault
        return None

    def _upstream(self, number: int) -> tuple[socket.socket, Reader]:
        if number not in self._pooled:
            sock = socket.create_connection(self._target, timeout=_UPSTREAM_TIMEOUT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pooled[number] = (sock, io.BufferedReader(socket.SocketIO(sock, "r"), 1024 * 1024))
        return self._pooled[number]

    def _forget_upstream(self, number: int) -> None:
        pooled = self._pooled.pop(number, None)
        if pooled is not None:
            pooled[1].close()
            pooled[0].close()


class _WireProcess(BaseManager):
    """The process of :func:`apart`."""

    def start_wire(self, target: str, *, link: Link, pem: str | None) -> Wire:
        """Return a stand-in for a started wire."""
        wire = cast("Wire", self.Wire(target, link=link, pem=pem))  # pyright: ignore  # made by register()
        wire.start()
        return wire


_WireProcess.register("Wire", Wire)


@contextlib.contextmanager
def apart(
    target: str, *, pace_bytes_s: float | None = None, latency_s: float = 0.0, pem: str | None = None
) -> Generator[Wire]:
    """Run a :class:`Wire` in a process of its own; yields a stand-in with the same methods."""
    process = _WireProcess()
    process.start()
    try:
        wire = process.start_wire(target, link=Link(pace_bytes_s=pace_bytes_s, latency_s=latency_s), pem=pem)
        yield wire
        wire.stop()
    finally:
        process.shutdown()


@contextlib.contextmanager
def within(target: str, *, link: Link | None = None, tls: ssl.SSLContext | None = None) -> Generator[Wire]:
    """Run a :class:`Wire` in threads of this process."""
    wire = Wire(target, link=link, tls=tls)
    wire.start()
    try:
        yield wire
    finally:
        wire.stop()


def wait_until_counted(wire: Wire, wanted: int, *, containing: str = "", timeout_s: float = 10.0) -> None:
    """Wait until the wire has sent at least ``wanted`` bytes of body; raise :class:`TimeoutError`."""
    deadline = time.monotonic() + timeout_s
    while wire.sent_bytes(containing) < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{wire.sent_bytes(containing)} of {wanted} bytes after {timeout_s} s")
        time.sleep(0.005)
