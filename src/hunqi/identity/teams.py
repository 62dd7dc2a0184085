"""Teams own apps; their members have roles on all of these. A grant gives one user a role on one app."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.identity.errors import (
    GrantNotFoundError,
    TeamExistsError,
    TeamInUseError,
    TeamNotFoundError,
    UserNotFoundError,
)
from hunqi.identity.model import Role, check_name
from hunqi.identity.secrets import new_id
from hunqi.state.database import Database
from hunqi.state.errors import StateConflictError
from hunqi.state.events import append, now
from hunqi.state.tables import APPS, GRANTS, MEMBERS, TEAMS, USERS


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """A user's role in a team or on an app."""

    user: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamView:
    """A team; ``quota`` has limits by name, none means no limit.

    ``images`` are prefixes of repositories at the accelerators that its apps may run beside those below their own names
    and public ones: private ones of an upstream (``docker.io/acme``), or those of another app (``tools``).
    """

    id: str
    name: str
    quota: Mapping[str, float]
    images: tuple[str, ...]
    members: tuple[MemberView, ...]
    created_at: str


class Teams:
    """The teams of a database, and the grants on apps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> tuple[TeamView, ...]:
        """Return all, by name."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(TEAMS).order_by(TEAMS.c.name))).all()
            return tuple([_view(row, await _members(connection, row.id)) for row in rows])

    async def find(self, team: str) -> TeamView:
        """Return one, by id or name. Raises ``TeamNotFoundError``."""
        async with self._database.read() as connection:
            row = await _row(connection, team)
            return _view(row, await _members(connection, row.id))

    async def create(self, name: str, *, quota: Mapping[str, float], actor: str) -> TeamView:
        """Make a team without members. Raises ``TeamExistsError``, ``InvalidNameError``."""
        check_name(name, what="team")
        values = {"id": new_id("t"), "name": name, "quota": json.dumps(dict(quota)), "created_at": now()}
        try:
            async with self._database.begin() as connection:
                await connection.execute(insert(TEAMS).values(**values))
                await append(connection, "team.created", actor=actor, subject=name)
        except StateConflictError as error:
            raise TeamExistsError(f"there is a team {name!r} already: choose another name") from error
        return await self.find(values["id"])

    async def set_quota(self, team: str, quota: Mapping[str, float], *, actor: str) -> TeamView:
        """Replace the limits. Raises ``TeamNotFoundError``."""
        async with self._database.begin() as connection:
            row = await _row(connection, team)
            await connection.execute(update(TEAMS).where(TEAMS.c.id == row.id).values(quota=json.dumps(dict(quota))))
            await append(connection, "team.changed", actor=actor, subject=row.name, data={"quota": dict(quota)})
        return await self.find(row.id)

    async def set_images(self, team: str, images: Sequence[str], *, actor: str) -> TeamView:
        """Replace the prefixes. Raises ``TeamNotFoundError``."""
        held = sorted({prefix.removesuffix("/*").rstrip("/") for prefix in images})
        async with self._database.begin() as connection:
            row = await _row(connection, team)
            await connection.execute(update(TEAMS).where(TEAMS.c.id == row.id).values(images=json.dumps(held)))
            await append(connection, "team.changed", actor=actor, subject=row.name, data={"images": held})
        return await self.find(row.id)

    async def remove(self, team: str, *, actor: str) -> None:
        """Remove a team that owns no app. Raises ``TeamNotFoundError``, ``TeamInUseError``."""
        async with self._database.begin() as connection:
            row = await _row(connection, team)
            owned = await connection.scalar(select(func.count()).select_from(APPS).where(APPS.c.team_id == row.id))
            if owned:
                raise TeamInUseError(f"the team {row.name} owns {owned} apps: remove them first")
            await connection.execute(delete(TEAMS).where(TEAMS.c.id == row.id))
            await append(connection, "team.removed", actor=actor, subject=row.name)

    async def set_member(self, team: str, user: str, role: Role | None, *, actor: str) -> TeamView:
        """Give ``user`` a role in the team, or take it (None). Raises ``TeamNotFoundError``, ``UserNotFoundError``."""
        async with self._database.begin() as connection:
            row = await _row(connection, team)
            user_id = await _user_id(connection, user)
            await connection.execute(delete(MEMBERS).where(MEMBERS.c.team_id == row.id, MEMBERS.c.user_id == user_id))
            if role is not None:
                await connection.execute(insert(MEMBERS).values(team_id=row.id, user_id=user_id, role=role.value))
            data = {"user": user, "role": role.value if role else None}
            await append(connection, "team.member-changed", actor=actor, subject=row.name, data=data)
        return await self.find(row.id)

    async def grants(self, app: str) -> tuple[MemberView, ...]:
        """Return who has a role on the app besides its team."""
        query = (
            select(USERS.c.name, GRANTS.c.role)
            .join(USERS, USERS.c.id == GRANTS.c.user_id)
            .where(GRANTS.c.app == app)
            .order_by(USERS.c.name)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(MemberView(user=row.name, role=Role(row.role)) for row in rows)

    async def set_grant(self, app: str, user: str, role: Role | None, *, actor: str) -> None:
        """Give ``user`` a role on the app, or take it (None). Raises ``UserNotFoundError``, ``GrantNotFoundError``."""
        async with self._database.begin() as connection:
            user_id = await _user_id(connection, user)
            removed = await connection.execute(delete(GRANTS).where(GRANTS.c.app == app, GRANTS.c.user_id == user_id))
            if role is not None:
                await connection.execute(insert(GRANTS).values(app=app, user_id=user_id, role=role.value))
            elif not removed.rowcount:
                raise GrantNotFoundError(f"{user} has no grant on {app}")
            data = {"user": user, "role": role.value if role else None}
            await append(connection, "app.grant-changed", actor=actor, app=app, subject=app, data=data)


async def _row(connection: AsyncConnection, team: str) -> Row[Any]:
    named = (TEAMS.c.id == team[:63]) | (TEAMS.c.name == team[:63])
    row = (await connection.execute(select(TEAMS).where(named))).first()
    if row is None:
        raise TeamNotFoundError(f"there is no team {team[:63]!r}, or you are not in it")
    return row


async def _user_id(connection: AsyncConnection, name: str) -> str:
    found = await connection.scalar(select(USERS.c.id).where(USERS.c.name == name[:63]))
    if found is None:
        raise UserNotFoundError(f"there is no user {name[:63]!r}")
    return str(found)


async def _members(connection: AsyncConnection, team_id: str) -> tuple[MemberView, ...]:
    query = (
        select(USERS.c.name, MEMBERS.c.role)
        .join(USERS, USERS.c.id == MEMBERS.c.user_id)
        .where(MEMBERS.c.team_id == team_id)
        .order_by(USERS.c.name)
    )
    return tuple(MemberView(user=row.name, role=Role(row.role)) for row in await connection.execute(query))


def _view(row: Row[Any], members: tuple[MemberView, ...]) -> TeamView:
    return TeamView(
        id=row.id,
        name=row.name,
        quota=json.loads(row.quota),
        images=tuple(json.loads(row.images)),
        members=members,
        created_at=row.created_at,
    )
