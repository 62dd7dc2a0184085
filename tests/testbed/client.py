"""A plain HTTP client that tells a whole body from a short one, and what came when."""

from __future__ import annotations

import http.client
import ssl
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

_PIECE: Final = 256 * 1024
MANIFEST_TYPES: Final = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client got."""

    status: int
    """0 when there was no head at all."""
    headers: Mapping[str, str]
    """With lower-case names."""
    body: bytes = field(repr=False)
    promised_bytes: int | None
    """``Content-Length``."""
    cut: bool
    """The connection ended before the promised length."""
    first_byte_s: float
    took_s: float

    @property
    def is_whole(self) -> bool:
        """A success, with every promised byte."""
        return self.status in (200, 206) and not self.cut

    @property
    def digest(self) -> str:
        """Digest of what came."""
        return f"sha256:{sha256(self.body).hexdigest()}"


def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = 30.0,
    stop_after_bytes: int | None = None,
    deadline_s: float = 600.0,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Ask once, over a connection of its own, following nothing.

    ``timeout_s`` bounds each wait on the socket, not the whole. ``stop_after_bytes`` and ``deadline_s`` (of
    the whole) leave in the middle, which counts as ``cut``.
    Raises ``OSError`` (a refusal or a time-out); a connection that closes is an :class:`Answer` with ``cut``.
    """
    parts = urlsplit(url)
    connection = (
        http.client.HTTPSConnection(parts.netloc, timeout=timeout_s, context=tls)
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    )
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    started = time.monotonic()
    leave = _Leave(stop_after_bytes, started + deadline_s)
    try:
        connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        received, first_byte_s, cut = _read(response, started=started, leave=leave)
        fields = {name.lower(): value for name, value in response.getheaders()}
        promised = fields.get("content-length")
        return Answer(
            status=response.status,
            headers=fields,
            body=received,
            promised_bytes=int(promised) if promised is not None else None,
            cut=cut,
            first_byte_s=first_byte_s,
            took_s=time.monotonic() - started,
        )
    except (http.client.RemoteDisconnected, http.client.BadStatusLine, ConnectionResetError):
        took = time.monotonic() - started
        return Answer(status=0, headers={}, body=b"", promised_bytes=None, cut=True, first_byte_s=took, took_s=took)
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class _Leave:
    after_bytes: int | None
    at_s: float


def _read(response: http.client.HTTPResponse, *, started: float, leave: _Leave) -> tuple[bytes, float, bool]:
    received, first_byte_s = bytearray(), 0.0
    try:
        while piece := response.read1(_PIECE):
            first_byte_s = first_byte_s or time.monotonic() - started
            received += piece
            if len(received) >= (leave.after_bytes or sys.maxsize) or time.monotonic() > leave.at_s:
                return bytes(received), first_byte_s, True
    except (http.client.IncompleteRead, ConnectionResetError):
        return bytes(received), first_byte_s, True
    return bytes(received), first_byte_s, bool(response.length)
