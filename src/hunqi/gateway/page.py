"""The page that says what is routed where, for those who may know: answered by the agent, so also without control.

Who asks shows a login of the cluster's accelerators (``hunqi token registry``) as user and password: control signed it,
with the apps that its owner has a role on, and it ends. It is asked for over TLS alone. Everybody else gets what every
unknown path gets.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from hunqi.apps.lanes import ALL_USERS
from hunqi.gateway.model import Route, RouteTable

LOGIN_PREFIX: Final = "hqr_"
_AUDIENCE: Final = "hunqi-mirror"
_ALL: Final = "*"
_LONGEST: Final = 8192
_CLAIMS: Final = ("exp", "sub", "grants")
_ASK: Final = {"www-authenticate": 'Basic realm="hunqi", charset="UTF-8"'}
_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to answer: status, headers, body."""

    status: int
    headers: Mapping[str, str]
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedRow:
    """One route as people read it."""

    app: str
    service: str
    url: str
    to: tuple[str, ...]
    """The Swarm services behind it with their share; empty while its requests are held."""


class RoutesPage:
    """Answers for one gateway by the table that it works by."""

    def __init__(self, key_file: Path | None, table: Callable[[], RouteTable | None]) -> None:
        """``key_file`` is the public key (PEM) by which logins are believed; without one nobody may know."""
        self._key_file = key_file
        self._table = table

    def answer(self, headers: Mapping[str, str]) -> Answer:
        """Answer a request by its headers (``x-forwarded-proto`` is the gateway's own word)."""
        table = self._table()
        if self._key_file is None or table is None or headers.get("x-forwarded-proto") != "https":
            return Answer(status=404, headers={})
        apps = self._apps_of(headers.get("authorization", ""))
        if apps is None:
            return Answer(status=401, headers=_ASK)
        rows = rows_of(table, apps)
        if "application/json" in headers.get("accept", ""):
            body = json.dumps({"routes": [_plain(each) for each in rows]}, indent=2) + "\n"
            return Answer(status=200, headers={**_HEADERS, "content-type": "application/json"}, body=body)
        return Answer(status=200, headers={**_HEADERS, "content-type": "text/html; charset=utf-8"}, body=page(rows))

    def _apps_of(self, authorization: str) -> frozenset[str] | None:
        """Return the apps that a login names, None for none that is good."""
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "basic" or len(text) > _LONGEST or self._key_file is None:
            return None
        try:
            password = base64.b64decode(text, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
        if not password.startswith(LOGIN_PREFIX):
            return None
        # Imported when somebody asks: both are heavy, and most gateways never are.
        import jwt
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            key: Any = load_pem_public_key(self._key_file.read_bytes())
            claims: dict[str, Any] = jwt.decode(
                password.removeprefix(LOGIN_PREFIX),
                key,
                algorithms=["EdDSA"],
                audience=_AUDIENCE,
                options={"require": list(_CLAIMS)},
            )
        except (jwt.PyJWTError, OSError, ValueError):
            return None
        # A service's login, which never ends, is refused for want of an end.
        return frozenset(str(grant).partition(":")[0] for grant in claims["grants"])


def rows_of(table: RouteTable, apps: frozenset[str]) -> list[RoutedRow]:
    """Return the routes of ``apps`` (``*`` is all), by where they are reached."""
    found = [
        RoutedRow(app=route.app, service=route.service, url=url, to=_behind(route, table))
        for route in table.routes
        if _ALL in apps or route.app in apps
        for url in _urls(route, table)
    ]
    return sorted(found, key=lambda row: (row.url, row.app, row.service))


def page(rows: list[RoutedRow]) -> str:
    """Return the page as HTML; everything in it is quoted."""
    cells = "".join(
        f"<tr><td>{_link(row.url)}</td><td>{html.escape(row.app)}</td><td>{html.escape(row.service)}</td>"
        f"<td>{html.escape(', '.join(row.to) or 'held until a task is healthy')}</td></tr>"
        for row in rows
    )
    listed = f"<table><tr><th>reached at</th><th>app</th><th>service</th><th>by</th></tr>{cells}</table>"
    return _PAGE.format(count=len(rows), listed=listed if rows else "<p>Nothing that you may see is routed here.</p>")


def _urls(route: Route, table: RouteTable) -> list[str]:
    spec = route.spec
    if spec.tcp_port is not None and not spec.hosts:
        return [f"{spec.protocol.value}://:{spec.tcp_port}"]
    scheme = "http" if spec.tls == "off" else "https"
    port = table.edge.http_port if scheme == "http" else table.edge.https_port
    shown = "" if port in {80, 443} else f":{port}"
    return [f"{scheme}://{host}{shown}{spec.path.removeprefix('=')}" for host in spec.hosts or (_ALL,)]


def _behind(route: Route, table: RouteTable) -> tuple[str, ...]:
    if route.lane:
        weight = next((each.weight for each in table.lanes if each.app == route.app), 0)
        said = f"lane {route.lane}: {weight / (ALL_USERS // 100):g} % of users"
        return tuple(f"{each} ({said})" for each in _behind(replace(route, lane=""), table) or ("held",))
    if route.maintenance is not None:
        return ("maintenance page",)
    if route.spec.redirect is not None:
        return (f"redirect to {route.spec.redirect}",)
    live = [each for each in route.targets if each.weight > 0]
    if len(live) == 1:
        return (live[0].cluster,)
    return tuple(f"{each.cluster} ({each.weight} %)" for each in live)


def _plain(row: RoutedRow) -> dict[str, Any]:
    return {"app": row.app, "service": row.service, "url": row.url, "to": list(row.to)}


def _link(url: str) -> str:
    text = html.escape(url)
    is_web = url.startswith(("http://", "https://")) and "*" not in url
    return f'<a href="{text}">{text}</a>' if is_web else text


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Routes</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 3rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere; }}
th {{ font-weight: 600; }}
</style></head><body><h1>What is routed here: {count}</h1>{listed}</body></html>
"""
