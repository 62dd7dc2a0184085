"""Requests and answers: a pool of kept-alive connections per endpoint, deadlines, and errors by who failed."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from hunqi.mirror.settings import Deadlines
from hunqi.mirror.sources.dial import Dialer
from hunqi.mirror.sources.errors import Phase, SourceCut, SourceMisbehaves, SourceTimeout, SourceUnreachable
from hunqi.mirror.sources.reply import Reply
from hunqi.mirror.sources.urls import Endpoint, Url
from hunqi.mirror.sources.wire import Wire

IDLE_S: Final = 30.0
"""An idle connection is kept so long; common servers close theirs after 60 s or more."""
MAX_IDLE: Final = 32
"""Idle connections that are kept for one endpoint."""
USER_AGENT: Final = "hunqi-mirror"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send. Only idempotent methods are sent again when a kept-alive connection turns out to be dead."""

    method: str
    url: Url
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


class Transport:
    """Sends requests for one source, to whatever endpoint. Thread-safe; ``label`` names the source in errors."""

    def __init__(self, label: str, dialer: Dialer, deadlines: Deadlines) -> None:
        self.label: Final = label
        self._dialer = dialer
        self._deadlines = deadlines
        self._lock = threading.Lock()
        self._idle: defaultdict[Endpoint, list[tuple[Wire, float]]] = defaultdict(list)
        self._is_closed = False

    def send(self, request: Request) -> Reply:
        """Return the answer as soon as its header is there; the caller closes it.

        Raises :class:`SourceUnreachable`, :class:`SourceTimeout` (first byte), :class:`SourceCut` or
        :class:`SourceMisbehaves` (no HTTP).
        """
        while (wire := self._take_idle(request.url.endpoint)) is not None:
            try:
                return self._exchange(wire, request)
            except SourceCut:
                # The server closed it while it was idle; that says nothing about a new connection.
                if request.body is not None:
                    raise
        return self._exchange(self._dialer.dial(request.url.endpoint), request)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their answers are."""
        with self._lock:
            self._is_closed = True
            idle = [wire for entries in self._idle.values() for wire, _ in entries]
            self._idle.clear()
        for wire in idle:
            wire.close()

    def _exchange(self, wire: Wire, request: Request) -> Reply:
        try:
            response = self._ask(wire, request)
        except BaseException:
            wire.close()
            raise
        return Reply(self.label, wire, response, self._release_to(request.url.endpoint))

    def _ask(self, wire: Wire, request: Request) -> http.client.HTTPResponse:
        limit_s = self._deadlines.first_byte_s
        endpoint = request.url.endpoint
        # http.client asks of a socket only what a Wire has: sendall and makefile.
        sock = cast("socket.socket", wire)
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port)
        connection.sock = sock
        try:
            wire.expect_within(limit_s)
            self._put(connection, request)
            # Not getresponse(): it closes the socket of an answer that announces "Connection: close".
            response = http.client.HTTPResponse(sock, method=request.method)
            response.begin()
        except TimeoutError as error:
            raise SourceTimeout(self.label, Phase.FIRST_BYTE, limit_s) from error
        except OSError as error:
            if _is_tls_refusal(error):
                raise SourceUnreachable(self.label, f"{endpoint} refuses our TLS: {error.strerror}") from error
            raise SourceCut(self.label, f"{endpoint} closed the connection without an answer ({error})") from error
        except (http.client.HTTPException, ValueError) as error:
            raise SourceMisbehaves(
                self.label, f"{endpoint} does not answer in HTTP ({type(error).__name__})"
            ) from error
        return response

    def _put(self, connection: http.client.HTTPConnection, request: Request) -> None:
        endpoint = request.url.endpoint
        proxy = self._dialer.proxy_for(endpoint)
        target = str(request.url) if proxy else request.url.target
        connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
        headers = {"Host": endpoint.netloc, "User-Agent": USER_AGENT, "Accept-Encoding": "identity", **request.headers}
        if proxy is not None and proxy.authorization:
            headers["Proxy-Authorization"] = proxy.authorization
        if request.body is not None:
            headers["Content-Length"] = str(len(request.body))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(request.body)

    def _take_idle(self, endpoint: Endpoint) -> Wire | None:
        while True:
            with self._lock:
                entries = self._idle.get(endpoint)
                if not entries:
                    return None
                wire, since = entries.pop()
            if time.monotonic() - since < IDLE_S and wire.is_quiet():
                return wire
            wire.close()

    def _release_to(self, endpoint: Endpoint) -> Callable[[Wire], None]:
        def release(wire: Wire) -> None:
            with self._lock:
                entries = self._idle[endpoint]
                if not self._is_closed and len(entries) < MAX_IDLE:
                    entries.append((wire, time.monotonic()))
                    return
            wire.close()

        return release


def _is_tls_refusal(error: OSError) -> bool:
    """Whether the server broke off by an alert: in TLS 1.3 it judges our certificate only after the handshake."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
