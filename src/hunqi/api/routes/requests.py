"""What the gateways answered: an app's lines of their access logs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Response

from hunqi.api.access import GuardedRouter
from hunqi.api.bodies import AppName
from hunqi.api.context import Context
from hunqi.api.routes.tasks import LINES
from hunqi.api.streams import line, mapped, open_stream
from hunqi.identity.policy import Action
from hunqi.nodes.wire import RequestLine, RequestQuery


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    guarded = GuardedRouter(context.access, "requests")
    requests = context.rooms.requests

    @guarded.add(
        "GET", "/v1/apps/{app}/requests", Action.APP_LOGS, response_class=Response,
        responses={200: {"content": {LINES: {}}}},
    )  # fmt: skip
    async def read_requests(
        app: AppName,
        *,
        service: Annotated[str, Query(max_length=200)] = "",
        revision: Annotated[int | None, Query(ge=1, lt=2**31, description="That of the Swarm service.")] = None,
        status: Annotated[str, Query(pattern=r"^([1-5](xx|[0-9]{2}))?$", description="404, or 5xx for all.")] = "",
        limit: Annotated[int, Query(ge=1, le=1000, description="The last so many.")] = 100,
        follow: Annotated[bool, Query(description="Whether to go on with those that come.")] = False,
    ) -> Response:
        """Stream the last requests to the app that gateways answered, a JSON object on each line, in order of time."""
        query = RequestQuery(app=app, service=service, revision=revision, status=status, limit=limit)
        source = requests.open(query, follow=follow)
        return await open_stream(context.streams, mapped(source, _line), media_type=LINES)

    return guarded.router


def _line(request: RequestLine) -> bytes:
    return line(asdict(request))
