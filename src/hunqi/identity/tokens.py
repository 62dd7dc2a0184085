"""Tokens for programs: a user's own, or a machine's that belongs to nobody and carries its rights in its scope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.identity.errors import InvalidNameError, ScopeError, TokenNotFoundError
from hunqi.identity.model import Actor, ActorKind, AppRef, Role, Scope, TeamRef, check_name
from hunqi.identity.secrets import TOKEN_PREFIX, hash_secret, new_id, new_secret
from hunqi.state.database import Database
from hunqi.state.events import append, now
from hunqi.state.tables import APPS, GRANTS, TEAMS, TOKENS, USERS

MOST_DAYS: Final = 3650
_PER_OWNER: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """A token, without its secret. ``owner`` is None for a machine's."""

    id: str
    kind: str
    """``personal`` or ``machine``."""
    owner: str | None
    name: str
    scopes: tuple[str, ...]
    created_at: str
    expires_at: str | None
    last_used_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that was just made; its secret is shown only now."""

    token: TokenView
    secret: str = field(repr=False)


class Tokens:
    """The tokens of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, actor: Actor) -> tuple[TokenView, ...]:
        """Return the tokens that are the actor's to see: their own, and for administrators all."""
        query = (
            select(TOKENS, USERS.c.name.label("owner"))
            .outerjoin(USERS, USERS.c.id == TOKENS.c.user_id)
            .where(TOKENS.c.revoked_at.is_(None))
            .order_by(TOKENS.c.created_at, TOKENS.c.id)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
            owners = await _owners(connection)
        return tuple(_view(row) for row in rows if _is_of(row, actor, owners))

    async def create_personal(self, actor: Actor, name: str, scopes: tuple[str, ...], *, days: int | None) -> NewToken:
        """Make a token for the actor, with no more rights than they came with. Raises ``ScopeError`` and the name's."""
        if actor.kind is not ActorKind.USER:
            raise ScopeError("only users have tokens of their own: make a machine token instead")
        scope = Scope.parse(scopes)
        _check_within(actor, scope)
        return await self._create(actor, "personal", name, scope, user_id=actor.id, days=days)

    async def create_machine(self, actor: Actor, name: str, scopes: tuple[str, ...], *, days: int | None) -> NewToken:
        """Make a token of no user, for what its scopes name; its maker must own all of that.

        Raises ``ScopeError`` and the name's errors.
        """
        scope = Scope.parse(scopes)
        if not scope.admin and scope.apps is None and scope.teams is None:
            raise ScopeError("a machine token names what it is for: add app:NAME or team:ID to its scopes")
        if not actor.administers:
            async with self._database.read() as connection:
                owners = await _owners(connection)
            if scope.admin or not _owns(actor, scope, owners):
                raise ScopeError(
                    "you do not own all that the token is for: ask an owner or an administrator to make it"
                )
        return await self._create(actor, "machine", name, scope, user_id=None, days=days)

    async def revoke(self, actor: Actor, token_id: str) -> None:
        """Make a token useless from now on. Raises ``TokenNotFoundError``, also for those of others."""
        query = (
            select(TOKENS, USERS.c.name.label("owner"))
            .outerjoin(USERS, USERS.c.id == TOKENS.c.user_id)
            .where(TOKENS.c.id == token_id[:32], TOKENS.c.revoked_at.is_(None))
        )
        async with self._database.begin() as connection:
            row = (await connection.execute(query)).first()
            if row is None or not _is_of(row, actor, await _owners(connection)):
                raise TokenNotFoundError(f"there is no token {token_id[:32]!r} of yours")
            await connection.execute(update(TOKENS).where(TOKENS.c.id == row.id).values(revoked_at=now()))
            await append(connection, "token.revoked", actor=actor.label, subject=row.name)

    async def _create(
        self, actor: Actor, kind: str, name: str, scope: Scope, *, user_id: str | None, days: int | None
    ) -> NewToken:
        check_name(name, what="token")
        secret, token_id = new_secret(TOKEN_PREFIX), new_id("k")
        expires = None if days is None else datetime.now(UTC) + timedelta(days=min(days, MOST_DAYS))
        values = {
            "id": token_id,
            "kind": kind,
            "user_id": user_id,
            "name": name,
            "secret_hash": hash_secret(secret),
            "scopes": json.dumps(scope.words()),
            "created_at": now(),
            "expires_at": None
            if expires is None
            else expires.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        async with self._database.begin() as connection:
            same = select(TOKENS.c.name).where(TOKENS.c.user_id == user_id, TOKENS.c.revoked_at.is_(None))
            if len((await connection.execute(same)).all()) >= _PER_OWNER:
                raise InvalidNameError(f"there are {_PER_OWNER} tokens already: revoke some")
            for team in scope.teams or ():
                if await connection.scalar(select(TEAMS.c.id).where(TEAMS.c.id == team)) is None:
                    raise ScopeError(f"there is no team with the id {team!r}")
            await connection.execute(insert(TOKENS).values(**values))
            data = {"kind": kind, "scopes": scope.words(), "expires_at": values["expires_at"]}
            await append(connection, "token.created", actor=actor.label, subject=name, data=data)
        owner = actor.name if user_id else None
        return NewToken(token=TokenView(
            id=token_id, kind=kind, owner=owner, name=name, scopes=scope.words(), created_at=str(values["created_at"]),
            expires_at=values["expires_at"], last_used_at=None,
        ), secret=secret)  # fmt: skip


async def forget_app(connection: AsyncConnection, app: str) -> None:
    """Revoke the machine tokens for an app that is being removed, and its grants: a later app of its name has none."""
    await connection.execute(delete(GRANTS).where(GRANTS.c.app == app))
    word = f'"app:{app}"'
    of_app = (
        (TOKENS.c.kind == "machine") & TOKENS.c.revoked_at.is_(None) & TOKENS.c.scopes.contains(word, autoescape=True)
    )
    await connection.execute(update(TOKENS).where(of_app).values(revoked_at=now()))


async def _owners(connection: AsyncConnection) -> Mapping[str, str]:
    rows = await connection.execute(select(APPS.c.name, APPS.c.team_id))
    return {row.name: row.team_id for row in rows}


def _is_of(row: Row[Any], actor: Actor, owners: Mapping[str, str]) -> bool:
    if actor.administers or row.id == actor.token:
        return True
    if row.user_id is not None:
        return actor.kind is ActorKind.USER and row.user_id == actor.id
    scope = Scope.parse(json.loads(row.scopes))
    return not scope.admin and _owns(actor, scope, owners)


def _check_within(actor: Actor, scope: Scope) -> None:
    """A token makes no token that may more than itself."""
    held = actor.scope
    if scope.admin and not held.admin:
        raise ScopeError("your own credentials do not administer: log in with your password, then make the token")
    if held.admin:
        return
    narrower = scope.role.rank <= held.role.rank
    if held.apps is not None or held.teams is not None:
        within = scope.apps is not None and scope.apps <= (held.apps or frozenset())
        narrower = narrower and within and (scope.teams or frozenset()) <= (held.teams or frozenset())
    if not narrower:
        raise ScopeError("the token would have more rights than your own credentials")


def _owns(actor: Actor, scope: Scope, owners: Mapping[str, str]) -> bool:
    """Whether the actor is owner of every team and app that the scope names; an app that is not there is nobody's."""
    if actor.kind is not ActorKind.USER:
        return False
    apps = [AppRef(name=app, team=owners[app]) if app in owners else None for app in scope.apps or ()]
    targets = [*apps, *(TeamRef(id=team) for team in scope.teams or ())]
    return bool(targets) and all(each is not None and actor.role_on(each) is Role.OWNER for each in targets)


def _view(row: Row[Any]) -> TokenView:
    return TokenView(
        id=row.id,
        kind=row.kind,
        owner=row.owner,
        name=row.name,
        scopes=tuple(json.loads(row.scopes)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
