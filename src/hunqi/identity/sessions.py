"""Sessions of browsers, and who a request's credentials are: the one place where a secret becomes an actor."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.errors import DependencyError
from hunqi.identity.attempts import Attempts
from hunqi.identity.errors import NotAuthenticatedError, WrongPasswordError
from hunqi.identity.model import FULL, Actor, ActorKind, Role, Scope
from hunqi.identity.secrets import SESSION_PREFIX, TOKEN_PREFIX, hash_secret, new_secret
from hunqi.identity.users import Users, UserView
from hunqi.state.database import Database
from hunqi.state.events import append
from hunqi.state.tables import GRANTS, MEMBERS, SESSIONS, TOKENS, USERS

SESSION_HOURS: Final = 12
_USED_EVERY_S: Final = 60.0
"""How exactly the last use of a token is kept."""
_USED_KEPT: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser's session; ``secret`` is its cookie, ``csrf`` goes into a header with each change."""

    actor: Actor
    csrf: str = field(repr=False)
    secret: str = field(repr=False, default="")
    expires_at: str = ""


class Authenticator:
    """Turns credentials into actors."""

    def __init__(
        self, database: Database, users: Users, *, attempts: Attempts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._database = database
        self._users = users
        self._attempts = attempts or Attempts()
        self._clock = clock
        self._used: dict[str, float] = {}

    async def log_in(self, name: str, password: str, *, address: str) -> Session:
        """Begin a session. Raises ``WrongPasswordError``, ``TooManyAttemptsError`` and ``PasswordBusyError``."""
        user = await self.confirm(name, password, address=address)
        secret, csrf = new_secret(SESSION_PREFIX), new_secret("")
        began = datetime.now(UTC)
        values = {
            "secret_hash": hash_secret(secret),
            "user_id": user.id,
            "csrf": csrf,
            "created_at": _text(began),
            "expires_at": _text(began + timedelta(hours=SESSION_HOURS)),
        }
        async with self._database.begin() as connection:
            await connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_at < _text(began)))
            await connection.execute(insert(SESSIONS).values(**values))
            await append(connection, "user.logged-in", actor=user.name, subject=user.name)
            actor = await _user_actor(connection, user.id, scope=FULL)
        if actor is None:
            raise WrongPasswordError("the name or the password is wrong")
        return Session(actor=actor, csrf=csrf, secret=secret, expires_at=values["expires_at"])

    async def confirm(self, name: str, password: str, *, address: str) -> UserView:
        """Return the user whose password it is. Raises as :meth:`log_in`."""
        self._attempts.check(name, address)
        user = await self._users.check_password(name, password)
        if user is None:
            self._attempts.failed(name, address)
            raise WrongPasswordError("the name or the password is wrong")
        self._attempts.succeeded(name, address)
        return user

    async def log_out(self, secret: str) -> None:
        """End the session, if there is one."""
        async with self._database.begin() as connection:
            await connection.execute(delete(SESSIONS).where(SESSIONS.c.secret_hash == hash_secret(secret)))

    async def session(self, secret: str) -> Session:
        """Return the session of a cookie. Raises ``NotAuthenticatedError``."""
        query = select(SESSIONS).where(
            SESSIONS.c.secret_hash == hash_secret(secret), SESSIONS.c.expires_at > _text(datetime.now(UTC))
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
            actor = None if row is None else await _user_actor(connection, row.user_id, scope=FULL)
        if row is None or actor is None:
            raise NotAuthenticatedError("the session has ended: log in again")
        return Session(actor=actor, csrf=row.csrf, expires_at=row.expires_at)

    async def token(self, secret: str) -> Actor:
        """Return whose token it is. Raises ``NotAuthenticatedError``."""
        if not secret.startswith(TOKEN_PREFIX):
            raise NotAuthenticatedError("this is no token of Hunqi: they begin with hq_")
        async with self._database.read() as connection:
            row = (
                await connection.execute(
                    select(TOKENS).where(TOKENS.c.secret_hash == hash_secret(secret), TOKENS.c.revoked_at.is_(None))
                )
            ).first()
            if row is None or (row.expires_at is not None and row.expires_at <= _text(datetime.now(UTC))):
                raise NotAuthenticatedError("the token is unknown, expired or revoked: make another")
            actor = await _token_actor(connection, row)
        if actor is None:
            raise NotAuthenticatedError("the user of this token is disabled")
        await self._mark_used(row.id)
        return actor

    async def _mark_used(self, token_id: str) -> None:
        """Keep when it was used, at most once a minute; a database that cannot be written is no reason to refuse."""
        now_s = self._clock()
        if now_s - self._used.get(token_id, -_USED_EVERY_S) < _USED_EVERY_S:
            return
        if len(self._used) >= _USED_KEPT:
            self._used.clear()
        self._used[token_id] = now_s
        with suppress(DependencyError):
            async with self._database.begin() as connection:
                used_at = _text(datetime.now(UTC))
                await connection.execute(update(TOKENS).where(TOKENS.c.id == token_id).values(last_used_at=used_at))


async def _token_actor(connection: AsyncConnection, row: Row[Any]) -> Actor | None:
    scope = Scope.parse(json.loads(row.scopes))
    if row.user_id is not None:
        return await _user_actor(connection, row.user_id, scope=scope, token=row.id)
    return Actor(
        kind=ActorKind.MACHINE,
        id=row.id,
        name=row.name,
        is_admin=scope.admin,
        teams=dict.fromkeys(scope.teams or (), scope.role),
        grants=dict.fromkeys(scope.apps or (), scope.role),
        scope=scope,
        token=row.id,
    )


async def _user_actor(
    connection: AsyncConnection, user_id: str, *, scope: Scope, token: str | None = None
) -> Actor | None:
    user = (await connection.execute(select(USERS).where(USERS.c.id == user_id))).first()
    if user is None or user.disabled:
        return None
    teams = await connection.execute(select(MEMBERS.c.team_id, MEMBERS.c.role).where(MEMBERS.c.user_id == user_id))
    grants = await connection.execute(select(GRANTS.c.app, GRANTS.c.role).where(GRANTS.c.user_id == user_id))
    return Actor(
        kind=ActorKind.USER,
        id=user.id,
        name=user.name,
        is_admin=user.is_admin,
        teams={row.team_id: Role(row.role) for row in teams},
        grants={row.app: Role(row.role) for row in grants},
        scope=scope,
        token=token,
    )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
