"""Which proxy a request goes through: the usual environment variables, handed in as a mapping.

``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` in either case, lower case first. As in Go's
``net/http``, loopback is never proxied. ``no_proxy`` takes ``*``, hosts and domains (``example.com`` and
``.example.com`` cover what is below them), addresses, networks (``10.0.0.0/8``) and ``host:port``.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from hunqi.errors import UserError
from hunqi.mirror.sources.urls import Endpoint


class ProxyError(UserError):
    """A proxy setting that cannot be used."""

    code: ClassVar[str] = "source.proxy_invalid"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; ``authorization`` is the value of ``Proxy-Authorization``, never shown."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRules:
    """Decides the proxy of each endpoint. Without arguments: none."""

    http: Proxy | None = None
    https: Proxy | None = None
    exceptions: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ProxyRules:
        """Read the variables; raise :class:`ProxyError` for a proxy that is not ``http://host[:port]``."""

        def read(name: str) -> str:
            return (environment.get(name) or environment.get(name.upper()) or "").strip()

        fallback = read("all_proxy")
        return cls(
            http=_parse_proxy("http_proxy", read("http_proxy") or fallback),
            https=_parse_proxy("https_proxy", read("https_proxy") or fallback),
            exceptions=tuple(entry.strip().lower() for entry in read("no_proxy").split(",") if entry.strip()),
        )

    def for_endpoint(self, endpoint: Endpoint) -> Proxy | None:
        """Return the proxy to go through, or None to go straight."""
        proxy = self.https if endpoint.scheme == "https" else self.http
        if proxy is None or _is_loopback(endpoint.host):
            return None
        return None if any(_covers(entry, endpoint) for entry in self.exceptions) else proxy


def _parse_proxy(name: str, text: str) -> Proxy | None:
    if not text:
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ProxyError(f"{name} is not a URL: write http://[user:password@]host:port") from error
    if parts.scheme != "http" or not host:
        raise ProxyError(
            f"{name} must be http://[user:password@]host:port (a proxy that is spoken to in clear; no socks)"
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(host, port or 80, authorization)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _covers(entry: str, endpoint: Endpoint) -> bool:
    if entry == "*":
        return True
    host, port = _split_port(entry)
    if port is not None and port != endpoint.port:
        return False
    try:
        return ipaddress.ip_address(endpoint.host) in ipaddress.ip_network(host, strict=False)
    except (ValueError, TypeError):
        pass
    domain = host.removeprefix("*").lstrip(".")
    return endpoint.host == domain or endpoint.host.endswith(f".{domain}")


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        return host, int(port[1:]) if port[1:].isdigit() else None
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and ":" not in host:
        return host, int(port)
    return entry, None
