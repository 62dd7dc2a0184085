"""The API, as the commands call it: the published client, opened for the context in use."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, TypeVar

import aiohttp

from hunqi.cli.cluster.contexts import Context, ContextError, effective
from hunqi.client.client import HunqiClient, open_client
from hunqi.client.errors import UnreachableError
from hunqi.client.paging import every
from hunqi.client.transport import Query, ServerEvent, path_of
from hunqi.errors import DependencyError

__all__ = ["Api", "ApiUnreachableError", "call_api", "open_api", "path_of"]
T = TypeVar("T")
Value = Any
"""Of a query: text, number, truth, or several texts."""


class ApiUnreachableError(DependencyError):
    """The API does not answer; the message says where it was looked for, and what to do."""

    code: ClassVar[str] = "cli.api-unreachable"


class Api:
    """One Hunqi. Every method raises the client's errors."""

    def __init__(self, client: HunqiClient) -> None:
        self.client = client
        self._transport = client.transport

    async def get(self, path: str, **query: Value) -> Any:
        """Return an answer."""
        return await self._transport.ask("GET", path, query=query)

    async def post(self, path: str, body: object = None) -> Any:
        """Send a change and return the answer."""
        return await self._transport.ask("POST", path, body={} if body is None else body)

    async def put(self, path: str, body: object) -> Any:
        """Send a whole and return the answer."""
        return await self._transport.ask("PUT", path, body=body)

    async def patch(self, path: str, body: object) -> Any:
        """Send a part and return the answer."""
        return await self._transport.ask("PATCH", path, body=body)

    async def delete(self, path: str, **query: Value) -> Any:
        """Remove."""
        return await self._transport.ask("DELETE", path, query=query)

    async def items(self, path: str, **query: Value) -> list[Any]:
        """Return a list, all its pages."""
        return [item async for item in every(self._transport, path, {**query, "limit": 200})]

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, query: Query, data: AsyncIterator[bytes] | None = None
    ) -> AsyncGenerator[aiohttp.StreamReader]:
        """Open an answer that is read as it comes, or a body that is sent so."""
        async with self._transport.open(method, path, query=query, data=data, silence_s=0) as answer:
            yield answer.content

    def lines(self, path: str, **query: Value) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Open a stream of JSON lines."""
        return self._transport.lines(path, query=query)

    def events(self, path: str, **query: Value) -> AbstractAsyncContextManager[AsyncIterator[ServerEvent]]:
        """Open a stream of server-sent events."""
        return self._transport.events(path, query=query)

    def socket(self, path: str, **query: Value) -> AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket."""
        return self._transport.socket(path, query=query)


@asynccontextmanager
async def open_api(context: Context) -> AsyncGenerator[Api]:
    """Open the API of ``context``; nothing is asked yet."""
    async with open_client(context.urls, token=context.token, tls=_tls(context)) as client:
        yield Api(client)


def call_api(work: Callable[[Api], Coroutine[Any, Any, T]], *, context: Context | None = None) -> T:
    """Run ``work`` with the API of the context in use; Ctrl-C ends it cleanly."""
    chosen = context or effective()

    async def within() -> T:
        async with open_api(chosen) as api:
            return await work(api)

    try:
        try:
            return asyncio.run(within())
        except BaseExceptionGroup as group:
            raise _first(group) from group
    except UnreachableError as error:
        raise ApiUnreachableError(
            f"{error}\n"
            "  it runs on this machine?  hunqi status, hunqi up\n"
            "  it is another one?        hunqi login --url URL (or HUNQI_URL)"
        ) from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group of tasks: the others ended because of it."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first  # pyright: ignore[reportUnknownArgumentType]  # of whatever


def _tls(context: Context) -> ssl.SSLContext | None:
    if not any(url.startswith("https:") for url in context.urls):
        return None
    made = ssl.create_default_context()
    if context.ca_file:
        try:
            made.load_verify_locations(cafile=context.ca_file)
        except OSError as error:
            raise ContextError(f"{context.ca_file} cannot be used as an authority: {error}") from error
    return made
