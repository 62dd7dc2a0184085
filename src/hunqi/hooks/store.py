"""Webhooks and what was delivered, in the database."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from sqlalchemy import delete, func, insert, select, update

from hunqi.apps.operations import Change
from hunqi.hooks.errors import HookNotFoundError, HookRefusedError
from hunqi.hooks.model import SECRET_PREFIX, Hook, HookDelivery
from hunqi.state.database import Database
from hunqi.state.events import append, now
from hunqi.state.tables import EVENTS, HOOK_DELIVERIES, HOOKS

MOST_HOOKS: Final = 20
"""Of one app."""
KEPT_DELIVERIES: Final = 200
"""Of one webhook."""
_KEY_BYTES: Final = 24


class Seal(Protocol):
    """Seals what is kept (``hunqi.state.sealing.Sealer`` is one)."""

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """Return ``plain`` sealed for ``context``."""
        ...

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Return what was sealed for ``context``."""
        ...


class HookStore:
    """The webhooks of one database."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def all(self) -> Sequence[Hook]:
        """Return every webhook."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(HOOKS).order_by(HOOKS.c.created_at, HOOKS.c.id))).mappings().all()
        return [_hook(row) for row in rows]

    async def of(self, app: str | None) -> Sequence[Hook]:
        """Return those of an app, or those of the whole cluster."""
        return [each for each in await self.all() if each.app == app]

    async def find(self, app: str | None, hook: str) -> Hook:
        """Return one. Raises ``HookNotFoundError``."""
        for each in await self.of(app):
            if each.id == hook:
                return each
        raise HookNotFoundError(f"there is no webhook {hook[:64]!r} here: hunqi hook ls lists them")

    async def key(self, hook: Hook) -> bytes:
        """Return what signs for ``hook``. Raises ``HookNotFoundError``, ``SealBrokenError``."""
        async with self._database.read() as connection:
            sealed = await connection.scalar(select(HOOKS.c.sealed).where(HOOKS.c.id == hook.id))
        if sealed is None:
            raise HookNotFoundError(f"the webhook {hook.id} is gone")
        return self._seal.open(sealed, context=_context(hook.id))

    async def add(self, app: str | None, url: str, kinds: Sequence[str], change: Change, *, trusted: bool) -> Hook:
        """Make one; its secret is in what is returned, and nowhere else. Raises ``HookRefusedError``."""
        _check(url, kinds)
        if len(await self.of(app)) >= MOST_HOOKS:
            raise HookRefusedError(f"there are {MOST_HOOKS} webhooks already: remove one first")
        key, made = secrets.token_bytes(_KEY_BYTES), secrets.token_hex(8)
        async with self._database.begin() as connection:
            told = int(await connection.scalar(select(func.max(EVENTS.c.seq))) or 0)
            row: dict[str, Any] = {
                "id": made,
                "app": app,
                "trusted": trusted,
                "url": url,
                "kinds": json.dumps(list(kinds)),
                "sealed": self._seal.seal(key, context=_context(made)),
                "told": told,
                "created_at": now(),
            }
            await connection.execute(insert(HOOKS).values(**row))
            await append(connection, "hook.added", actor=change.actor, app=app, subject=made, reason=change.reason)
        secret = SECRET_PREFIX + base64.b64encode(key).decode()
        return _hook({**row, "problem": None}, secret=secret)

    async def remove(self, app: str | None, hook: str, change: Change) -> None:
        """Forget one. Raises ``HookNotFoundError``."""
        found = await self.find(app, hook)
        async with self._database.begin() as connection:
            await connection.execute(delete(HOOKS).where(HOOKS.c.id == found.id))
            await append(connection, "hook.removed", actor=change.actor, app=app, subject=found.id)

    async def note(self, hook: str, delivery: HookDelivery, *, told: bool) -> None:
        """Record an attempt; ``told`` says that it is the last for its event."""
        async with self._database.begin() as connection:
            values: dict[str, Any] = {"problem": delivery.problem}
            if told:
                values["told"] = delivery.event
            changed = await connection.execute(update(HOOKS).where(HOOKS.c.id == hook).values(**values))
            if changed.rowcount:
                await connection.execute(insert(HOOK_DELIVERIES).values(hook=hook, **_row(delivery)))
                await connection.execute(_older(hook))

    async def record(self, hook: str, delivery: HookDelivery) -> None:
        """Record an attempt that is of no event of the log."""
        async with self._database.begin() as connection:
            await connection.execute(insert(HOOK_DELIVERIES).values(hook=hook, **_row(delivery)))

    async def skip(self, hook: str, told: int) -> None:
        """Record that nothing up to event ``told`` is for it."""
        async with self._database.begin() as connection:
            await connection.execute(update(HOOKS).where(HOOKS.c.id == hook).values(told=told))

    async def deliveries(self, app: str | None, hook: str, *, limit: int = 50) -> Sequence[HookDelivery]:
        """Return the last attempts, newest first. Raises ``HookNotFoundError``."""
        found = await self.find(app, hook)
        kept = HOOK_DELIVERIES.c
        query = select(HOOK_DELIVERIES).where(kept.hook == found.id).order_by(kept.seq.desc()).limit(limit)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [HookDelivery(**{name: row[name] for name in HookDelivery.__slots__}) for row in rows]


def _row(delivery: HookDelivery) -> dict[str, Any]:
    return {name: getattr(delivery, name) for name in HookDelivery.__slots__}


def _older(hook: str) -> Any:
    kept = HOOK_DELIVERIES.c
    newest = select(kept.seq).where(kept.hook == hook).order_by(kept.seq.desc()).limit(KEPT_DELIVERIES)
    return delete(HOOK_DELIVERIES).where(kept.hook == hook, kept.seq.not_in(newest.scalar_subquery()))


def _hook(row: Any, *, secret: str = "") -> Hook:
    return Hook(
        id=row["id"],
        app=row["app"],
        url=row["url"],
        kinds=tuple(json.loads(row["kinds"])),
        trusted=bool(row["trusted"]),
        told=row["told"],
        created_at=row["created_at"],
        problem=row["problem"],
        secret=secret,
    )


def _context(hook: str) -> str:
    return f"hook/{hook}"


def _check(url: str, kinds: Sequence[str]) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or len(url) > 2048 or any(each <= " " for each in url):
        raise HookRefusedError(f"{url[:100]!r} is no URL of a webhook: write https://example.com/path")
    if urlsplit(url).username or urlsplit(url).password:
        raise HookRefusedError("a URL with a password in it would be shown to others: check the signature instead")
    for each in kinds:
        if not each or len(each) > 48 or not all(part.isalnum() or part in ".-*?" for part in each):
            raise HookRefusedError(f"{each[:60]!r} is no kind of events: write rollout.aborted, or rollout.*")
