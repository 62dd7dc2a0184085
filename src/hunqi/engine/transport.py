"""HTTP to one Docker daemon: calls with a deadline, streams without one, and duplex connections.

Foreign errors end here: whatever aiohttp or the socket raises becomes an error of :mod:`hunqi.engine.errors`, in the
middle of a stream too. Docker's API has few codes of its own, so some decisions rest on its wording (``_WORDS``); each
phrase was seen from a real daemon.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from hunqi.engine.address import Address
from hunqi.engine.duplex import Duplex, open_duplex
from hunqi.engine.errors import (
    ConflictError,
    EngineFailedError,
    EngineRefusedError,
    EngineUnreachableError,
    InUseError,
    NotFoundError,
    NotManagerError,
)
from hunqi.engine.model import JSON, RegistryAuth

CONNECT_TIMEOUT_S: Final = 5.0
CALL_TIMEOUT_S: Final = 30.0
_UNREACHABLE: Final = (aiohttp.ClientError, TimeoutError, OSError)
_WORDS: Final[tuple[tuple[str, type[Exception]], ...]] = (
    ("update out of sequence", ConflictError),
    ("not a swarm manager", NotManagerError),
    ("swarm does not have a leader", NotManagerError),
    ("not part of a swarm", NotManagerError),
    ("context deadline exceeded", NotManagerError),
    ("is in use", InUseError),
    ("has active endpoints", InUseError),
    ("using its referenced image", InUseError),
    ("already exists", ConflictError),
    ("already part of a swarm", ConflictError),
    ("is not connected to", NotFoundError),
)
_LOST_NETWORK: Final = re.compile(r"network \S+ not found")
"""A service on a network that is not there: a 500 in Docker 20.10."""
_STATUS: Final[Mapping[int, type[Exception]]] = {
    400: EngineRefusedError,
    403: EngineRefusedError,
    404: NotFoundError,
    406: EngineRefusedError,
    409: ConflictError,
}
Params = Mapping[str, str | int | bool | None]


class Body:
    """The bytes of an answer, pulled piece by piece; errors are the engine's own."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def __aiter__(self) -> Body:
        """Iterate over the pieces as they arrive."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece; ends with the answer."""
        data = await self.read()
        if not data:
            raise StopAsyncIteration
        return data

    async def read(self) -> bytes:
        """Return what has arrived, at least a byte; empty at the end. Raises ``EngineUnreachableError``."""
        try:
            return await self._response.content.readany()
        except _UNREACHABLE as error:
            raise EngineUnreachableError(f"Docker cut the stream: {error!r}") from error

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers."""
        return self._response.headers


class Transport:
    """Connections to one daemon. ``version`` stands before every path once it has been negotiated."""

    def __init__(self, address: Address, *, call_timeout_s: float = CALL_TIMEOUT_S) -> None:
        self.address: Final = address
        self.version = ""
        self._call_timeout_s = call_timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool of connections; connects to nothing yet."""
        path = self.address.path
        # Event and log streams hold connections, so the pool is not bounded here: what the daemon answers is.
        connector = aiohttp.UnixConnector(path, limit=0) if path else aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: JSON | AsyncIterable[bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Send a request and return the JSON of the answer, None where it is empty.

        Raises the errors of :mod:`hunqi.engine.errors`; ``EngineUnreachableError`` past ``timeout_s``.
        """
        try:
            async with asyncio.timeout(timeout_s or self._call_timeout_s):
                response = await self._send(method, path, params=params, body=body, headers=headers)
                async with response:
                    return _parse(await response.read(), path)
        except _UNREACHABLE as error:
            raise self._unreachable(f"{method} {path}", error) from error

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: JSON | AsyncIterable[bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Body]:
        """Send a request and give the body of its answer; ``timeout_s`` is for the headers only."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._send(method, path, params=params, body=body, headers=headers)
        except _UNREACHABLE as error:
            raise self._unreachable(f"{method} {path}", error) from error
        try:
            yield Body(response)
        finally:
            # What is left of a stream is not read: the connection goes with it.
            response.close()

    @asynccontextmanager
    async def duplex(
        self, path: str, *, params: Params | None = None, body: JSON | None = None, tty: bool
    ) -> AsyncGenerator[Duplex]:
        """POST and take the connection over in both directions."""
        target = self._target(path) + _query(params)
        try:
            status, answer, duplex = await open_duplex(
                self.address, target, body or {}, tty=tty, timeout_s=self._call_timeout_s
            )
        except _UNREACHABLE as error:
            raise self._unreachable(f"POST {path}", error) from error
        try:
            if status not in {101, 200}:
                raise _translate(status, answer, f"POST {path}")
            yield duplex
        finally:
            await duplex.close()

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None,
        body: JSON | AsyncIterable[bytes] | bytes | None,
        headers: Mapping[str, str] | None,
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise EngineUnreachableError("the connection to Docker is closed")
        sent = dict(headers or {})
        data: Any = body  # aiohttp takes bytes and async iterables as they are
        if isinstance(body, Mapping):
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        elif body is not None:
            sent.setdefault("Content-Type", "application/x-tar")
        base = "http://docker" if self.address.path else f"http://{self.address.host}:{self.address.port}"
        url = URL(base + self._target(path) + _query(params), encoded=True)
        response = await self._session.request(method, url, data=data, headers=sent)
        if response.status >= 400:
            async with response:
                raise _translate(response.status, await response.read(), f"{method} {path}")
        return response

    def _target(self, path: str) -> str:
        return f"/v{self.version}{path}" if self.version else path

    def _unreachable(self, what: str, error: BaseException) -> EngineUnreachableError:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
        return EngineUnreachableError(f"Docker at {self.address} does not answer ({what}: {why}); is it running?")


def quoted(name: str) -> str:
    """Return a name or an id as one component of a path: nothing in it can leave the component."""
    if name in {"", ".", ".."}:
        raise EngineRefusedError(f"{name!r} names nothing in Docker")
    return quote(name, safe=":")


def filters(**values: Iterable[str] | None) -> str | None:
    """Return the ``filters`` parameter of a list; a filter without values is left out."""
    given = {key.replace("_", "-"): list(value) for key, value in values.items() if value is not None}
    return json.dumps(given) if given else None


def labelled(labels: Mapping[str, str] | None) -> list[str] | None:
    """Return labels as a filter's values; an empty value asks for the key only."""
    return [f"{key}={value}" if value else key for key, value in labels.items()] if labels else None


def auth_headers(auth: RegistryAuth | None) -> dict[str, str]:
    """Return the header in which a registry's login travels."""
    if auth is None:
        return {}
    login = {"username": auth.username, "password": auth.password, "serveraddress": auth.server}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(login).encode()).decode()}


def _query(params: Params | None) -> str:
    pairs: list[tuple[str, str]] = []
    for key, value in (params or {}).items():
        if value is None:
            continue
        pairs.append((key, str(int(value)) if isinstance(value, bool) else str(value)))
    return "?" + urlencode(pairs) if pairs else ""


def _parse(data: bytes, path: str) -> Any:
    if not data.strip():
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise EngineFailedError(f"Docker's answer to {path} is no JSON: {data[:200]!r}") from error


def _translate(status: int, data: bytes, what: str) -> Exception:
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data[:500].decode(errors="replace").strip() or "no reason given"
    lowered = message.lower()
    kind = next((kind for words, kind in _WORDS if words in lowered), None) or _STATUS.get(status, EngineFailedError)
    if kind is EngineFailedError and _LOST_NETWORK.fullmatch(lowered):
        kind = NotFoundError
    return kind(f"Docker refused {what} ({status}): {message}")
