"""The daemon itself: its version, what it says of itself, its events, its disk."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from hunqi.engine import parse
from hunqi.engine.errors import EngineFailedError, UnsupportedError
from hunqi.engine.model import JSON, EngineInfo, Event
from hunqi.engine.transport import Body, Transport, filters

OLDEST: Final = (1, 41)
"""Docker 20.10, Debian 12's."""
NEWEST: Final = (1, 54)
EVENT_BYTES: Final = 1024 * 1024
_FIRST_ANSWER_S: Final = 10.0
_DISK_USAGE_S: Final = 120.0
"""Docker walks its volumes for this."""


class Events:
    """Events as they happen, pulled. A reader that is slow slows nobody: Docker keeps what fits the socket."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._rest = b""
        self._ready: list[Event] = []

    def __aiter__(self) -> Events:
        """Iterate over events as they come."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event. Raises ``EngineUnreachableError``, ``EngineFailedError``."""
        while not self._ready:
            data = await self._body.read()
            if not data:
                raise StopAsyncIteration
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > EVENT_BYTES:
                raise EngineFailedError("an event of Docker is larger than a MiB")
            self._ready += [_event(line) for line in lines if line.strip()]
        return self._ready.pop(0)


class System:
    """The daemon."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def ping(self) -> str:
        """Return the API version that the daemon answers with. Raises ``EngineUnreachableError``."""
        async with self._transport.stream("GET", "/_ping", timeout_s=_FIRST_ANSWER_S) as body:
            return body.headers.get("Api-Version", "")

    async def info(self) -> EngineInfo:
        """Return what the daemon says of itself."""
        return parse.engine_info(parse.fields(await self._transport.call("GET", "/info"), "info"))

    async def disk_usage(self) -> JSON:
        """Return the Engine API's own account; takes seconds.

        Lists in ``Images``, ``Containers``, ``Volumes`` up to API 1.52, sums in ``ImagesUsage``, … from 1.52 on.
        """
        return parse.fields(await self._transport.call("GET", "/system/df", timeout_s=_DISK_USAGE_S), "disk usage")

    @asynccontextmanager
    async def events(
        self, *, since_ns: int | None = None, until_ns: int | None = None, kinds: Iterable[str] | None = None
    ) -> AsyncGenerator[Events]:
        """Open the stream of events; ``since_ns`` replays what the daemon still has (its last 256)."""
        params = {"since": _seconds(since_ns), "until": _seconds(until_ns), "filters": filters(type=kinds)}
        async with self._transport.stream("GET", "/events", params=params, timeout_s=_FIRST_ANSWER_S) as body:
            yield Events(body)


def negotiate(offered: str) -> str:
    """Return the API version to speak: the daemon's, at most ``NEWEST``.

    Raises :class:`~hunqi.engine.errors.UnsupportedError` for a daemon that is older than ``OLDEST``.
    """
    try:
        major, minor = (int(part) for part in offered.split("."))
    except ValueError as error:
        raise UnsupportedError(
            f"Docker does not say its API version ({offered!r}); is this Docker's socket?"
        ) from error
    if (major, minor) < OLDEST:
        raise UnsupportedError(f"Docker's API is {offered}; Hunqi needs 1.41 (Docker 20.10) or newer: upgrade Docker")
    return ".".join(str(part) for part in min((major, minor), NEWEST))


def _seconds(time_ns: int | None) -> str | None:
    return None if time_ns is None else f"{time_ns // 10**9}.{time_ns % 10**9:09d}"


def _event(line: bytes) -> Event:
    try:
        data: Any = json.loads(line)
    except ValueError as error:
        raise EngineFailedError(f"an event of Docker is no JSON: {line[:200]!r}") from error
    return parse.event(parse.fields(data, "event"))
