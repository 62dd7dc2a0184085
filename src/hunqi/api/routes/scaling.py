"""Elastic scaling: what moves the services of an app, and the decisions with the numbers behind them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from hunqi.api.access import Caller, GuardedRouter
from hunqi.api.bodies import AppName, ReasonBody
from hunqi.api.context import Context
from hunqi.api.paging import Cursor, Limit, Page, page_of
from hunqi.api.routes.apps import change_of
from hunqi.identity.policy import Action
from hunqi.scaling.model import Decision, Scaled

ServiceName = Annotated[str, Path(min_length=1, max_length=63, description="A service of the app.")]


class AutoscaleBody(ReasonBody):
    """How load moves a service, in place of what the file says."""

    scale: dict[str, Any] = Field(default={}, max_length=50)
    """The fields of `x-hunqi.scale`: `{"max": 10, "cpu": "70%"}`."""
    off: bool = False
    """Whether load is not to move it at all."""


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    guarded = GuardedRouter(context.access, "scaling")
    scaling = context.rooms.scaling

    @guarded.add("GET", "/v1/apps/{app}/scaling", Action.APP_SEE)
    async def list_scaled(app: AppName, limit: Limit = 50, cursor: Cursor = None) -> Page[Scaled]:
        """Return the services that load moves, each with its last decision and what was said of its history."""
        found = await scaling.scaled(app)
        return page_of(found, key=lambda each: each.service, limit=limit, cursor=cursor)

    @guarded.add("GET", "/v1/apps/{app}/scaling/decisions", Action.APP_SEE)
    async def list_decisions(
        app: AppName,
        service: Annotated[str | None, Query(max_length=63)] = None,
        limit: Limit = 50,
    ) -> list[Decision]:
        """Return the last decisions, newest first, with every number behind them."""
        return list(await scaling.decisions(app, service=service, limit=limit))

    @guarded.add("GET", "/v1/apps/{app}/services/{service}/autoscale", Action.APP_SEE)
    async def show_autoscale(app: AppName, service: ServiceName) -> Scaled:
        """Return how load moves a service."""
        return await scaling.find(app, service)

    @guarded.add("PUT", "/v1/apps/{app}/services/{service}/autoscale", Action.APP_OPERATE)
    async def put_autoscale(app: AppName, service: ServiceName, body: AutoscaleBody, caller: Caller) -> Scaled | None:
        """Have load move a service so, or not at all, whatever the file says."""
        change = change_of(caller, body.reason)
        if body.off:
            await scaling.off(app, service, change)
            return None
        return await scaling.set(app, service, body.scale, change)

    @guarded.add("DELETE", "/v1/apps/{app}/services/{service}/autoscale", Action.APP_OPERATE, status_code=204)
    async def remove_autoscale(app: AppName, service: ServiceName, caller: Caller) -> None:
        """Have the file say it again."""
        await scaling.forget(app, service, change_of(caller))

    return guarded.router
