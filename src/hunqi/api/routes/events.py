"""Events: what was changed, by whom and why, as a list and as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from hunqi.api.access import Caller, GuardedRouter
from hunqi.api.context import Context
from hunqi.api.streams import HEARTBEAT, event, last_event_id, open_stream
from hunqi.apps.errors import AppNotFoundError
from hunqi.identity.model import Actor, AppRef
from hunqi.identity.policy import Action
from hunqi.state.events import Event

_SSE = "text/event-stream"
_PAGE = 200
After = Annotated[int | None, Query(ge=0, lt=2**53, description="Only events after this number.")]
AppQuery = Annotated[str | None, Query(max_length=63, description="Only events of this app.")]


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    guarded = GuardedRouter(context.access, "events")

    @guarded.add(
        "GET", "/v1/events", Action.LIST, response_class=Response,
        responses={200: {"content": {_SSE: {}, "application/json": {}}}},
    )  # fmt: skip
    async def follow_events(
        caller: Caller,
        request: Request,
        *,
        after: After = None,
        app: AppQuery = None,
        follow: Annotated[bool, Query(description="Whether to go on with those that come.")] = True,
    ) -> Response:
        """Stream the events that one may see, from Last-Event-ID or `after` on, else those from now on."""
        start = last_event_id(request, after)
        if start is None:
            start = await context.events.last()
        source = _follow(context, caller, request, start=start, app=app, follow=follow)
        return await open_stream(context.streams, source, media_type=_SSE)

    return guarded.router


@asynccontextmanager
async def _follow(
    context: Context, caller: Actor, request: Request, *, start: int, app: str | None, follow: bool
) -> AsyncGenerator[AsyncIterator[bytes]]:
    async def events() -> AsyncIterator[bytes]:
        seen, who, sight = start, caller, _Sight(context)
        while True:
            found = await context.events.read(after=seen, app=app, limit=_PAGE)
            for each in found:
                seen = each.seq
                if await sight.covers(who, each):
                    yield event(each.kind, asdict(each), id=str(each.seq))
            if found:
                continue
            if not follow:
                return
            if not await context.events.wait(after=seen, timeout_s=context.heartbeat_s):
                who, sight = await context.access.again(request), _Sight(context)
                yield HEARTBEAT

    yield events()


class _Sight:
    """Which events somebody may see; what it knows of apps is as old as itself."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._teams: dict[str, tuple[str, int]] = {}
        """App → its team, and after which event it began."""

    async def covers(self, caller: Actor, found: Event) -> bool:
        """Whether ``caller`` may see the event: those of apps by the app, the others are for administrators."""
        if caller.administers:
            return True
        if found.app is None:
            return False
        if found.app not in self._teams:
            try:
                team = await self._context.rooms.apps.views.team_of(found.app)
            except AppNotFoundError:
                return False
            self._teams[found.app] = team, await self._context.events.removed(found.app)
        team, began = self._teams[found.app]
        if found.kind == "app.removed":
            del self._teams[found.app]
        return found.seq > began and self._context.access.may_see(caller, AppRef(name=found.app, team=team))
