"""A client of servers that answer Prometheus queries: Prometheus itself, Thanos, Mimir, VictoriaMetrics.

A query is to have one value. What is no value (nothing found, NaN) is never taken for zero: it is an error of its own,
told apart from a query that is wrong and from a server that is down.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import urlsplit

import aiohttp

from hunqi.telemetry.errors import NotMeasuredError, PromQueryError, PromUnavailableError, SourceError
from hunqi.telemetry.model import Point

CONNECT_S: Final = 5.0
ANSWER_S: Final = 15.0
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_POINTS: Final = 11_000
"""Prometheus' own limit of a range."""
_SAID: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where to ask. ``url`` may have a path, before ``/api/v1``; it never has a password in it."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca_pem: str | None = field(default=None, repr=False)


def check_url(url: str) -> str:
    """Return a server's URL without a slash at its end. Raises ``SourceError``."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SourceError(f"{url!r} is no URL") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise SourceError("write the URL of the server, such as http://prometheus.example.com:9090")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SourceError("the URL must have no user, password, query or fragment: give a token with --token-file")
    return url.rstrip("/")


def tls_context(ca_pem: str | None) -> ssl.SSLContext:
    """Return what a server's certificate is verified by. Raises ``SourceError``."""
    context = ssl.create_default_context()
    if ca_pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise SourceError("the certificate of the authority is no PEM") from error
    return context


class Prometheus:
    """One server; its session is made by whoever opens it, and is not closed here."""

    def __init__(self, session: aiohttp.ClientSession, server: Server, *, answer_s: float = ANSWER_S) -> None:
        self._session = session
        self._server = server
        self._url = check_url(server.url)
        self._tls = tls_context(server.ca_pem)
        self._answer_s = answer_s

    async def value(self, query: str, *, at: float | None = None) -> float:
        """Return the one value of a query at a moment, now without one.

        Raises ``PromQueryError``, ``NotMeasuredError`` and ``PromUnavailableError``.
        """
        form = {"query": query, **({"time": f"{at:.3f}"} if at is not None else {})}
        kind, result = await self._ask("query", form)
        match kind:
            case "scalar":
                found = result
            case "vector":
                found = _only(result, query).get("value")
            case _:
                raise PromQueryError(f"the query must have a number as its answer, not a {kind}: {_short(query)}")
        value = _number(found[1]) if isinstance(found, list) and len(found) == 2 else None  # pyright: ignore[reportUnknownArgumentType]  # of JSON
        if value is None:
            raise PromUnavailableError(f"{self._url} answered what cannot be read")
        if math.isnan(value):
            raise NotMeasuredError(f"the query has no value now (NaN): {_short(query)}")
        return value

    async def values(self, query: str, *, start: float, end: float, step_s: float) -> list[Point]:
        """Return the values of a query over a time, NaN left out. Raises as ``value``."""
        if end < start or step_s <= 0 or (end - start) / step_s > MOST_POINTS:
            raise PromQueryError(f"a range is of at most {MOST_POINTS} steps")
        form = {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_s:.3f}"}
        kind, result = await self._ask("query_range", form)
        if kind != "matrix":
            raise PromQueryError(f"the query has no values over time, but a {kind}: {_short(query)}")
        pairs: list[Any] = _only(result, query).get("values") or []
        read = [(pair[0], _number(pair[1])) for pair in pairs]
        points = [Point(at=float(at), value=value) for at, value in read if value is not None and not math.isnan(value)]
        if not points:
            raise NotMeasuredError(f"the query had no value in that time: {_short(query)}")
        return points

    async def _ask(self, what: str, form: Mapping[str, str]) -> tuple[str, Any]:
        """Return the kind of the answer and the answer."""
        headers = {"Accept": "application/json"}
        if self._server.token:
            headers["Authorization"] = f"Bearer {self._server.token}"
        timeout = aiohttp.ClientTimeout(total=self._answer_s, sock_connect=min(CONNECT_S, self._answer_s))
        try:
            async with self._session.post(
                f"{self._url}/api/v1/{what}",
                data=form,
                headers=headers,
                timeout=timeout,
                ssl=self._tls,
                allow_redirects=False,  # the token is for this server
            ) as answer:
                body = await _read(answer)
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            said = "it did not answer in time" if isinstance(error, TimeoutError) else str(error) or "it hung up"
            raise PromUnavailableError(f"{self._url} could not be asked: {said[:_SAID]}") from error
        return self._understand(status, body)

    def _understand(self, status: int, body: bytes) -> tuple[str, Any]:
        try:
            read: Any = json.loads(body)
        except ValueError:
            read = None
        if not isinstance(read, dict):
            raise PromUnavailableError(f"{self._url} answered {status}, and not as Prometheus does: is the URL right?")
        held = cast("dict[str, Any]", read)
        if held.get("status") == "error" or status >= 300:
            said = str(held.get("error") or f"status {status}")[:_SAID]
            if held.get("errorType") == "bad_data" or status == 400:
                raise PromQueryError(f"the server does not understand the query: {said}")
            raise PromUnavailableError(f"{self._url} could not answer: {said}")
        data: Any = held.get("data")
        if held.get("status") != "success" or not isinstance(data, dict):
            raise PromUnavailableError(f"{self._url} answered {status}, and not as Prometheus does: is the URL right?")
        answer = cast("dict[str, Any]", data)
        return str(answer.get("resultType")), answer.get("result")


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MOST_BYTES:
            raise PromQueryError(f"the answer has over {MOST_BYTES:,} bytes: ask for one value, as with sum(…)")
    return bytes(body)


def _only(result: Any, query: str) -> dict[str, Any]:
    """Return the one series of an answer."""
    found = cast("list[Any]", result) if isinstance(result, list) else []
    if not found:
        raise NotMeasuredError(f"the query finds nothing: {_short(query)}")
    if len(found) > 1:
        raise PromQueryError(f"the query finds {len(found)} series, and one is needed, as with sum(…): {_short(query)}")
    return cast("dict[str, Any]", found[0]) if isinstance(found[0], dict) else {}


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _short(query: str) -> str:
    return query if len(query) <= _SAID else f"{query[:_SAID]}…"
