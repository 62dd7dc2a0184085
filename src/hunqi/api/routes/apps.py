"""Apps: what is there, deploys and revisions, and changes that make no revision."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from hunqi.api.access import Caller, GuardedRouter
from hunqi.api.bodies import (
    AppName,
    MaintenanceBody,
    ProjectBody,
    ReasonBody,
    RestartBody,
    RollbackBody,
    RolloutBody,
    ScaleBody,
)
from hunqi.api.context import Context
from hunqi.api.paging import Cursor, Limit, Page, make_cursor, page_of, parse_cursor
from hunqi.api.shown import shown_app
from hunqi.api.streams import HEARTBEAT, event, open_stream
from hunqi.apps.model import Revision
from hunqi.apps.operations import (
    AppView,
    Change,
    Checked,
    Deploy,
    Difference,
    RevisionSummary,
    Submission,
)
from hunqi.apps.rollout_spec import RolloutSpec
from hunqi.identity.model import Actor, AppRef
from hunqi.identity.policy import Action
from hunqi.kit.codec import dumps, encode
from hunqi.rollouts.presets import ANALYSIS_S, weights_of

DeployId = Annotated[str, Path(min_length=1, max_length=32)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
_LOOK_S = 1.0
"""How often a deploy is looked at for changes that another process made."""


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    router = APIRouter()
    for part in (_apps, _deploys, _revisions, _lifecycle):
        router.include_router(part(context))
    return router


def change_of(caller: Actor, reason: str = "") -> Change:
    """Return who changes something and why."""
    return Change(actor=caller.label, reason=reason)


def _apps(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "apps")
    apps = context.rooms.apps

    @guarded.add("GET", "/v1/apps", Action.LIST)
    async def list_apps(caller: Caller, limit: Limit = 50, cursor: Cursor = None) -> Page[AppView]:
        """Return the apps that one may see, by name."""
        seen = [
            shown_app(app)
            for app in await apps.views.list()
            if context.access.may_see(caller, AppRef(name=app.name, team=app.team))
        ]
        return page_of(seen, key=lambda app: app.name, limit=limit, cursor=cursor)

    @guarded.add("GET", "/v1/apps/{app}", Action.APP_SEE)
    async def show_app(app: AppName) -> AppView:
        """Return one app."""
        return shown_app(await apps.views.show(app))

    @guarded.add("DELETE", "/v1/apps/{app}", Action.APP_REMOVE, status_code=202, response_class=Response)
    async def remove_app(
        app: AppName,
        caller: Caller,
        *,
        volumes: Annotated[bool, Query(description="Whether its data go too.")] = False,
        reason: Annotated[str, Query(max_length=500)] = "",
    ) -> Response:
        """Drain and remove everything of the app."""
        await apps.lifecycle.remove(app, change_of(caller, reason), volumes=volumes)
        await context.directory.forget_app(app)
        return Response(status_code=202)

    return guarded.router


def _deploys(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "deploys")
    deploys = context.rooms.apps.deploys

    async def team_of(request: Request, caller: Actor, app: str, wanted: str | None) -> str | None:
        known: AppRef | None = request.state.target
        return None if known is not None else await context.access.team_for_new_app(caller, app, wanted)

    async def reads_of(caller: Actor) -> tuple[str, ...]:
        """Return whose images the caller may pull, as its login at the accelerators would have it."""
        if caller.administers:
            return ("*",)
        refs = [AppRef(name=each.name, team=each.team) for each in await context.rooms.apps.views.list()]
        return tuple(ref.name for ref in refs if caller.role_on(ref) is not None)

    @guarded.add("POST", "/v1/apps/{app}/check", Action.APP_CHECK, may_create=True)
    async def check_app(app: AppName, body: ProjectBody, caller: Caller, request: Request) -> Checked:
        """Say what a deploy would do, and which keys of the files are not honoured, without doing anything."""
        team = await team_of(request, caller, app, body.team)
        return await deploys.check(app, submission_of(body, team, caller, await reads_of(caller)))

    @guarded.add("POST", "/v1/apps/{app}/deploys", Action.APP_DEPLOY, may_create=True, status_code=202)
    async def deploy_app(app: AppName, body: ProjectBody, caller: Caller, request: Request) -> Deploy:
        """Make a revision of a Compose project and begin to deploy it; makes the app if it is new."""
        team = await team_of(request, caller, app, body.team)
        submission = submission_of(body, team, caller, await reads_of(caller))
        return await deploys.deploy(app, submission, change_of(caller, body.reason))

    @guarded.add("GET", "/v1/apps/{app}/deploys", Action.APP_SEE)
    async def list_deploys(app: AppName, limit: Limit = 50, cursor: Cursor = None) -> Page[Deploy]:
        """Return deploys, newest first."""
        before = None if cursor is None else parse_cursor(cursor)
        found = await deploys.deploys(app, limit=limit + 1, before=before)
        items = tuple(found[:limit])
        return Page(items=items, next=make_cursor(items[-1].id) if len(found) > limit else None)

    @guarded.add("GET", "/v1/apps/{app}/deploys/{deploy}", Action.APP_SEE)
    async def show_deploy(app: AppName, deploy: DeployId) -> Deploy:
        """Return one deploy with its progress."""
        return await deploys.find(app, deploy)

    @guarded.add("POST", "/v1/apps/{app}/deploys/{deploy}/cancel", Action.APP_DEPLOY)
    async def cancel_deploy(app: AppName, deploy: DeployId, body: ReasonBody, caller: Caller) -> Deploy:
        """Stop a deploy that has not switched; the old revision goes on."""
        return await deploys.cancel(app, deploy, change_of(caller, body.reason))

    @guarded.add(
        "GET", "/v1/apps/{app}/deploys/{deploy}/events", Action.APP_SEE, response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}}},
    )  # fmt: skip
    async def follow_deploy(app: AppName, deploy: DeployId, request: Request) -> Response:
        """Follow a deploy: an event `progress` with the whole of it at each change, then `end`."""
        await deploys.find(app, deploy)
        source = _progress(context, app, deploy, request)
        return await open_stream(context.streams, source, media_type="text/event-stream")

    @guarded.add("POST", "/v1/apps/{app}/rollback", Action.APP_DEPLOY, status_code=202)
    async def roll_back(app: AppName, body: RollbackBody, caller: Caller) -> Deploy:
        """Deploy a retained revision again."""
        return await deploys.rollback(app, body.revision, change_of(caller, body.reason))

    return guarded.router


@asynccontextmanager
async def _progress(context: Context, app: str, deploy: str, request: Request) -> AsyncGenerator[AsyncIterator[bytes]]:
    async def follow() -> AsyncIterator[bytes]:
        shown, silent_s = "", 0.0
        while True:
            found = await context.rooms.apps.deploys.find(app, deploy)
            if (text := dumps(found)) != shown:
                shown, silent_s = text, 0.0
                kind = "end" if found.state.ended else "progress"
                yield event(kind, full(found), id=found.updated_at.isoformat())
                if found.state.ended:
                    return
            elif silent_s >= context.heartbeat_s:
                silent_s = 0.0
                await context.access.again(request)
                yield HEARTBEAT
            if not await context.directory.database.commits.wait(timeout_s=min(_LOOK_S, context.heartbeat_s)):
                silent_s += min(_LOOK_S, context.heartbeat_s)

    yield follow()


def full(deploy: Deploy) -> object:
    """Return a deploy as the interface shows it elsewhere: with the members that equal their defaults."""
    from pydantic import TypeAdapter

    return TypeAdapter(Deploy).dump_python(deploy, mode="json")


def submission_of(body: ProjectBody, team: str | None, caller: Actor, reads: tuple[str, ...]) -> Submission:
    """Return the project as the apps' room takes it."""
    binary = {path: base64.b64decode(text) for path, text in body.binary.items()}
    return Submission(
        files={**body.files, **binary},
        entry=tuple(body.entry),
        variables=body.variables,
        absent_files=tuple(body.absent.files),
        absent_variables=tuple(body.absent.variables),
        profiles=tuple(body.profiles),
        images=body.images,
        strict=body.strict,
        replacing=body.order,
        team=team,
        privileged=caller.administers,
        rollout=_rollout(body.rollout),
        reads=reads,
    )


