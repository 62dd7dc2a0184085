"""The first user, sessions, tokens, users, teams, grants."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from hunqi.api.access import COOKIE, Caller, GuardedRouter
from hunqi.api.bodies import (
    AppName,
    LoginBody,
    PasswordBody,
    RoleBody,
    SetupBody,
    TeamBody,
    TeamChangeBody,
    TokenBody,
    UserBody,
    UserChangeBody,
)
from hunqi.api.context import Context
from hunqi.api.idempotency import NOT_KEPT
from hunqi.api.paging import Cursor, Limit, Page, page_of
from hunqi.identity.errors import NotAllowedError
from hunqi.identity.model import Actor, ActorKind, AppRef, Role, TeamRef
from hunqi.identity.policy import Action, Decision, decide
from hunqi.identity.registry import RegistryLogin
from hunqi.identity.sessions import SESSION_HOURS, Session
from hunqi.identity.teams import MemberView, TeamView
from hunqi.identity.tokens import NewToken, TokenView
from hunqi.identity.users import UserView

_SECRET: dict[str, Any] = {NOT_KEPT: True}
UserName = Annotated[str, Path(min_length=1, max_length=63)]
TeamName = Annotated[str, Path(min_length=1, max_length=63, description="A team's name or id.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """Who the caller is, and what they may. ``csrf`` is there for sessions only."""

    kind: ActorKind
    name: str
    admin: bool
    """Whether these credentials administer the cluster."""
    teams: dict[str, Role]
    grants: dict[str, Role]
    scopes: tuple[str, ...]
    csrf: str | None = field(default=None, repr=False)


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    router = APIRouter()
    for part in (_sessions, _tokens, _users, _teams, _grants):
        router.include_router(part(context))
    return router


def _sessions(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "session")
    directory = context.directory

    @guarded.add("POST", "/v1/setup", Action.SETUP, status_code=201, openapi_extra=_SECRET)
    async def set_up(body: SetupBody) -> UserView:
        """Make the first user, an administrator, with the setup token that `hunqi up` printed."""
        token, password = body.token.get_secret_value(), body.password.get_secret_value()
        return await directory.setup.redeem(token, body.name, password)

    @guarded.add("POST", "/v1/login", Action.LOG_IN, openapi_extra=_SECRET)
    async def log_in(body: LoginBody, request: Request, response: Response) -> Me:
        """Begin a session: a cookie, and a token for the X-CSRF-Token header of each change."""
        address = request.client.host if request.client else ""
        session = await directory.authenticator.log_in(body.name, body.password.get_secret_value(), address=address)
        _set_cookie(context, response, session)
        return _me(session.actor, session.csrf)

    @guarded.add("POST", "/v1/logout", Action.SELF, status_code=204)
    async def log_out(request: Request, response: Response) -> None:
        """End the session."""
        if cookie := request.cookies.get(COOKIE):
            await directory.authenticator.log_out(cookie)
        response.delete_cookie(COOKIE, path="/")

    @guarded.add("GET", "/v1/me", Action.SELF)
    async def who_am_i(caller: Caller, request: Request) -> Me:
        """Return who the credentials are of, and what they may."""
        return _me(caller, getattr(request.state, "csrf", None))

    @guarded.add("PUT", "/v1/me/password", Action.SELF, status_code=204)
    async def change_my_password(body: PasswordBody, caller: Caller, request: Request) -> None:
        """Change one's own password; ends one's sessions."""
        if caller.kind is not ActorKind.USER:
            raise NotAllowedError("a machine token has no password")
        address = request.client.host if request.client else ""
        present = body.present.get_secret_value()
        await directory.authenticator.confirm(caller.name, present, address=address)
        await directory.users.change(caller.name, actor=caller.label, password=body.password.get_secret_value())

    return guarded.router


def _tokens(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "tokens")
    tokens = context.directory.tokens

    @guarded.add("GET", "/v1/tokens", Action.SELF)
    async def list_tokens(caller: Caller, limit: Limit = 50, cursor: Cursor = None) -> Page[TokenView]:
        """Return one's own tokens and the machine tokens of what one owns; for administrators all."""
        return page_of(await tokens.of(caller), key=lambda token: token.id, limit=limit, cursor=cursor)

    @guarded.add("POST", "/v1/tokens", Action.SELF, status_code=201, openapi_extra=_SECRET)
    async def create_token(body: TokenBody, caller: Caller) -> NewToken:
        """Make a token; its secret is shown only now."""
        create = tokens.create_machine if body.kind == "machine" else tokens.create_personal
        return await create(caller, body.name, tuple(body.scopes), days=body.days)

    @guarded.add("POST", "/v1/registry-login", Action.SELF, status_code=201, openapi_extra=_SECRET)
    async def make_registry_login(caller: Caller) -> RegistryLogin:
        """Make a password for ``docker login`` at the accelerators; what it gives follows from one's roles now."""
        apps = [AppRef(name=app.name, team=app.team) for app in await context.rooms.apps.views.list()]
        return context.logins.of(caller, apps, now=datetime.now(UTC))

    @guarded.add("DELETE", "/v1/tokens/{token}", Action.SELF, status_code=204)
    async def revoke_token(token: Annotated[str, Path(max_length=32)], caller: Caller) -> None:
        """Make a token useless from now on."""
        await tokens.revoke(caller, token)

    return guarded.router


