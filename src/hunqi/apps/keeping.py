"""What is kept for an app beside its file: variables, secrets and routes, sealed where they are secret."""

from __future__ import annotations

import hashlib
import secrets as random_source
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.apps.model import RouteSpec
from hunqi.apps.operations import Change
from hunqi.apps.overlay import KeptRoute, Overlay
from hunqi.apps.ports import Seal
from hunqi.apps.store import text_of
from hunqi.kit.codec import dumps, loads
from hunqi.state.database import Database
from hunqi.state.events import append
from hunqi.state.tables import ROUTES, VARIABLES

ENVIRONMENT: Final = "env"
SECRET: Final = "secret"  # noqa: S105 - the name of a kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A kept variable or secret."""

    name: str
    value: bytes
    version: int
    updated_at: datetime


def _context(app: str, kind: str, name: str) -> str:
    return f"variable/{app}/{kind}/{name}"


class Keeping:
    """The tables of what is kept. ``clock`` gives seconds since the epoch."""

    def __init__(self, database: Database, seal: Seal, *, clock: Callable[[], float]) -> None:
        self._database: Final = database
        self._seal = seal
        self._clock = clock

    async def overlay(self, app: str) -> Overlay:
        """Return all that is kept of ``app``; of one that is not there, nothing."""
        environment = await self.variables(app, ENVIRONMENT)
        kept = await self.variables(app, SECRET)
        return Overlay(
            environment={each.name: each.value.decode() for each in environment},
            secrets={each.name: hashlib.sha256(each.value).hexdigest() for each in kept},
            routes=tuple(await self.routes(app)),
        )

    async def secret_values(self, app: str) -> dict[str, bytes]:
        """Return the values of kept secrets by digest."""
        return {hashlib.sha256(each.value).hexdigest(): each.value for each in await self.variables(app, SECRET)}

    async def variables(self, app: str, kind: str) -> list[Variable]:
        """Return variables or secrets, by name, with their values."""
        query = select(VARIABLES).where(VARIABLES.c.app == app, VARIABLES.c.kind == kind).order_by(VARIABLES.c.name)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [
            Variable(
                name=row["name"],
                value=self._seal.open(row["sealed"], context=_context(app, kind, row["name"])),
                version=row["version"],
                updated_at=datetime.fromisoformat(row["updated_at"]),
            )
            for row in rows
        ]

    async def put(self, app: str, kind: str, name: str, value: bytes, change: Change) -> None:
        """Keep a value; one of this name is replaced and its version raised."""
        sealed = self._seal.seal(value, context=_context(app, kind, name))
        key = (VARIABLES.c.app == app) & (VARIABLES.c.kind == kind) & (VARIABLES.c.name == name)
        async with self._database.begin() as connection:
            changed = await connection.execute(
                update(VARIABLES)
                .where(key)
                .values(sealed=sealed, version=VARIABLES.c.version + 1, updated_at=self._now())
            )
            if changed.rowcount == 0:
                await connection.execute(
                    insert(VARIABLES).values(
                        app=app, kind=kind, name=name, sealed=sealed, version=1, updated_at=self._now()
                    )
                )
            await self._event(connection, f"{kind}.set", app, name, change)

    async def forget(self, app: str, kind: str, name: str, change: Change) -> bool:
        """Forget one; say whether it was there."""
        key = (VARIABLES.c.app == app) & (VARIABLES.c.kind == kind) & (VARIABLES.c.name == name)
        async with self._database.begin() as connection:
            gone = (await connection.execute(delete(VARIABLES).where(key))).rowcount > 0
            if gone:
                await self._event(connection, f"{kind}.removed", app, name, change)
        return gone

    async def routes(self, app: str) -> Sequence[KeptRoute]:
        """Return the kept routes, oldest first."""
        query = select(ROUTES).where(ROUTES.c.app == app).order_by(ROUTES.c.created_at, ROUTES.c.id)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [KeptRoute(id=row["id"], service=row["service"], spec=loads(RouteSpec, row["spec"])) for row in rows]

    async def add_route(self, app: str, service: str, spec: RouteSpec, change: Change) -> KeptRoute:
        """Keep a route."""
        route = KeptRoute(id=random_source.token_hex(6), service=service, spec=spec)
        async with self._database.begin() as connection:
            await connection.execute(
                insert(ROUTES).values(id=route.id, app=app, service=service, spec=dumps(spec), created_at=self._now())
            )
            await self._event(connection, "route.added", app, route.id, change)
        return route

    async def remove_route(self, app: str, route: str, change: Change) -> bool:
        """Forget a kept route; say whether it was there."""
        async with self._database.begin() as connection:
            gone = await connection.execute(delete(ROUTES).where(ROUTES.c.app == app, ROUTES.c.id == route))
            if gone.rowcount:
                await self._event(connection, "route.removed", app, route, change)
        return gone.rowcount > 0

    async def _event(self, connection: AsyncConnection, kind: str, app: str, subject: str, change: Change) -> None:
        await append(connection, kind, app=app, subject=subject, actor=change.actor, reason=change.reason)

    def _now(self) -> str:
        return text_of(datetime.fromtimestamp(self._clock(), UTC))
