"""What is measured: values of an app, what is busiest, everything for a scraper; and servers to ask for more."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field, SecretStr, StringConstraints

from hunqi.api.access import Caller, GuardedRouter
from hunqi.api.bodies import AppName, Body
from hunqi.api.context import Context
from hunqi.api.errors import NotLeaderError
from hunqi.api.idempotency import NOT_KEPT
from hunqi.api.paging import Cursor, Limit, Page, page_of
from hunqi.identity.errors import TeamNotFoundError
from hunqi.identity.model import Actor, AppRef, TeamRef
from hunqi.identity.policy import Action, Decision, decide
from hunqi.telemetry.exposition import MEDIA_TYPE
from hunqi.telemetry.operations import MetricAnswer, MetricQuery, NewSource, SourceView, TopRow

_YEAR_S: Final = 366 * 86_400
Measure = Annotated[
    str,
    Path(
        min_length=1,
        max_length=800,
        description="rps, error-rate, success-rate, p50, p90, p95, p99, active, held, cpu, memory, tasks, "
        "or the name of a metric of the app's own.",
    ),
]
Moment = Annotated[float | None, Query(ge=0, le=1e11, allow_inf_nan=False, description="Seconds since 1970.")]
SourceName = Annotated[str, Path(pattern="^[a-z0-9][a-z0-9-]{0,62}$")]


class SourceBody(Body):
    """A server that answers Prometheus queries."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    token: Annotated[SecretStr, Field(min_length=1, max_length=8192)] | None = None
    """Sent to it as a bearer token."""
    ca_pem: Annotated[str, StringConstraints(max_length=100_000)] | None = None
    """What is trusted for it, in place of the system's authorities."""


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    router = APIRouter()
    for part in (_measures, _sources):
        router.include_router(part(context))
    return router


def _measures(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "metrics")
    metrics = context.rooms.telemetry.metrics

    def lead() -> None:
        """Only the leader hears the nodes."""
        leader = context.rooms.leader
        if not leader.leading:
            raise NotLeaderError(leader.address, machine=leader.machine)

    async def seen(caller: Actor, team: str | None = None) -> set[str]:
        wanted = None if team is None else await _team_id(context, caller, team)
        return {
            app.name
            for app in await context.rooms.apps.views.list()
            if context.access.may_see(caller, AppRef(name=app.name, team=app.team)) and wanted in {None, app.team}
        }

    @guarded.add("GET", "/v1/apps/{app}/metrics/{measure}", Action.APP_SEE)
    async def query_metric(
        app: AppName,
        measure: Measure,
        *,
        service: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
        revision: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
        since_s: Annotated[float, Query(gt=0, le=_YEAR_S, allow_inf_nan=False, description="How far back.")] = 3600,
        since: Moment = None,
        until: Moment = None,
        step_s: Annotated[int | None, Query(ge=5, le=86_400)] = None,
        by: Annotated[Literal["service", "revision", "task", "node"] | None, Query()] = None,
    ) -> MetricAnswer:
        """Return values of a measure over a time, from memory and from the history; `since` overrides `since_s`."""
        lead()
        query = MetricQuery(
            measure=measure,
            service=service,
            revision=revision,
            since=since if since is not None else (until or time.time()) - since_s,
            until=until,
            step_s=step_s,
            by=by or "",
        )
        return await metrics.query(app, query)

    @guarded.add("GET", "/v1/metrics/top", Action.LIST)
    async def list_busiest(
        caller: Caller,
        team: Annotated[str | None, Query(min_length=1, max_length=63, description="Only apps of this team.")] = None,
    ) -> Page[TopRow]:
        """Return what the services that one may see do now, busiest first."""
        lead()
        return Page(items=tuple(metrics.top(await seen(caller, team))))

    @guarded.add(
        "GET", "/v1/metrics", Action.LIST, response_class=Response, responses={200: {"content": {MEDIA_TYPE: {}}}}
    )
    async def expose_metrics(caller: Caller) -> Response:
        """Return everything that is counted of the apps that one may see, as OpenMetrics, for a scraper."""
        lead()
        text = metrics.exposition(await seen(caller))
        return Response(text, headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"})

    return guarded.router


async def _team_id(context: Context, caller: Actor, team: str) -> str:
    """Return the id of a team that one is in. Raises ``TeamNotFoundError``, the same for one that is hidden."""
    with contextlib.suppress(TeamNotFoundError):
        found = await context.directory.teams.find(team)
        if decide(caller, Action.TEAM_SEE, TeamRef(id=found.id)) is Decision.ALLOW:
            return found.id
    raise TeamNotFoundError("there is no such team, or you are not in it")


def _sources(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "metrics")
    sources = context.rooms.telemetry.sources

    @guarded.add("GET", "/v1/metric-sources", Action.CLUSTER_CHANGE)
    async def list_metric_sources(limit: Limit = 50, cursor: Cursor = None) -> Page[SourceView]:
        """Return the servers that answer Prometheus queries, without their tokens."""
        return page_of(await sources.sources(), key=lambda source: source.name, limit=limit, cursor=cursor)

    @guarded.add("PUT", "/v1/metric-sources/{source}", Action.CLUSTER_CHANGE, openapi_extra={NOT_KEPT: True})
    async def set_metric_source(source: SourceName, body: SourceBody, caller: Caller) -> SourceView:
        """Add a server that answers Prometheus queries, or replace it."""
        token = body.token.get_secret_value() if body.token else None
        return await sources.put(source, NewSource(url=body.url, token=token, ca_pem=body.ca_pem), actor=caller.label)

    @guarded.add("DELETE", "/v1/metric-sources/{source}", Action.CLUSTER_CHANGE, status_code=204)
    async def remove_metric_source(source: SourceName, caller: Caller) -> None:
        """Forget a server."""
        await sources.remove(source, actor=caller.label)

    return guarded.router
