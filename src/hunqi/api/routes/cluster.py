"""Nodes, joining, certificates, the platform; and what is open to all: health, readiness, the description."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from hunqi.api.access import Caller, GuardedRouter
from hunqi.api.bodies import CertificateBody, JoinBody, JoinTokenBody, NodeBody, ReasonBody
from hunqi.api.context import Context
from hunqi.api.idempotency import NOT_KEPT
from hunqi.api.paging import Cursor, Limit, Page, page_of
from hunqi.api.ports import (
    BackupMade,
    CertificateView,
    JoinTokenView,
    NodeChange,
    NodeView,
    PlatformStatus,
)
from hunqi.api.routes.apps import change_of
from hunqi.identity.model import Actor, AppRef
from hunqi.identity.policy import Action
from hunqi.nodes.join import JoinAnswer, JoinRequest

NodeName = Annotated[str, Path(min_length=1, max_length=128, description="A node's name or id.")]
Id = Annotated[str, Path(min_length=1, max_length=64)]
_SECRET: dict[str, Any] = {NOT_KEPT: True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """That the process answers."""

    healthy: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The local authority's certificate, for browsers to trust."""

    certificate_pem: str


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    router = APIRouter()
    for part in (_nodes, _joining, _certificates, _platform, _open):
        router.include_router(part(context))
    return router


def _nodes(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "nodes")
    nodes = context.rooms.nodes

    async def shown(caller: Actor, found: NodeView) -> NodeView:
        """Leave out what is of apps that the caller may not see."""
        if caller.administers or not found.tasks:
            return found
        apps = await context.rooms.apps.views.list()
        mine = {app.name for app in apps if context.access.may_see(caller, AppRef(name=app.name, team=app.team))}
        from dataclasses import replace

        return replace(found, tasks={app: count for app, count in found.tasks.items() if app in mine}, sentence="")

    @guarded.add("GET", "/v1/nodes", Action.CLUSTER_SEE)
    async def list_nodes(caller: Caller, limit: Limit = 50, cursor: Cursor = None) -> Page[NodeView]:
        """Return the machines; of what runs there only what one may see."""
        found = [await shown(caller, node) for node in await nodes.nodes()]
        return page_of(found, key=lambda node: f"{node.name}/{node.id}", limit=limit, cursor=cursor)

    @guarded.add("GET", "/v1/nodes/{node}", Action.CLUSTER_SEE)
    async def show_node(node: NodeName, caller: Caller) -> NodeView:
        """Return one machine."""
        return await shown(caller, await nodes.find(node))

    @guarded.add("PATCH", "/v1/nodes/{node}", Action.CLUSTER_CHANGE)
    async def change_node(node: NodeName, body: NodeBody, caller: Caller) -> NodeView:
        """Change a machine's role or labels."""
        wanted = NodeChange(role=body.role, labels=body.labels)
        return await nodes.change(node, wanted, change_of(caller, body.reason))

    @guarded.add("POST", "/v1/nodes/{node}/drain", Action.CLUSTER_CHANGE, status_code=202)
    async def drain_node(node: NodeName, body: ReasonBody, caller: Caller) -> NodeView:
        """Begin to empty a machine without losing a request."""
        return await nodes.drain(node, change_of(caller, body.reason))

    @guarded.add("POST", "/v1/nodes/{node}/activate", Action.CLUSTER_CHANGE)
    async def activate_node(node: NodeName, body: ReasonBody, caller: Caller) -> NodeView:
        """Let tasks be placed on a machine again."""
        return await nodes.activate(node, change_of(caller, body.reason))

    @guarded.add("DELETE", "/v1/nodes/{node}", Action.CLUSTER_CHANGE, status_code=202, response_class=Response)
    async def remove_node(node: NodeName, caller: Caller, *, force: bool = False) -> Response:
        """Remove a machine that is drained or down from the cluster."""
        await nodes.remove(node, change_of(caller), force=force)
        return Response(status_code=202)

    return guarded.router


