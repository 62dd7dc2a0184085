"""The API, as the commands call it: JSON with a deadline, lists page by page, streams, WebSockets.

Problems of the API become :class:`ApiError` with its code; their remedy stands in the message.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar, cast
from urllib.parse import quote

import aiohttp

from hunqi.cli.cluster.contexts import Context, effective
from hunqi.errors import DependencyError, UserError

T = TypeVar("T")
JSON = Mapping[str, Any]
Value = str | int | bool | Sequence[str] | None
Query = Mapping[str, Value]
CALL_S: Final = 60.0
CONNECT_S: Final = 10.0
SILENCE_S: Final = 60.0
"""Streams of events are never silent for longer: they have heartbeats."""
_LINE_BYTES: Final = 1024 * 1024


class ApiError(UserError):
    """The API refused. ``status`` is HTTP's; ``problem`` is all that it said."""

    code: ClassVar[str] = "cli.api"

    def __init__(self, status: int, problem: JSON) -> None:
        self.status, self.problem = status, problem
        self.kind = str(problem.get("code") or "")
        detail = str(problem.get("detail") or problem.get("title") or f"the API answered {status}")
        remedy = problem.get("remedy")
        super().__init__(f"{detail}\n  → {remedy}" if remedy else detail)


class ApiUnreachableError(DependencyError):
    """The API does not answer; the message says where it was looked for."""

    code: ClassVar[str] = "cli.api-unreachable"


class NotLoggedInError(UserError):
    """There is no token for this Hunqi."""

    code: ClassVar[str] = "cli.not-logged-in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A server-sent event."""

    kind: str
    data: Any
    id: str = ""


def path_of(*parts: str | int) -> str:
    """Return ``/v1/…`` of ``parts``, each quoted whole."""
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


