"""Opening connections: name, address after address, proxy, TLS; all within one connect deadline.

Each address of a name gets its share of what is left, so a dead IPv6 route costs a part of the deadline and not all
of it.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from hunqi.mirror.sources.errors import SourceUnreachable
from hunqi.mirror.sources.proxies import Proxy, ProxyRules
from hunqi.mirror.sources.tls import TlsContexts
from hunqi.mirror.sources.urls import Endpoint, is_address
from hunqi.mirror.sources.wire import Wire

MAX_PROXY_REPLY_BYTES: Final = 16 * 1024


class _Address(NamedTuple):
    family: int
    sockaddr: Any  # socket's own type: its form depends on the family


class Dialer:
    """Opens connections for one source. Thread-safe.

    ``label`` names the source in errors; ``home`` is its own endpoint, the only one that sees the client certificate.
    """

    def __init__(self, label: str, home: Endpoint, *, tls: TlsContexts, proxies: ProxyRules, connect_s: float) -> None:
        self._label = label
        self._home = home
        self._tls = tls
        self._proxies = proxies
        self._connect_s = connect_s

    def proxy_for(self, endpoint: Endpoint) -> Proxy | None:
        """Return the proxy that plain requests to ``endpoint`` must be phrased for (None for https: a tunnel)."""
        return self._proxies.for_endpoint(endpoint) if endpoint.scheme == "http" else None

    def dial(self, endpoint: Endpoint) -> Wire:
        """Return a connection that is ready for HTTP; raises :class:`SourceUnreachable`."""
        deadline = time.monotonic() + self._connect_s
        proxy = self._proxies.for_endpoint(endpoint)
        host, port = (proxy.host, proxy.port) if proxy else (endpoint.host, endpoint.port)
        sock = self._connect(host, port, deadline)
        try:
            if endpoint.scheme == "https":
                if proxy is not None:
                    self._tunnel(sock, proxy, endpoint, deadline)
                context = self._tls.context(own=endpoint == self._home)
                sock.settimeout(_left(deadline))
                sock = context.wrap_socket(sock, server_hostname=endpoint.host)
        except TimeoutError as error:
            sock.close()
            raise SourceUnreachable(self._label, f"{endpoint} took over {self._connect_s:g} s to connect") from error
        except (OSError, ValueError) as error:
            sock.close()
            raise SourceUnreachable(self._label, f"{endpoint}: {_explain(error)}") from error
        except BaseException:
            sock.close()
            raise
        return Wire(sock)

    def _connect(self, host: str, port: int, deadline: float) -> socket.socket:
        addresses = self._resolve(host, port, deadline)
        failures: list[str] = []
        for index, address in enumerate(addresses):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            sock = socket.socket(address.family, socket.SOCK_STREAM)
            try:
                sock.settimeout(left_s / (len(addresses) - index))
                sock.connect(address.sockaddr)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                failures.append(f"{address.sockaddr[0]}: {_explain(error)}")
            else:
                return sock
        raise SourceUnreachable(
            self._label, f"cannot connect to {host}:{port} ({'; '.join(failures) or 'no time left'})"
        )

    def _resolve(self, host: str, port: int, deadline: float) -> list[_Address]:
        try:
            if is_address(host):
                return _look_up(host, port)
            return _look_up_within(host, port, _left(deadline))
        except TimeoutError as error:
            raise SourceUnreachable(self._label, f"looking up {host} took over {self._connect_s:g} s") from error
        except (OSError, UnicodeError) as error:
            raise SourceUnreachable(self._label, f"cannot look up {host}: {_explain(error)}") from error

    def _tunnel(self, sock: socket.socket, proxy: Proxy, endpoint: Endpoint, deadline: float) -> None:
        lines = [f"CONNECT {endpoint.authority} HTTP/1.1", f"Host: {endpoint.authority}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        sock.settimeout(_left(deadline))
        sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        reply = bytearray()
        while not reply.endswith(b"\r\n\r\n"):
            sock.settimeout(_left(deadline))
            # One byte at a time: what follows the header already belongs to TLS.
            byte = sock.recv(1)
            if not byte or len(reply) > MAX_PROXY_REPLY_BYTES:
                raise OSError("the proxy broke off")
            reply += byte
        status = bytes(reply).split(b"\r\n", 1)[0].split(b" ", 2)
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or status[1] != b"200":
            raise OSError(f"the proxy refused: {b' '.join(status)[:80]!r}")


def _look_up(host: str, port: int) -> list[_Address]:
    """Return the addresses of ``host``, families taking turns, the resolver's favourite first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    first = found[0][0]
    same = [_Address(entry[0], entry[4]) for entry in found if entry[0] == first]
    rest = [_Address(entry[0], entry[4]) for entry in found if entry[0] != first]
    return [address for pair in zip_longest(same, rest) for address in pair if address is not None]


def _look_up_within(host: str, port: int, limit_s: float) -> list[_Address]:
    """As :func:`_look_up`, in a thread that is left to itself when the resolver (5 s a server) takes too long."""
    answers: queue.SimpleQueue[list[_Address] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_look_up(host, port))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name=f"look-up {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=limit_s)
    except queue.Empty as error:
        raise TimeoutError from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _left(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _explain(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
