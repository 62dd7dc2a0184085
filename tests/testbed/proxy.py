"""A real forward proxy: tunnels by CONNECT and passes plain requests in absolute form; names are looked up in a table,
so that hosts can be named which only the proxy can reach.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

_PIECE: Final = 64 * 1024
_IDLE_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One request that the proxy got."""

    method: str
    target: str
    authorization: str | None = field(repr=False)


class ForwardProxy:
    """Listens on 127.0.0.1; a context manager. ``hosts`` maps ``host:port`` as clients name it to the real address."""

    def __init__(self, hosts: Mapping[str, tuple[str, int]], *, user: str | None = None, password: str = "") -> None:
        """With ``user``, requests without these credentials get 407."""
        self._hosts = dict(hosts)
        self._expected = None
        if user is not None:
            self._expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.passed: list[Passed] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    def targets(self, method: str | None = None) -> list[str]:
        """Return what was asked for."""
        return [passed.target for passed in self.passed if method in (None, passed.method)]

    def __enter__(self) -> Self:
        """Listen."""
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """Stop, with every tunnel."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            current = list(self._open)
        for sock in current:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(_IDLE_S)
        with self._held(client), contextlib.suppress(OSError, ValueError):
            head = self._read_head(client)
            if head:
                self._pass(client, head)

    def _pass(self, client: socket.socket, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        authorization = fields.get("Proxy-Authorization")
        self.passed.append(Passed(method=method, target=target, authorization=authorization))
        if self._expected is not None and authorization != self._expected:
            client.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        authority = target if method == "CONNECT" else target.partition("://")[2].partition("/")[0]
        address = self._hosts.get(authority if ":" in authority else f"{authority}:80")
        if address is None:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        server = socket.create_connection(address, timeout=_IDLE_S)
        with self._held(server):
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = "/" + target.partition("://")[2].partition("/")[2]
                kept = [line for line in lines[1:] if not line.lower().startswith(("proxy-", "connection:"))]
                server.sendall("\r\n".join([f"{method} {path} HTTP/1.1", "Connection: close", *kept]).encode("latin-1"))
            self._start(self._pump, client, server)
            self._pump(server, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _read_head(self, client: socket.socket) -> bytes:
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            byte = client.recv(1)
            if not byte:
                return b""
            head += byte
        return bytes(head)

    @contextlib.contextmanager
    def _held(self, sock: socket.socket):
        with self._lock:
            self._open.add(sock)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()
