"""The agent's HTTP over mutual TLS: paths to what answers them, and errors to their form on the wire."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import quote

import orjson
from aiohttp import web

from hunqi.agent.access import admit
from hunqi.agent.certificates import Certificates
from hunqi.agent.chores import Chores
from hunqi.agent.door import Door
from hunqi.agent.drains import Drains
from hunqi.agent.engine import EngineWatch
from hunqi.agent.errors import BadRequestError, NoControlError, NoGatewayError, NotAllowedError, NotOursError
from hunqi.agent.images import Images
from hunqi.agent.measuring import Measuring
from hunqi.agent.reports import Reports
from hunqi.agent.requests import RequestLog
from hunqi.agent.rosters import RosterFile
from hunqi.agent.settings import AgentSettings
from hunqi.agent.stops import Stops
from hunqi.agent.streams import Streams
from hunqi.agent.tables import Tables
from hunqi.engine.errors import ConflictError, NotFoundError
from hunqi.errors import DependencyError, HunqiError, InvariantError, UserError
from hunqi.kit.codec import CodecError, encode, loads
from hunqi.nodes.model import AgentStatus, Roster
from hunqi.nodes.wire import (
    MAX_DRAIN_S,
    MAX_WAIT_S,
    PROBLEM_HEADER,
    DrainAnswer,
    DrainOrder,
    GivenCertificates,
    ImageList,
    PinOrder,
    RequestQuery,
    ScrapeOrder,
    TakenTable,
)

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
"""A table of 200 apps has about 1 MiB."""
_MAX_TOLD: Final = 1000
_STATUS: Final[tuple[tuple[type[HunqiError], int], ...]] = (
    (NotAllowedError, 403),
    (BadRequestError, 400),
    (NotOursError, 404),
    (NotFoundError, 404),
    (ConflictError, 409),
    (NoControlError, 503),
    (UserError, 422),
    (DependencyError, 502),
    (InvariantError, 500),
)
"""The first that fits decides; what fits none is our fault (500)."""
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentParts:
    """What answers."""

    tables: Tables
    reports: Reports
    drains: Drains
    stops: Stops
    roster: RosterFile
    streams: Streams
    chores: Chores
    images: Images
    door: Door
    certificates: Certificates
    engine: EngineWatch
    measuring: Measuring
    requests: RequestLog


class AgentServer:
    """Serves one agent's parts."""

    def __init__(self, settings: AgentSettings, parts: AgentParts) -> None:
        self._settings = settings
        self._parts = parts

    async def start(self) -> web.AppRunner:
        """Listen; return what is to be cleaned up at the end. Raises ``OSError``, ``IdentityError``."""
        app = web.Application(middlewares=[self._middleware], client_max_size=MAX_BODY_BYTES)
        parts = self._parts
        app.router.add_get("/v1/ca", parts.door.authority)
        app.router.add_post("/v1/join", parts.door.join)
        app.router.add_get("/v1/status", self._status)
        app.router.add_put("/v1/roster", self._put_roster)
        app.router.add_get("/v1/certificates", self._certificate_requests)
        app.router.add_put("/v1/certificates", self._put_certificates)
        app.router.add_put("/v1/gateway/table", self._put_table)
        app.router.add_get("/v1/gateway/report", self._report)
        app.router.add_post("/v1/gateway/drain", self._drain)
        app.router.add_get("/v1/metrics", self._metrics)
        app.router.add_post("/v1/metrics", self._metrics)
        app.router.add_post("/v1/requests", self._requests)
        app.router.add_get("/v1/exec", parts.streams.execute)
        app.router.add_get("/v1/forward", parts.streams.forward)
        app.router.add_get("/v1/files", parts.streams.get_files)
        app.router.add_put("/v1/files", parts.streams.put_files)
        app.router.add_get("/v1/health", self._health)
        app.router.add_delete("/v1/volumes", self._volumes)
        app.router.add_post("/v1/images/pins", self._pins)
        app.router.add_post("/v1/images/warm", self._warm)
        app.router.add_post("/v1/images/held", self._held)
        app.router.add_post("/v1/images/prune", self._prune)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        context = parts.certificates.server_context()
        await web.TCPSite(runner, self._settings.host, self._settings.port, ssl_context=context).start()
        return runner

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            certificate: Any = request.transport.get_extra_info("peercert") if request.transport else None
            agents = self._parts.roster.current().agents
            admit(request.path, certificate or None, cluster=self._settings.cluster, agents=agents)
            return await handler(request)
        except HunqiError as error:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
            _log.info("%s %s: %s: %s", request.method, request.path, error.code, error)
            told = {PROBLEM_HEADER: quote(f"{error.code} {error}"[:_MAX_TOLD])}
            return web.json_response({"code": error.code, "message": str(error)}, status=status, headers=told)
        except web.HTTPException as error:
            return web.json_response({"code": "agent.http", "message": error.reason}, status=error.status)
        except OSError as error:
            _log.warning("%s %s: %s", request.method, request.path, error)
            return web.json_response({"code": "agent.disk", "message": str(error)}, status=507)
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return web.json_response({"code": InvariantError.code, "message": "internal error"}, status=500)

    async def _status(self, _request: web.Request) -> web.StreamResponse:
        return _json(self._own_status())

    def _own_status(self) -> AgentStatus:
        parts = self._parts
        return AgentStatus(
            node=self._settings.node,
            version=self._settings.version,
            table=parts.tables.version,
            roster=parts.roster.current().version,
            gateway=parts.reports.latest.running,
            draining=parts.stops.tasks,
            problem=parts.tables.problem,
            expires_at=parts.certificates.expires_at,
            renew=parts.certificates.renew,
            clock=parts.certificates.now,
            engine=parts.engine.problem,
        )

    async def _put_roster(self, request: web.Request) -> web.StreamResponse:
        if await self._parts.roster.take(await _read(request, Roster)):
            await self._parts.images.reload_mirror()
        return _json(self._own_status())

    async def _certificate_requests(self, _request: web.Request) -> web.StreamResponse:
        return _json(await self._parts.certificates.request())

    async def _put_certificates(self, request: web.Request) -> web.StreamResponse:
        given = await _read(request, GivenCertificates)
        await self._parts.certificates.take(given, reload_mirror=self._parts.images.reload_mirror)
        return _json(self._own_status())

    async def _put_table(self, request: web.Request) -> web.StreamResponse:
        if not self._settings.has_gateway:
            raise NoGatewayError
        try:
            version = await self._parts.tables.take(await request.read())
        except CodecError as error:
            raise BadRequestError(str(error)) from error
        self._parts.reports.wake()
        return _json(TakenTable(version=version))

    async def _report(self, request: web.Request) -> web.StreamResponse:
        wait_s = min(_number(request.query.get("wait_s", "0")), MAX_WAIT_S)
        return _json(await self._parts.reports.wait(request.query.get("after", ""), wait_s=wait_s))

    async def _drain(self, request: web.Request) -> web.StreamResponse:
        order = await _read(request, DrainOrder)
        busy = await self._parts.drains.drain(order.tasks, timeout_s=min(max(order.timeout_s, 0.0), MAX_DRAIN_S))
        return _json(DrainAnswer(busy=busy))

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        order = await _read(request, ScrapeOrder) if request.method == "POST" else ScrapeOrder()
        sample = await self._parts.measuring.sample(self._settings.node, order)
        return web.Response(body=orjson.dumps(encode(sample)), content_type="application/json")

    async def _requests(self, request: web.Request) -> web.StreamResponse:
        lines = await self._parts.requests.read(await _read(request, RequestQuery))
        return web.Response(body=orjson.dumps(encode(lines)), content_type="application/json")

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._parts.chores.health(request.query.get("container", "")))

    async def _volumes(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._parts.chores.remove_volumes(request.query.get("app", "")))

    async def _pins(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._parts.images.set_pins((await _read(request, PinOrder)).pins))

    async def _warm(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._parts.images.warm((await _read(request, ImageList)).images))

    async def _held(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._parts.images.held((await _read(request, ImageList)).images))

    async def _prune(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._parts.images.prune((await _read(request, ImageList)).images))


def _json(value: object) -> web.Response:
    return web.json_response(encode(value))


async def _read(request: web.Request, kind: type[T]) -> T:
    try:
        return loads(kind, await request.read())
    except CodecError as error:
        raise BadRequestError(str(error)) from error


def _number(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError as error:
        raise BadRequestError(f"{text[:20]!r} is no number of seconds") from error