class Api:
    """One Hunqi. Use as ``async with Api(context) as api``."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._session: aiohttp.ClientSession | None = None
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Api:
        """Open; nothing is asked yet."""
        headers = {"Accept": "application/json"}
        if self.context.token:
            headers["Authorization"] = f"Bearer {self.context.token}"
        connector = aiohttp.TCPConnector(ssl=_tls(self.context))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        jar = aiohttp.CookieJar(unsafe=True)  # an address instead of a name keeps its cookie too
        self._session = aiohttp.ClientSession(
            base_url=self.context.url, headers=headers, connector=connector, timeout=timeout, cookie_jar=jar
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **query: Value) -> Any:
        """Return an answer."""
        return await self.call("GET", path, query=query)

    async def post(self, path: str, body: object = None) -> Any:
        """Send a change and return the answer."""
        return await self.call("POST", path, body={} if body is None else body)

    async def put(self, path: str, body: object) -> Any:
        """Send a whole and return the answer."""
        return await self.call("PUT", path, body=body)

    async def patch(self, path: str, body: object) -> Any:
        """Send a part and return the answer."""
        return await self.call("PATCH", path, body=body)

    async def delete(self, path: str, **query: Value) -> Any:
        """Remove."""
        return await self.call("DELETE", path, query=query)

    async def call(self, method: str, path: str, *, body: object = None, query: Query | None = None) -> Any:
        """Return the JSON of an answer, None where it is empty.

        Raises :class:`ApiError`, :class:`ApiUnreachableError`, :class:`NotLoggedInError`.
        """
        try:
            async with asyncio.timeout(CALL_S):
                async with self._open().request(
                    method, path, json=body, params=_params(query), headers=self.headers
                ) as answer:
                    await self._check(answer)
                    text = await answer.text()
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error
        return json.loads(text) if text.strip() else None

    async def items(self, path: str, **query: Value) -> list[Any]:
        """Return a list, all its pages."""
        found: list[Any] = []
        cursor: str | None = None
        while True:
            page = await self.get(path, **query, limit=200, cursor=cursor)
            found += page["items"]
            cursor = page.get("next")
            if not cursor:
                return found

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, query: Query | None = None, data: Any = None, silence_s: float | None = None
    ) -> AsyncGenerator[aiohttp.StreamReader]:
        """Open an answer that is read as it comes; ``silence_s`` is the longest pause in it."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)
        try:
            async with self._open().request(
                method,
                path,
                params=_params(query),
                data=data,
                headers=self.headers,
                timeout=timeout,
                read_bufsize=_LINE_BYTES,
            ) as answer:
                await self._check(answer)
                yield answer.content
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    @asynccontextmanager
    async def lines(self, path: str, **query: Value) -> AsyncGenerator[AsyncIterator[Any]]:
        """Open a stream of JSON lines."""
        async with self.stream("GET", path, query=query) as content:
            yield _lines(content)

    @asynccontextmanager
    async def events(self, path: str, *, last: str = "", **query: Value) -> AsyncGenerator[AsyncIterator[Event]]:
        """Open a stream of server-sent events, those after the one with the id ``last``."""
        self.headers = {"Last-Event-ID": last} if last else {}
        async with self.stream("GET", path, query=query, silence_s=SILENCE_S) as content:
            yield _events(content)

    @asynccontextmanager
    async def socket(self, path: str, **query: Value) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket."""
        try:
            async with self._open().ws_connect(path, params=_params(query), headers=self.headers) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            if error.status == 401:
                raise self._not_logged_in() from error
            raise ApiError(error.status, {"detail": f"the API refused the connection ({error.status})"}) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    async def _check(self, answer: aiohttp.ClientResponse) -> None:
        if answer.status < 400:
            return
        text = await answer.text()
        try:
            problem: Any = json.loads(text)
        except ValueError:
            problem = {"detail": f"the API answered {answer.status}: {text.strip()[:200]}"}
        if answer.status == 401 and not self.context.token and problem.get("code") in {None, "auth.required"}:
            raise self._not_logged_in()
        raise ApiError(answer.status, cast("JSON", problem) if isinstance(problem, dict) else {})

    def _not_logged_in(self) -> NotLoggedInError:
        return NotLoggedInError(f"you are not logged in at {self.context.url}: hunqi login")

    def _unreachable(self, error: Exception) -> ApiUnreachableError:
        reason = str(error) or type(error).__name__
        return ApiUnreachableError(
            f"no Hunqi answers at {self.context.url} ({reason})\n"
            "  it runs on this machine?  hunqi status, hunqi up\n"
            "  it is another one?        hunqi login --url URL (or HUNQI_URL)"
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the API is used before it is opened")
        return self._session


def call_api(work: Callable[[Api], Coroutine[Any, Any, T]], *, context: Context | None = None) -> T:
    """Run ``work`` with the API of the context in use; Ctrl-C ends it cleanly."""

    async def within() -> T:
        async with Api(context or effective()) as api:
            return await work(api)

    return asyncio.run(within())


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[Any]:
    async for line in content:
        if line.strip():
            yield json.loads(line)


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[Event]:
    """Parse an event stream (HTML standard, 9.2.6)."""
    kind, number, data = "message", "", list[str]()
    async for raw in content:
        line = raw.decode(errors="replace").rstrip("\r\n")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event(kind=kind, data=json.loads("\n".join(data)), id=number)
            kind, data = "message", []
        elif name == "event":
            kind = value
        elif name == "id":
            number = value
        elif name == "data":
            data.append(value)


def _params(query: Query | None) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in (query or {}).items():
        match value:
            case None | False:
                pass
            case True:
                pairs.append((name, "true"))
            case str() | int():
                pairs.append((name, str(value)))
            case _:
                pairs += [(name, each) for each in value]
    return pairs


def _tls(context: Context) -> ssl.SSLContext | bool:
    if not context.url.startswith("https:"):
        return True
    made = ssl.create_default_context()
    if context.ca_file:
        made.load_verify_locations(cafile=context.ca_file)
    return made