def _joining(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "nodes")
    joining = context.rooms.joining

    @guarded.add("POST", "/v1/join-tokens", Action.CLUSTER_CHANGE, status_code=201, openapi_extra=_SECRET)
    async def create_join_token(body: JoinTokenBody, caller: Caller) -> JoinTokenView:
        """Make a token by which one machine joins; shown only now."""
        change = change_of(caller, body.reason)
        return await joining.new_token(body.role, valid_s=body.minutes * 60.0, change=change)

    @guarded.add("GET", "/v1/join-tokens", Action.CLUSTER_CHANGE)
    async def list_join_tokens(limit: Limit = 50, cursor: Cursor = None) -> Page[JoinTokenView]:
        """Return the join tokens that are still good, without secrets."""
        found = await joining.tokens()
        return page_of(found, key=lambda token: token.id, limit=limit, cursor=cursor)

    @guarded.add("DELETE", "/v1/join-tokens/{token}", Action.CLUSTER_CHANGE, status_code=204)
    async def revoke_join_token(token: Id, caller: Caller) -> None:
        """Make a join token useless."""
        await joining.revoke(token, change_of(caller))

    @guarded.add("POST", "/v1/join", Action.JOIN, openapi_extra=_SECRET)
    async def join(body: JoinBody) -> JoinAnswer:
        """Admit a machine that shows a join token."""
        request = JoinRequest(
            secret=body.secret.get_secret_value(),
            name=body.name,
            host=body.host,
            agent_port=body.agent_port,
            agent_request=body.agent_request,
            mirror_request=body.mirror_request,
            node=body.node,
        )
        return await joining.answer(request)

    return guarded.router


def _certificates(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "certificates")
    certificates = context.rooms.certificates

    @guarded.add("GET", "/v1/certificates", Action.CLUSTER_CHANGE)
    async def list_certificates(limit: Limit = 50, cursor: Cursor = None) -> Page[CertificateView]:
        """Return the gateways' certificates, without keys."""
        found = await certificates.certificates()
        return page_of(found, key=lambda certificate: certificate.id, limit=limit, cursor=cursor)

    @guarded.add("POST", "/v1/certificates", Action.CLUSTER_CHANGE, status_code=201)
    async def add_certificate(body: CertificateBody, caller: Caller) -> CertificateView:
        """Have the gateways use a certificate."""
        key = body.key_pem.get_secret_value()
        return await certificates.add(body.chain_pem, key, change_of(caller, body.reason))

    @guarded.add("DELETE", "/v1/certificates/{certificate}", Action.CLUSTER_CHANGE, status_code=204)
    async def remove_certificate(certificate: Id, caller: Caller) -> None:
        """Forget a certificate that was given."""
        await certificates.remove(certificate, change_of(caller))

    @guarded.add("GET", "/v1/ca", Action.AUTHORITY)
    async def show_authority() -> Authority:
        """Return the certificate of the local authority."""
        return Authority(certificate_pem=await certificates.authority())

    return guarded.router


def _platform(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "platform")
    platform = context.rooms.platform

    @guarded.add("GET", "/v1/status", Action.CLUSTER_SEE)
    async def show_status() -> PlatformStatus:
        """Return what is up."""
        return await platform.status()

    @guarded.add("POST", "/v1/backup", Action.CLUSTER_CHANGE)
    async def back_up(body: ReasonBody, caller: Caller) -> BackupMade:
        """Copy the database on the machine that leads."""
        return await platform.back_up(change_of(caller, body.reason))

    return guarded.router


def _open(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "open")
    platform = context.rooms.platform

    @guarded.add("GET", "/health", Action.HEALTH)
    async def health() -> Health:
        """Say that this process answers."""
        return Health()

    @guarded.add("GET", "/ready", Action.HEALTH, response_class=PlainTextResponse, responses={503: {}})
    async def ready() -> PlainTextResponse:
        """Say whether this process can serve: 200, or 503."""
        is_ready = await platform.is_ready()
        return PlainTextResponse("ready\n" if is_ready else "not ready\n", status_code=200 if is_ready else 503)

    @guarded.add("GET", "/v1/openapi.json", Action.SCHEMA, response_class=JSONResponse, include_in_schema=False)
    async def describe(request: Request) -> JSONResponse:
        """Return the description of this interface."""
        return JSONResponse(request.app.openapi())

    @guarded.add("GET", "/v1/schemas/x-hunqi", Action.SCHEMA, response_model=None)
    async def x_hunqi_schema() -> Mapping[str, Any]:
        """Return the JSON Schema of `x-hunqi` in Compose files, for editors."""
        return dict(platform.x_hunqi_schema())

    return guarded.router
