"""What every request meets first: limits on bodies, and headers that keep browsers from doing harm with answers."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hunqi.api.errors import BodyTooLargeError
from hunqi.api.problems import answer

BODY_BYTES: Final = 2 * 1024 * 1024
PROJECT_BYTES: Final = 32 * 1024 * 1024
FILES_BYTES: Final = 16 * 1024 * 1024 * 1024
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Limits:
    """Refuses bodies that are too large, before or while they come; adds the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit(scope["path"])
        counted = _Counted(receive, limit)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = {name.lower() for name, _ in message["headers"]}
                more = [(name, value) for name, value in _HEADERS if name not in kept]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        if _announced(scope) > limit:
            await answer(_too_large(limit))(scope, receive, with_headers)
            return
        await self._app(scope, counted, with_headers)


class _Counted:
    """Receives, and counts what it receives."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            raise _too_large(self._limit)
        return message


def _limit(path: str) -> int:
    match path.rpartition("/")[2]:
        case "deploys" | "check":
            return PROJECT_BYTES
        case "files":
            return FILES_BYTES
        case _:
            return BODY_BYTES


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than the {limit // 1024} KiB that are taken here")
