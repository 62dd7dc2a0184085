"""The choke point: every route declares its action here, and nothing is done before the policy has allowed it.

Routes are made by :class:`GuardedRouter` only, whose methods demand an action. The guard finds out who asks (a bearer
token, else the cookie of a session, whose changes need its CSRF token), which app or team the path names, and asks
``policy.decide``. What may not be seen is answered like what is not there.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from starlette.requests import HTTPConnection

from hunqi.api.errors import NotLeaderError, TeamNeededError
from hunqi.api.idempotency import IdempotentRoute
from hunqi.api.ports import Rooms
from hunqi.apps.errors import AppNotFoundError
from hunqi.identity.directory import Directory
from hunqi.identity.errors import CsrfError, NotAllowedError, NotAuthenticatedError, TeamNotFoundError
from hunqi.identity.model import ANONYMOUS, Actor, AppRef, TeamRef
from hunqi.identity.policy import TABLE, Action, Decision, Least, decide, who_may

COOKIE: Final = "hunqi_session"
CSRF_HEADER: Final = "X-CSRF-Token"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LEADERS: Final = frozenset(
    {
        Action.APP_DEPLOY,
        Action.APP_OPERATE,
        Action.APP_ENTER,
        Action.APP_VARIABLES,
        Action.APP_ROUTES,
        Action.APP_REMOVE,
        Action.CLUSTER_CHANGE,
    }
)
"""What changes something that only the leader may."""


class Access:
    """Who asks, and whether they may."""

    def __init__(self, directory: Directory, rooms: Rooms) -> None:
        self._directory = directory
        self._rooms = rooms

    async def caller(self, connection: HTTPConnection) -> Actor:
        """Return who asks; asked for once per request. Raises ``NotAuthenticatedError`` for wrong credentials."""
        known: Actor | None = getattr(connection.state, "caller", None)
        if known is None:
            known = connection.state.caller = await self._authenticate(connection)
        return known

    async def again(self, connection: HTTPConnection) -> Actor:
        """Return who asks as of now, for streams that outlive rights. Raises ``NotAuthenticatedError``."""
        return await self._authenticate(connection)

    async def allow(self, connection: HTTPConnection, action: Action, *, may_create: bool = False) -> None:
        """Let the request through or raise; the caller and the app are in its state afterwards."""
        if TABLE[action] is Least.ANYBODY:
            connection.state.caller = ANONYMOUS
            return
        caller = await self.caller(connection)
        self._require_leader(connection, caller, action)
        target = await self._target(connection, caller, may_create=may_create)
        connection.state.target = target
        if target is None and may_create:
            self._judge(caller, action, None, only_anonymous=True)
            return
        self._judge(caller, action, target)

    def _require_leader(self, connection: HTTPConnection, caller: Actor, action: Action) -> None:
        method = str(connection.scope.get("method", "GET"))
        if method in SAFE or action not in _LEADERS or self._rooms.leader.leading:
            return
        self._judge(caller, action, None, only_anonymous=True)
        raise NotLeaderError(self._rooms.leader.address, machine=self._rooms.leader.machine)

    async def team_for_new_app(self, caller: Actor, app: str, wanted: str | None) -> str:
        """Return the id of the team that a new app belongs to.

        Raises ``TeamNeededError``, ``TeamNotFoundError``, ``NotAllowedError``; and ``AppNotFoundError`` for who may
        make no app at all.
        """
        teams = await self._directory.teams.all()
        if wanted is not None:
            team = next((each for each in teams if wanted in {each.id, each.name}), None)
            decision = None if team is None else decide(caller, Action.APP_CREATE, TeamRef(id=team.id))
            if team is None or decision is Decision.HIDDEN:
                raise TeamNotFoundError(f"there is no team {wanted[:63]!r}, or you are not in it")
            if decision is not Decision.ALLOW:
                raise NotAllowedError(f"a new app in the team {team.name} takes {who_may(Action.APP_CREATE)} there")
            return team.id
        possible = [each for each in teams if decide(caller, Action.APP_CREATE, TeamRef(id=each.id)) is Decision.ALLOW]
        own = [each for each in possible if each.id in caller.teams]
        if len(chosen := own or possible) == 1:
            return chosen[0].id
        if not possible:
            raise _not_there(AppRef(name=app, team=""))
        names = ", ".join(each.name for each in chosen)
        raise TeamNeededError(f"name the team that the new app belongs to, one of: {names}")

    def may_see(self, caller: Actor, app: AppRef) -> bool:
        """Whether a list may show the app."""
        return decide(caller, Action.APP_SEE, app) is Decision.ALLOW

    def _judge(
        self, caller: Actor, action: Action, target: AppRef | TeamRef | None, *, only_anonymous: bool = False
    ) -> None:
        match decide(caller, action, target):
            case Decision.ALLOW:
                return
            case Decision.UNAUTHENTICATED:
                raise NotAuthenticatedError("log in, or send a token: Authorization: Bearer hq_…")
            case Decision.DENIED if not only_anonymous:
                raise NotAllowedError(f"this takes {who_may(action)}")
            case Decision.HIDDEN if not only_anonymous:
                raise _not_there(target)
            case _:
                return

    async def _target(self, connection: HTTPConnection, caller: Actor, *, may_create: bool) -> AppRef | TeamRef | None:
        """Return what the path names; None without a name there, for an app to be made, and for anonymous callers."""
        app, team = connection.path_params.get("app"), connection.path_params.get("team")
        if caller is ANONYMOUS:
            return None
        if isinstance(app, str):
            try:
                return AppRef(name=app, team=await self._rooms.apps.views.team_of(app))
            except AppNotFoundError:
                if may_create:
                    return None
                if decide(caller, Action.CLUSTER_CHANGE) is not Decision.ALLOW:
                    raise _not_there(AppRef(name=app, team="")) from None
                raise
        if isinstance(team, str):
            return TeamRef(id=(await self._directory.teams.find(team)).id)
        return None

    async def _authenticate(self, connection: HTTPConnection) -> Actor:
        header = connection.headers.get("authorization")
        if header is not None:
            kind, _, secret = header.partition(" ")
            if kind.lower() != "bearer":
                raise NotAuthenticatedError("send a token: Authorization: Bearer hq_…")
            return await self._directory.authenticator.token(secret.strip())
        cookie = connection.cookies.get(COOKIE)
        if not cookie:
            return ANONYMOUS
        try:
            session = await self._directory.authenticator.session(cookie)
        except NotAuthenticatedError:
            return ANONYMOUS  # a browser sends the cookie of an ended session until it is given another
        self._check_csrf(connection, session.csrf)
        connection.state.csrf = session.csrf
        return session.actor

    def _check_csrf(self, connection: HTTPConnection, csrf: str) -> None:
        """A browser sends the cookie by itself, so a change (or a WebSocket) must show what only our pages know."""
        if connection.scope["type"] == "http" and connection.scope["method"] in SAFE:
            return
        shown = connection.headers.get(CSRF_HEADER) or connection.query_params.get("csrf") or ""
        if not hmac.compare_digest(shown.encode(), csrf.encode()):
            raise CsrfError(f"send the session's token in {CSRF_HEADER}; GET /v1/me tells it")


def _not_there(target: AppRef | TeamRef | None) -> AppNotFoundError | TeamNotFoundError:
    """Say the same for what is hidden as for what does not exist."""
    if isinstance(target, TeamRef):
        return TeamNotFoundError("there is no such team, or you are not in it")
    name = target.name if target is not None else ""
    return AppNotFoundError(f"there is no app {name!r}, or it is not yours to see")


def _current(connection: HTTPConnection) -> Actor:
    return connection.state.caller


Caller = Annotated[Actor, Depends(_current)]
"""Who asks; the guard has let them through."""


class GuardedRouter:
    """Makes routes, each with the action that it takes."""

    def __init__(self, access: Access, tag: str) -> None:
        self.access = access
        self.router = APIRouter(tags=[tag], route_class=IdempotentRoute)

    def add(
        self, method: str, path: str, action: Action, *, may_create: bool = False, **options: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that makes a function the route ``method path``, guarded by ``action``."""

        async def guard(connection: HTTPConnection) -> None:
            await self.access.allow(connection, action, may_create=may_create)

        extra = {"x-hunqi-action": action.value, **options.pop("openapi_extra", {})}
        if action in _OPEN:
            extra["security"] = []
        return self.router.api_route(
            path, methods=[method], dependencies=[Depends(guard)], openapi_extra=extra, **options
        )

    def socket(self, path: str, action: Action) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that makes a function the WebSocket at ``path``, guarded by ``action``."""

        async def guard(connection: HTTPConnection) -> None:
            await self.access.allow(connection, action)

        def decorate(endpoint: Callable[..., Any]) -> Callable[..., Any]:
            self.router.websocket(path, dependencies=[Depends(guard)])(endpoint)
            setattr(endpoint, SOCKET_ACTION, action)
            return endpoint

        return decorate


SOCKET_ACTION: Final = "hunqi_action"
_OPEN: Final = frozenset({Action.HEALTH, Action.SETUP, Action.LOG_IN, Action.JOIN, Action.SCHEMA, Action.AUTHORITY})