def _users(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "users")
    users = context.directory.users

    @guarded.add("GET", "/v1/users", Action.USERS)
    async def list_users(limit: Limit = 50, cursor: Cursor = None) -> Page[UserView]:
        """Return all users."""
        return page_of(await users.all(), key=lambda user: user.name, limit=limit, cursor=cursor)

    @guarded.add("POST", "/v1/users", Action.USERS, status_code=201, openapi_extra=_SECRET)
    async def create_user(body: UserBody, caller: Caller) -> UserView:
        """Make a user."""
        password = body.password.get_secret_value() if body.password else None
        return await users.create(body.name, password, is_admin=body.admin, actor=caller.label)

    @guarded.add("GET", "/v1/users/{user}", Action.USERS)
    async def show_user(user: UserName) -> UserView:
        """Return one user."""
        return await users.find(user)

    @guarded.add("PATCH", "/v1/users/{user}", Action.USERS)
    async def change_user(user: UserName, body: UserChangeBody, caller: Caller) -> UserView:
        """Change a user; a new password ends their sessions."""
        password = body.password.get_secret_value() if body.password else None
        return await users.change(
            user, actor=caller.label, password=password, is_admin=body.admin, disabled=body.disabled
        )

    @guarded.add("DELETE", "/v1/users/{user}", Action.USERS, status_code=204)
    async def remove_user(user: UserName, caller: Caller) -> None:
        """Remove a user with their tokens, memberships and grants."""
        await users.remove(user, actor=caller.label)

    return guarded.router


def _teams(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "teams")
    teams = context.directory.teams

    @guarded.add("GET", "/v1/teams", Action.LIST)
    async def list_teams(caller: Caller, limit: Limit = 50, cursor: Cursor = None) -> Page[TeamView]:
        """Return the teams that one is in; for administrators all."""
        seen = [
            team for team in await teams.all() if decide(caller, Action.TEAM_SEE, TeamRef(id=team.id)) is Decision.ALLOW
        ]
        return page_of(seen, key=lambda team: team.name, limit=limit, cursor=cursor)

    @guarded.add("POST", "/v1/teams", Action.TEAMS, status_code=201)
    async def create_team(body: TeamBody, caller: Caller) -> TeamView:
        """Make a team."""
        return await teams.create(body.name, quota=body.quota, actor=caller.label)

    @guarded.add("GET", "/v1/teams/{team}", Action.TEAM_SEE)
    async def show_team(team: TeamName) -> TeamView:
        """Return one team."""
        return await teams.find(team)

    @guarded.add("PATCH", "/v1/teams/{team}", Action.TEAMS)
    async def change_team(team: TeamName, body: TeamChangeBody, caller: Caller) -> TeamView:
        """Replace a team's limits, or the repositories of others whose images its apps may run."""
        if body.images is not None:
            await teams.set_images(team, body.images, actor=caller.label)
        if body.quota is not None:
            await teams.set_quota(team, body.quota, actor=caller.label)
        return await teams.find(team)

    @guarded.add("DELETE", "/v1/teams/{team}", Action.TEAMS, status_code=204)
    async def remove_team(team: TeamName, caller: Caller) -> None:
        """Remove a team that owns no app."""
        await teams.remove(team, actor=caller.label)

    @guarded.add("PUT", "/v1/teams/{team}/members/{user}", Action.TEAM_MEMBERS)
    async def set_member(team: TeamName, user: UserName, body: RoleBody, caller: Caller) -> TeamView:
        """Give a user a role in the team."""
        return await teams.set_member(team, user, body.role, actor=caller.label)

    @guarded.add("DELETE", "/v1/teams/{team}/members/{user}", Action.TEAM_MEMBERS)
    async def remove_member(team: TeamName, user: UserName, caller: Caller) -> TeamView:
        """Take a user out of the team."""
        return await teams.set_member(team, user, None, actor=caller.label)

    return guarded.router


def _grants(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "grants")
    teams = context.directory.teams

    @guarded.add("GET", "/v1/apps/{app}/grants", Action.APP_SEE)
    async def list_grants(app: AppName) -> Page[MemberView]:
        """Return who has a role on the app besides its team."""
        return Page(items=await teams.grants(app))

    @guarded.add("PUT", "/v1/apps/{app}/grants/{user}", Action.APP_GRANT, status_code=204)
    async def set_grant(app: AppName, user: UserName, body: RoleBody, caller: Caller) -> None:
        """Give a user a role on this app."""
        await teams.set_grant(app, user, body.role, actor=caller.label)

    @guarded.add("DELETE", "/v1/apps/{app}/grants/{user}", Action.APP_GRANT, status_code=204)
    async def remove_grant(app: AppName, user: UserName, caller: Caller) -> None:
        """Take a user's role on this app."""
        await teams.set_grant(app, user, None, actor=caller.label)

    return guarded.router


def _me(actor: Actor, csrf: str | None) -> Me:
    return Me(
        kind=actor.kind,
        name=actor.name,
        admin=actor.administers,
        teams=dict(actor.teams),
        grants=dict(actor.grants),
        scopes=actor.scope.words(),
        csrf=csrf,
    )


def _set_cookie(context: Context, response: Response, session: Session) -> None:
    response.set_cookie(
        COOKIE,
        session.secret,
        max_age=SESSION_HOURS * 3600,
        path="/",
        httponly=True,
        samesite="strict",
        secure=context.secure_cookies,
    )
