"""Addresses: where a request really goes, and who may see a secret.

Two rules of safety live here. ``Authorization`` belongs to one :class:`Endpoint` (scheme, host and port). Credentials
may be sent to a token realm only on the same host or the same *registrable domain*, without downgrade from https.

The registrable domain is found without the public suffix list (2 MB, and stale in a binary that nobody updates): a
public suffix is the last label; or the last two where the last is a country's and the one before is short (``co.uk``,
``ac.jp``) or generic (``com.cn``); or a hosting suffix of the table below. Where the rule errs on the strict side,
only the same host is allowed.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import quote, urljoin, urlsplit

from hunqi.errors import UserError

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_GENERIC_SECOND: Final = frozenset(
    {
        "com",
        "net",
        "org",
        "edu",
        "gov",
        "mil",
        "gob",
        "gouv",
        "asso",
        "nom",
        "info",
        "int",
        "idf",
        "govt",
        "firm",
        "store",
        "web",
    }
)
_HOSTING_SUFFIXES: Final = frozenset(
    {
        "amazonaws.com",
        "appspot.com",
        "azurecr.cn",
        "azurecr.io",
        "azurefd.net",
        "azurewebsites.net",
        "cloudapp.net",
        "cloudfront.net",
        "duckdns.org",
        "dyndns.org",
        "firebaseapp.com",
        "fly.dev",
        "github.dev",
        "github.io",
        "githubusercontent.com",
        "gitlab.io",
        "herokuapp.com",
        "jfrog.io",
        "netlify.app",
        "ngrok-free.app",
        "ngrok.io",
        "nip.io",
        "no-ip.org",
        "onrender.com",
        "pages.dev",
        "pkg.dev",
        "run.app",
        "sslip.io",
        "trycloudflare.com",
        "vercel.app",
        "web.app",
        "windows.net",
        "workers.dev",
    }
)
_HOST: Final = re.compile(r"[a-z0-9_.-]{1,253}|[0-9a-f:.]{2,45}")
_PATH_SAFE: Final = "/:?#[]@!$&'()*+,;=%-._~|{}^\"<>\\`"


class UrlError(UserError):
    """A text is not an http or https URL that can be asked."""

    code: ClassVar[str] = "source.url_invalid"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Scheme, host (lower case, IPv6 without brackets) and port."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """``host[:port]`` as the ``Host`` header has it: default ports left out, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def authority(self) -> str:
        """``host:port``, always with the port, as CONNECT has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


@dataclass(frozen=True, slots=True)
class Url:
    """An endpoint and the request target on it (path and query, ASCII, beginning with ``/``)."""

    endpoint: Endpoint
    target: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Parse an absolute URL; a fragment is dropped. Raises :class:`UrlError`, with no secret in it."""
        try:
            parts = urlsplit(text)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError as error:
            raise UrlError("not a URL: write http[s]://host[:port]") from error
        if parts.scheme not in DEFAULT_PORTS or not _HOST.fullmatch(host):
            raise UrlError("not a URL to ask: write http[s]://host[:port]")
        if parts.username is not None or parts.password is not None:
            raise UrlError("a URL must not carry credentials: use a credentials file or a helper")
        if re.search(r"[\x00-\x20\x7f]", parts.path + parts.query):
            raise UrlError("a URL must not carry spaces or control characters")
        path = quote(parts.path or "/", safe=_PATH_SAFE)
        query = f"?{quote(parts.query, safe=_PATH_SAFE)}" if parts.query else ""
        return cls(Endpoint(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme]), path + query)

    def join(self, location: str) -> Url:
        """Return where a ``Location`` header leads from here. Raises :class:`UrlError`."""
        try:
            joined = urljoin(str(self), location.strip())
        except ValueError as error:
            raise UrlError("not a URL") from error
        return Url.parse(joined)

    def __str__(self) -> str:
        return f"{self.endpoint}{self.target}"


def realm_may_see_credentials(registry: Endpoint, realm: Endpoint) -> bool:
    """Whether the credentials for ``registry`` may be sent to the token server ``realm``."""
    if registry.scheme == "https" and realm.scheme != "https":
        return False
    if registry.host == realm.host:
        return True
    if is_address(registry.host) or is_address(realm.host):
        return False
    mine = registrable_domain(registry.host)
    return mine is not None and mine == registrable_domain(realm.host)


def registrable_domain(host: str) -> str | None:
    """Return the domain that one party registered, or None for addresses, bare names and public suffixes."""
    labels = host.rstrip(".").lower().split(".")
    if is_address(host) or not all(labels):
        return None
    keep = _suffix_length(labels) + 1
    return ".".join(labels[-keep:]) if len(labels) >= keep else None


def _suffix_length(labels: list[str]) -> int:
    if len(labels) < 2:
        return 1
    last, second = labels[-1], labels[-2]
    if f"{second}.{last}" in _HOSTING_SUFFIXES:
        return 2
    is_country = len(last) == 2 or last.startswith("xn--")
    return 2 if is_country and (len(second) <= 2 or second in _GENERIC_SECOND) else 1


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address literal."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
