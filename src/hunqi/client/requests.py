"""What the gateways answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from hunqi.client.transport import Transport, path_of


class RequestLine(TypedDict):
    """A request that a gateway answered. `written` orders them; `flags` and `detail` are Envoy's words."""

    written: str
    at: str
    node: str
    app: str
    service: str
    revision: int | None
    task: str
    kind: str
    client: str
    method: str
    host: str
    path: str
    protocol: str
    status: int
    flags: str
    detail: str
    duration_ms: int
    task_ms: int | None
    attempts: int
    received_bytes: int
    sent_bytes: int
    request_id: str
    user_agent: str


class Requests:
    """The access log of an app."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @asynccontextmanager
    async def last(
        self,
        app: str,
        *,
        service: str = "",
        revision: int | None = None,
        status: str = "",
        limit: int = 100,
        follow: bool = False,
    ) -> AsyncGenerator[AsyncIterator[RequestLine]]:
        """Open the last requests; ``status`` is one (``404``) or a class (``5xx``)."""
        query = {"service": service, "revision": revision, "status": status, "limit": limit, "follow": follow}
        async with self._transport.lines(path_of("apps", app, "requests"), query=query) as lines:
            yield lines
