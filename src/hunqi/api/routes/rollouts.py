"""Rollouts: how an app's newest revision comes to its users, and what can be said to it on the way."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from hunqi.api.access import Caller, GuardedRouter
from hunqi.api.bodies import AppName, ReasonBody
from hunqi.api.context import Context
from hunqi.api.paging import Cursor, Limit, Page, page_of
from hunqi.api.routes.apps import change_of
from hunqi.apps.operations import Deploy
from hunqi.identity.model import Actor, AppRef
from hunqi.identity.policy import Action
from hunqi.rollouts.commands import Verb
from hunqi.rollouts.model import Look
from hunqi.rollouts.views import RolloutView


class PromoteBody(ReasonBody):
    """How far to promote: to the next step; with ``full`` past all; with ``force`` too, ready or not."""

    full: bool = False
    force: bool = False


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    router = APIRouter()
    for part in (_looking, _saying, _anew):
        router.include_router(part(context))
    return router


def _looking(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "rollouts")
    rollouts, views = context.rooms.rollouts, context.rooms.apps.views

    @guarded.add("GET", "/v1/rollouts", Action.LIST)
    async def list_rollouts(caller: Caller, limit: Limit = 50, cursor: Cursor = None) -> Page[RolloutView]:
        """Return the last rollout of each app that one may see, by app."""
        seen = await _seen(context, caller)
        found = [each for each in await rollouts.list() if each.app in seen]
        return page_of(found, key=lambda each: each.app, limit=limit, cursor=cursor)

    @guarded.add("GET", "/v1/apps/{app}/rollout", Action.APP_SEE)
    async def show_rollout(app: AppName) -> RolloutView:
        """Return the app's last rollout: its steps and where it is, what was found, and what happens next."""
        await views.team_of(app)
        return await rollouts.show(app)

    @guarded.add("GET", "/v1/apps/{app}/rollout/looks", Action.APP_SEE)
    async def list_looks(
        app: AppName,
        limit: Limit = 200,
        cursor: Cursor = None,
        since: Annotated[float, Query(ge=0, allow_inf_nan=False, description="Seconds since the epoch.")] = 0.0,
    ) -> Page[Look]:
        """Return what was seen of the app's last rollout, oldest first: weights, findings and their numbers."""
        await views.team_of(app)
        found = [each for each in await rollouts.looks(app) if each.at >= since]
        return page_of(found, key=lambda each: f"{each.seq:012}", limit=limit, cursor=cursor)

    return guarded.router


async def _seen(context: Context, caller: Actor) -> set[str]:
    apps = await context.rooms.apps.views.list()
    return {each.name for each in apps if context.access.may_see(caller, AppRef(name=each.name, team=each.team))}


def _saying(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "rollouts")
    rollouts = context.rooms.rollouts

    @guarded.add("POST", "/v1/apps/{app}/rollout/promote", Action.APP_DEPLOY)
    async def promote_rollout(app: AppName, body: PromoteBody, caller: Caller) -> RolloutView:
        """Have it go on: to the next step, with `full` past all that are left, with `force` whether ready or not."""
        verb = Verb.PROMOTE_FORCE if body.force else Verb.PROMOTE_FULL if body.full else Verb.PROMOTE
        return await rollouts.say(app, verb, change_of(caller, body.reason))

    @guarded.add("POST", "/v1/apps/{app}/rollout/pause", Action.APP_DEPLOY)
    async def pause_rollout(app: AppName, body: ReasonBody, caller: Caller) -> RolloutView:
        """Have it stand where it is; its measures are looked at, and abort it if they fail."""
        return await rollouts.say(app, Verb.PAUSE, change_of(caller, body.reason))

    @guarded.add("POST", "/v1/apps/{app}/rollout/resume", Action.APP_DEPLOY)
    async def resume_rollout(app: AppName, body: ReasonBody, caller: Caller) -> RolloutView:
        """Have one that stands go on."""
        return await rollouts.say(app, Verb.RESUME, change_of(caller, body.reason))

    @guarded.add("POST", "/v1/apps/{app}/rollout/approve", Action.APP_DEPLOY)
    async def approve_rollout(app: AppName, body: ReasonBody, caller: Caller) -> RolloutView:
        """Give the consent that a step asks for."""
        return await rollouts.say(app, Verb.APPROVE, change_of(caller, body.reason))

    @guarded.add("POST", "/v1/apps/{app}/rollout/abort", Action.APP_DEPLOY)
    async def abort_rollout(app: AppName, body: ReasonBody, caller: Caller) -> RolloutView:
        """Have all users go back to the old revision."""
        return await rollouts.say(app, Verb.ABORT, change_of(caller, body.reason))

    return guarded.router


def _anew(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "rollouts")
    rollouts = context.rooms.rollouts

    @guarded.add("POST", "/v1/apps/{app}/rollout/retry", Action.APP_DEPLOY, status_code=202)
    async def retry_rollout(app: AppName, body: ReasonBody, caller: Caller) -> Deploy:
        """Begin one anew that was aborted or failed, from its first step."""
        return await rollouts.retry(app, change_of(caller, body.reason))

    @guarded.add("POST", "/v1/apps/{app}/rollout/undo", Action.APP_DEPLOY, status_code=202)
    async def undo_rollout(app: AppName, body: ReasonBody, caller: Caller) -> Deploy:
        """Go back to the revision that served before, without steps within the window; ends one under way."""
        return await rollouts.undo(app, change_of(caller, body.reason))

    return guarded.router