def _rollout(body: RolloutBody | None) -> RolloutSpec | None:
    if body is None:
        return None
    weights = tuple((round(each * 100), ANALYSIS_S) for each in body.weights)
    return RolloutSpec(strategy=body.strategy, steps=weights_of(weights))


def _revisions(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "revisions")
    revisions = context.rooms.apps.revisions

    @guarded.add("GET", "/v1/apps/{app}/revisions", Action.APP_SEE)
    async def list_revisions(app: AppName, limit: Limit = 50, cursor: Cursor = None) -> Page[RevisionSummary]:
        """Return revisions, newest first."""
        found = await revisions.history(app)
        return page_of(found, key=lambda each: f"{2**31 - each.number:010}", limit=limit, cursor=cursor)

    @guarded.add("GET", "/v1/apps/{app}/revisions/{number}", Action.APP_SPEC, response_model=None)
    async def show_revision(app: AppName, number: Number) -> dict[str, object]:
        """Return a revision whole: its spec with every image pinned by digest."""
        found: Revision = await revisions.find(app, number)
        return encode(found)

    @guarded.add("GET", "/v1/apps/{app}/revisions/{number}/diff/{other}", Action.APP_SPEC)
    async def diff_revisions(app: AppName, number: Number, other: Number) -> Page[Difference]:
        """Return where two revisions differ."""
        return Page(items=tuple(await revisions.diff(app, number, other)))

    return guarded.router


def _lifecycle(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "apps")
    lifecycle = context.rooms.apps.lifecycle

    @guarded.add("POST", "/v1/apps/{app}/scale", Action.APP_OPERATE)
    async def scale_app(app: AppName, body: ScaleBody, caller: Caller) -> AppView:
        """Set the replicas of services."""
        return shown_app(await lifecycle.scale(app, body.replicas, change_of(caller, body.reason)))

    @guarded.add("POST", "/v1/apps/{app}/restart", Action.APP_OPERATE)
    async def restart_app(app: AppName, body: RestartBody, caller: Caller) -> AppView:
        """Replace every task of services."""
        return shown_app(await lifecycle.restart(app, body.services, change_of(caller, body.reason)))

    @guarded.add("POST", "/v1/apps/{app}/stop", Action.APP_OPERATE)
    async def stop_app(app: AppName, body: ReasonBody, caller: Caller) -> AppView:
        """Drain and stop all tasks; everything else stays."""
        return shown_app(await lifecycle.stop(app, change_of(caller, body.reason)))

    @guarded.add("POST", "/v1/apps/{app}/start", Action.APP_OPERATE)
    async def start_app(app: AppName, body: ReasonBody, caller: Caller) -> AppView:
        """Start a stopped app again."""
        return shown_app(await lifecycle.start(app, change_of(caller, body.reason)))

    @guarded.add("POST", "/v1/apps/{app}/maintenance", Action.APP_OPERATE)
    async def set_maintenance(app: AppName, body: MaintenanceBody, caller: Caller) -> AppView:
        """Answer every route with a text, or (null) with the app again."""
        return shown_app(await lifecycle.maintenance(app, body.text, change_of(caller, body.reason)))

    return guarded.router
