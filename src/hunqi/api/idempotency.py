"""Idempotency-Key: a POST that is sent again with the same key is answered as it was the first time, and done once.

Keys are the caller's own and are kept for a day. Answers that show a secret are never kept, so routes that give one do
not take keys. What failed on our side is not kept either: it may be tried again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import delete, insert, select, update

from hunqi.api.errors import IdempotencyBusyError, IdempotencyError, RequestInvalidError
from hunqi.identity.model import ANONYMOUS, Actor, ActorKind
from hunqi.state.database import Database
from hunqi.state.events import now
from hunqi.state.tables import IDEMPOTENCY

HEADER: Final = "Idempotency-Key"
KEPT_HOURS: Final = 24
ABANDONED_MINUTES: Final = 5
"""After this long without an answer the process that began the request is taken for dead."""
_MAX_KEY: Final = 128
_MAX_BODY: Final = 256 * 1024
NOT_KEPT: Final = "x-hunqi-shows-secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer given before."""

    status: int
    body: str


class IdempotencyKeys:
    """The keys of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, key: str, actor: str, request_hash: str) -> Kept | None:
        """Begin the request, or return how it was answered. Raises ``IdempotencyError``, ``IdempotencyBusyError``."""
        mine = (IDEMPOTENCY.c.key == key) & (IDEMPOTENCY.c.actor == actor)
        async with self._database.begin() as connection:
            await connection.execute(delete(IDEMPOTENCY).where(IDEMPOTENCY.c.created_at < _ago(hours=KEPT_HOURS)))
            row = (await connection.execute(select(IDEMPOTENCY).where(mine))).first()
            if row is None:
                values = {"key": key, "actor": actor, "request_hash": request_hash, "created_at": now()}
                await connection.execute(insert(IDEMPOTENCY).values(**values))
                return None
            if row.request_hash != request_hash:
                raise IdempotencyError("this Idempotency-Key was used for another request: take a new one")
            if row.status is not None:
                return Kept(status=row.status, body=row.body or "")
            if row.created_at > _ago(minutes=ABANDONED_MINUTES):
                raise IdempotencyBusyError("the first request with this Idempotency-Key has not ended yet")
            await connection.execute(update(IDEMPOTENCY).where(mine).values(created_at=now()))
            return None

    async def keep(self, key: str, actor: str, answer: Kept | None) -> None:
        """Keep the answer, or (None) forget that the request was begun."""
        mine = (IDEMPOTENCY.c.key == key) & (IDEMPOTENCY.c.actor == actor)
        async with self._database.begin() as connection:
            if answer is None:
                await connection.execute(delete(IDEMPOTENCY).where(mine))
            else:
                await connection.execute(update(IDEMPOTENCY).where(mine).values(status=answer.status, body=answer.body))


class IdempotentRoute(APIRoute):
    """A route that heeds the key on POST."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the keys before it."""
        inner = super().get_route_handler()
        takes_keys = "POST" in (self.methods or ()) and not (self.openapi_extra or {}).get(NOT_KEPT)

        async def handle(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if key is None or not takes_keys:
                return await inner(request)
            return await _once(request, key, inner)

        return handle


async def _once(request: Request, key: str, inner: Callable[[Request], Coroutine[Any, Any, Response]]) -> Response:
    if not 1 <= len(key) <= _MAX_KEY or not key.isascii():
        raise RequestInvalidError([{"where": f"header.{HEADER}", "message": f"1 to {_MAX_KEY} ASCII characters"}])
    caller = await request.app.state.access.caller(request)
    if caller is ANONYMOUS:
        return await inner(request)
    keys: IdempotencyKeys = request.app.state.idempotency
    target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    request_hash = hashlib.sha256(target + await request.body()).hexdigest()
    owner = _owner(caller)
    kept = await keys.claim(key, owner, request_hash)
    if kept is not None:
        headers = {"Idempotency-Replayed": "true"}
        return Response(kept.body, status_code=kept.status, media_type="application/json", headers=headers)
    answer: Kept | None = None
    try:
        response = await inner(request)
        answer = _kept(response)
    finally:
        await keys.keep(key, owner, answer)
    return response


def _owner(caller: Actor) -> str:
    """Return whose the keys are: machine tokens of two teams may have one name."""
    return f"machine:{caller.token}" if caller.kind is ActorKind.MACHINE else caller.label


def _kept(response: Response) -> Kept | None:
    body = getattr(response, "body", None)
    if response.status_code >= 300 or not isinstance(body, bytes) or len(body) > _MAX_BODY:
        return None
    try:
        json.loads(body or b"null")
    except ValueError:
        return None
    return Kept(status=response.status_code, body=body.decode())


def _ago(*, hours: int = 0, minutes: int = 0) -> str:
    moment = datetime.now(UTC) - timedelta(hours=hours, minutes=minutes)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
