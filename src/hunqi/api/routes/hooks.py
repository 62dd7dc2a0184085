"""Webhooks: of an app, and of the whole cluster."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field, StringConstraints

from hunqi.api.access import Caller, GuardedRouter
from hunqi.api.bodies import AppName, ReasonBody
from hunqi.api.context import Context
from hunqi.api.idempotency import NOT_KEPT
from hunqi.api.paging import Cursor, Limit, Page, page_of
from hunqi.api.routes.apps import change_of
from hunqi.hooks.model import Hook, HookDelivery
from hunqi.identity.policy import Action

HookId = Annotated[str, Path(min_length=1, max_length=64)]
Kind = Annotated[str, StringConstraints(min_length=1, max_length=48)]
_SECRET: dict[str, Any] = {NOT_KEPT: True}


class HookBody(ReasonBody):
    """A webhook."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    kinds: list[Kind] = Field(default=[], max_length=50)
    """Patterns of kinds of events, such as ``rollout.*``; empty means all."""


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    router = APIRouter()
    for part in (_of_apps, _of_cluster):
        router.include_router(part(context))
    return router


def _of_apps(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "hooks")
    hooks = context.rooms.hooks

    @guarded.add("GET", "/v1/apps/{app}/hooks", Action.APP_GRANT)
    async def list_app_hooks(app: AppName, limit: Limit = 50, cursor: Cursor = None) -> Page[Hook]:
        """Return the app's webhooks, without secrets."""
        return page_of(await hooks.hooks(app), key=lambda hook: hook.id, limit=limit, cursor=cursor)

    @guarded.add("POST", "/v1/apps/{app}/hooks", Action.APP_GRANT, status_code=201, openapi_extra=_SECRET)
    async def add_app_hook(app: AppName, body: HookBody, caller: Caller) -> Hook:
        """Have an URL told of the app's events from now on; the answer has the secret, which nobody is shown again."""
        change = change_of(caller, body.reason)
        return await hooks.add(app, body.url, body.kinds, change, trusted=caller.administers)

    @guarded.add("DELETE", "/v1/apps/{app}/hooks/{hook}", Action.APP_GRANT, status_code=204)
    async def remove_app_hook(app: AppName, hook: HookId, caller: Caller) -> None:
        """Forget a webhook."""
        await hooks.remove(app, hook, change_of(caller))

    @guarded.add("GET", "/v1/apps/{app}/hooks/{hook}/deliveries", Action.APP_GRANT)
    async def list_app_hook_deliveries(app: AppName, hook: HookId, limit: Limit = 50) -> Page[HookDelivery]:
        """Return the last attempts to tell a webhook, newest first."""
        return Page(items=tuple(await hooks.deliveries(app, hook, limit=limit)))

    @guarded.add("POST", "/v1/apps/{app}/hooks/{hook}/test", Action.APP_GRANT)
    async def test_app_hook(app: AppName, hook: HookId) -> HookDelivery:
        """Tell a webhook of an event ``hook.test``, once, and return what came of it."""
        return await hooks.test(app, hook)

    return guarded.router


def _of_cluster(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "hooks")
    hooks = context.rooms.hooks

    @guarded.add("GET", "/v1/hooks", Action.CLUSTER_CHANGE)
    async def list_hooks(limit: Limit = 50, cursor: Cursor = None) -> Page[Hook]:
        """Return the webhooks that are told of everything, without secrets."""
        return page_of(await hooks.hooks(None), key=lambda hook: hook.id, limit=limit, cursor=cursor)

    @guarded.add("POST", "/v1/hooks", Action.CLUSTER_CHANGE, status_code=201, openapi_extra=_SECRET)
    async def add_hook(body: HookBody, caller: Caller) -> Hook:
        """Have an URL told of all events from now on; the answer has the secret, which nobody is shown again."""
        return await hooks.add(None, body.url, body.kinds, change_of(caller, body.reason), trusted=True)

    @guarded.add("DELETE", "/v1/hooks/{hook}", Action.CLUSTER_CHANGE, status_code=204)
    async def remove_hook(hook: HookId, caller: Caller) -> None:
        """Forget a webhook."""
        await hooks.remove(None, hook, change_of(caller))

    @guarded.add("GET", "/v1/hooks/{hook}/deliveries", Action.CLUSTER_CHANGE)
    async def list_hook_deliveries(hook: HookId, limit: Limit = 50) -> Page[HookDelivery]:
        """Return the last attempts to tell a webhook, newest first."""
        return Page(items=tuple(await hooks.deliveries(None, hook, limit=limit)))

    @guarded.add("POST", "/v1/hooks/{hook}/test", Action.CLUSTER_CHANGE)
    async def test_hook(hook: HookId) -> HookDelivery:
        """Tell a webhook of an event ``hook.test``, once, and return what came of it."""
        return await hooks.test(None, hook)

    return guarded.router
