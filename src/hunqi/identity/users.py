"""Users: who can log in. Each change is an event in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.identity.errors import LastAdminError, SetupTokenError, UserExistsError, UserNotFoundError
from hunqi.identity.model import check_name
from hunqi.identity.passwords import Passwords
from hunqi.identity.secrets import SETUP_PREFIX, hash_secret, new_id, new_secret
from hunqi.state.database import Database
from hunqi.state.errors import StateConflictError
from hunqi.state.events import append, now
from hunqi.state.tables import MEMBERS, SESSIONS, SETTINGS, TEAMS, USERS

_SETUP: Final = "setup.token-hash"
FIRST_TEAM: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserView:
    """A user, without the password."""

    id: str
    name: str
    is_admin: bool
    disabled: bool
    created_at: str


class Users:
    """The users of a database."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def all(self) -> tuple[UserView, ...]:
        """Return all, by name."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(USERS).order_by(USERS.c.name))
            return tuple(_view(row) for row in rows)

    async def find(self, name: str) -> UserView:
        """Return one by name. Raises ``UserNotFoundError``."""
        async with self._database.read() as connection:
            return _view(await _row(connection, name))

    async def create(self, name: str, password: str | None, *, is_admin: bool, actor: str) -> UserView:
        """Make a user; without a password only tokens work. Raises ``UserExistsError`` and the name's errors."""
        check_name(name, what="user")
        password_hash = None if password is None else await self._passwords.hash(password)
        try:
            async with self._database.begin() as connection:
                user = await _insert(connection, name, password_hash, is_admin=is_admin)
                data = {"admin": is_admin}
                await append(connection, "user.created", actor=actor, subject=name, data=data)
        except StateConflictError as error:
            raise UserExistsError(f"there is a user {name!r} already: choose another name") from error
        return user

    async def change(
        self,
        name: str,
        *,
        actor: str,
        password: str | None = None,
        is_admin: bool | None = None,
        disabled: bool | None = None,
    ) -> UserView:
        """Change what is not None. A new password or ``disabled`` ends the user's sessions.

        Raises ``UserNotFoundError``, ``LastAdminError``, ``PasswordError``.
        """
        values: dict[str, Any] = {}
        if password is not None:
            values["password_hash"] = await self._passwords.hash(password)
        if is_admin is not None:
            values["is_admin"] = is_admin
        if disabled is not None:
            values["disabled"] = disabled
        async with self._database.begin() as connection:
            row = await _row(connection, name)
            if values:
                await connection.execute(update(USERS).where(USERS.c.id == row.id).values(**values))
                await _keep_an_admin(connection)
                if password is not None or disabled:
                    await connection.execute(delete(SESSIONS).where(SESSIONS.c.user_id == row.id))
                changed = sorted("password" if key == "password_hash" else key for key in values)
                await append(connection, "user.changed", actor=actor, subject=name, data={"changed": changed})
            return _view(await _row(connection, name))

    async def remove(self, name: str, *, actor: str) -> None:
        """Remove a user with their tokens, sessions, memberships and grants. Raises as ``change``."""
        async with self._database.begin() as connection:
            row = await _row(connection, name)
            await connection.execute(delete(USERS).where(USERS.c.id == row.id))
            await _keep_an_admin(connection)
            await append(connection, "user.removed", actor=actor, subject=name)

    async def check_password(self, name: str, password: str) -> UserView | None:
        """Return the user if the password is right and the user is not disabled; takes as long if not."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(USERS).where(USERS.c.name == name[:63]))).first()
        right = await self._passwords.verify(row.password_hash if row else None, password)
        return _view(row) if right and row is not None and not row.disabled else None


class Setup:
    """The first user, made by whoever has the setup token that ``hunqi up`` printed."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def is_done(self) -> bool:
        """Whether there is a user."""
        async with self._database.read() as connection:
            return await _count(connection) > 0

    async def new_token(self) -> str | None:
        """Make a setup token, which replaces an earlier one; None once there is a user. Shown once, kept hashed."""
        token = new_secret(SETUP_PREFIX)
        async with self._database.begin() as connection:
            if await _count(connection) > 0:
                return None
            await connection.execute(delete(SETTINGS).where(SETTINGS.c.key == _SETUP))
            await connection.execute(insert(SETTINGS).values(key=_SETUP, value=hash_secret(token)))
        return token

    async def redeem(self, token: str, name: str, password: str) -> UserView:
        """Make the first user, an administrator who owns the first team; the token is good no more.

        Raises ``SetupTokenError`` and the errors of the name and the password, after which the token is still good.
        """
        await self._check(token)
        check_name(name, what="user")
        password_hash = await self._passwords.hash(password)
        async with self._database.begin() as connection:
            used = delete(SETTINGS).where(SETTINGS.c.key == _SETUP, SETTINGS.c.value == hash_secret(token))
            if (await connection.execute(used)).rowcount != 1:
                raise _wrong_setup_token()
            user = await _insert(connection, name, password_hash, is_admin=True)
            team = {"id": new_id("t"), "name": FIRST_TEAM, "quota": "{}", "created_at": now()}
            await connection.execute(insert(TEAMS).values(**team))
            await connection.execute(insert(MEMBERS).values(team_id=team["id"], user_id=user.id, role="owner"))
            await append(connection, "user.created", actor=name, subject=name, reason="setup", data={"admin": True})
        return user

    async def _check(self, token: str) -> None:
        """Spare strangers the costly hash of a password."""
        async with self._database.read() as connection:
            kept = await connection.scalar(select(SETTINGS.c.value).where(SETTINGS.c.key == _SETUP))
        if kept is None or kept != hash_secret(token):
            raise _wrong_setup_token()


def _wrong_setup_token() -> SetupTokenError:
    return SetupTokenError(
        "this is not the setup token: `hunqi up` prints it; it is good once, and until another is printed"
    )


async def _count(connection: AsyncConnection) -> int:
    return int(await connection.scalar(select(func.count()).select_from(USERS)) or 0)


async def _insert(connection: AsyncConnection, name: str, password_hash: str | None, *, is_admin: bool) -> UserView:
    values: Mapping[str, Any] = {
        "id": new_id("u"),
        "name": name,
        "password_hash": password_hash,
        "is_admin": is_admin,
        "disabled": False,
        "created_at": now(),
    }
    await connection.execute(insert(USERS).values(**values))
    return _view(await _row(connection, name))


async def _row(connection: AsyncConnection, name: str) -> Row[Any]:
    row = (await connection.execute(select(USERS).where(USERS.c.name == name[:63]))).first()
    if row is None:
        raise UserNotFoundError(f"there is no user {name[:63]!r}")
    return row


async def _keep_an_admin(connection: AsyncConnection) -> None:
    usable = USERS.c.is_admin.is_(True) & USERS.c.disabled.is_(False)
    if not await connection.scalar(select(func.count()).select_from(USERS).where(usable)):
        raise LastAdminError("this is the last administrator: make another one first")


def _view(row: Row[Any]) -> UserView:
    return UserView(id=row.id, name=row.name, is_admin=row.is_admin, disabled=row.disabled, created_at=row.created_at)
