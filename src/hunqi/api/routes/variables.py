"""What is kept for an app beside its files: secrets, environment, routes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import StringConstraints

from hunqi.api.access import Caller, GuardedRouter
from hunqi.api.bodies import AppName, EnvironmentBody, ReasonBody, SecretBody, VariableBody
from hunqi.api.context import Context
from hunqi.api.errors import RequestInvalidError
from hunqi.api.paging import Cursor, Limit, Page, page_of
from hunqi.api.route_spec import RouteSpecBody
from hunqi.api.routes.apps import change_of
from hunqi.api.shown import without_logins
from hunqi.apps.operations import Deploy, EnvView, RouteView, SecretView
from hunqi.identity.policy import Action

SecretName = Annotated[str, Path(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
EnvName = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
RouteId = Annotated[str, Path(min_length=1, max_length=64)]


class RouteBody(ReasonBody):
    """A route to a service: what ``x-hunqi.routes`` takes."""

    service: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    spec: RouteSpecBody


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    router = APIRouter()
    for part in (_secrets, _environment, _routes):
        router.include_router(part(context))
    return router


def _secrets(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "secrets")
    secrets = context.rooms.apps.secrets

    @guarded.add("GET", "/v1/apps/{app}/secrets", Action.APP_VARIABLES)
    async def list_secrets(app: AppName, limit: Limit = 50, cursor: Cursor = None) -> Page[SecretView]:
        """Return the secrets kept for the app, without values (nobody reads these)."""
        found = await secrets.secrets(app)
        return page_of(found, key=lambda secret: secret.name, limit=limit, cursor=cursor)

    @guarded.add("PUT", "/v1/apps/{app}/secrets/{name}", Action.APP_VARIABLES)
    async def put_secret(app: AppName, name: SecretName, body: SecretBody, caller: Caller) -> Deploy | None:
        """Keep a secret; a running app that uses it is deployed anew: that is a rotation."""
        content = body.content()
        if content is None:
            raise RequestInvalidError([{"where": "body", "message": "give one of value and base64"}])
        return await secrets.put(app, name, content, change_of(caller, body.reason))

    @guarded.add("DELETE", "/v1/apps/{app}/secrets/{name}", Action.APP_VARIABLES, status_code=204)
    async def remove_secret(app: AppName, name: SecretName, caller: Caller) -> None:
        """Forget a secret that is not in use."""
        await secrets.remove(app, name, change_of(caller))

    return guarded.router


def _environment(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "environment")
    environment = context.rooms.apps.environment

    @guarded.add("GET", "/v1/apps/{app}/env", Action.APP_VARIABLES)
    async def list_environment(app: AppName, limit: Limit = 200, cursor: Cursor = None) -> Page[EnvView]:
        """Return the variables kept for the app, with values."""
        found = await environment.variables(app)
        return page_of(found, key=lambda variable: variable.name, limit=limit, cursor=cursor)

    @guarded.add("PUT", "/v1/apps/{app}/env", Action.APP_VARIABLES)
    async def put_environment(app: AppName, body: EnvironmentBody, caller: Caller) -> Deploy | None:
        """Set variables and forget others; a running app is deployed anew, once."""
        return await environment.put(app, body.values, change_of(caller, body.reason))

    @guarded.add("PUT", "/v1/apps/{app}/env/{name}", Action.APP_VARIABLES)
    async def put_variable(app: AppName, name: EnvName, body: VariableBody, caller: Caller) -> Deploy | None:
        """Set one variable."""
        return await environment.put(app, {name: body.value}, change_of(caller, body.reason))

    @guarded.add("DELETE", "/v1/apps/{app}/env/{name}", Action.APP_VARIABLES)
    async def remove_variable(app: AppName, name: EnvName, caller: Caller) -> Deploy | None:
        """Forget one variable."""
        return await environment.put(app, {name: None}, change_of(caller))

    return guarded.router


def _routes(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "routes")
    kept = context.rooms.apps.routes

    @guarded.add("GET", "/v1/apps/{app}/routes", Action.APP_SEE)
    async def list_routes(app: AppName, limit: Limit = 50, cursor: Cursor = None) -> Page[RouteView]:
        """Return the routes in force; without the lines of basic auth."""
        found = [replace(route, spec=without_logins(route.spec)) for route in await kept.routes(app)]
        return page_of(found, key=lambda route: route.id, limit=limit, cursor=cursor)

    @guarded.add("POST", "/v1/apps/{app}/routes", Action.APP_ROUTES, status_code=201)
    async def add_route(app: AppName, body: RouteBody, caller: Caller) -> RouteView:
        """Add a route beside those of the file."""
        added = await kept.add(app, body.service, body.spec.value(), change_of(caller, body.reason))
        return replace(added, spec=without_logins(added.spec))

    @guarded.add("DELETE", "/v1/apps/{app}/routes/{route}", Action.APP_ROUTES, status_code=204)
    async def remove_route(app: AppName, route: RouteId, caller: Caller) -> None:
        """Remove a route that does not stand in the file."""
        await kept.remove(app, route, change_of(caller))

    return guarded.router
