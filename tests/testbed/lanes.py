"""Two revisions behind one real Envoy, and a client that asks thousands of times: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from hunqi.apps.lanes import LaneMatch
from hunqi.gateway.model import AppLane, Edge, Endpoint, Route, RouteTable, Target
from testbed.gateway import cluster, route, table

OLD, NEW = "shop_web-r1:8080", "shop_web-r2:8080"
EDGE = Edge(trusted_proxies=("127.0.0.1/32",))
_PIPELINED = 50
_CONNECTIONS = 8


@dataclass(slots=True)
class Canned:
    """A task that answers each request at once with its name."""

    name: str
    port: int = 0
    heads: list[str] = field(default_factory=list)
    """Of requests that are no checks, as they came."""
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Answering(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    def endpoint(self) -> Endpoint:
        return Endpoint(address="127.0.0.1", port=self.port, task=self.name, node="n1")

    def named(self, header: str) -> list[str]:
        """Return the values of a header, of each request that had it."""
        lines = (line for head in self.heads for line in head.split("\r\n")[1:])
        return [line.partition(": ")[2] for line in lines if line.lower().startswith(header + ":")]


class _Answering(asyncio.Protocol):
    def __init__(self, task: Canned) -> None:
        self._task = task
        self._rest = b""
        body = task.name.encode()
        self._answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        self._transport.write(self._answer * len(heads))
        self._task.heads += [each.decode("latin-1") for each in heads if b"/healthz" not in each]


@contextlib.asynccontextmanager
async def canned(*names: str) -> AsyncIterator[list[Canned]]:
    """Run a task of each name for as long as the block."""
    tasks = [Canned(each) for each in names]
    for each in tasks:
        await each.start()
    try:
        yield tasks
    finally:
        for each in tasks:
            await each.stop()


def lane(weight: int = 0, *matches: LaneMatch, **changes: object) -> AppLane:
    """Return a lane ``r2`` of the shop."""
    made = AppLane(app="shop", name="r2", salt="spring", weight=weight, matches=matches)
    return replace(made, **changes)  # type: ignore[arg-type]


def new(host: str = "shop.test", *targets: Target, **spec: object) -> Route:
    """Return a route of the lane."""
    return replace(route(host, *(targets or (Target(cluster=NEW),)), **spec), lane="r2")


def split(old: Any, fresh: Any, lanes: AppLane | None, *more: Route, version: int, **rest: Any) -> RouteTable:
    """Return a table of both revisions; without a lane, as after an abort, only the old one is routed."""
    clusters = cluster(old.endpoint(), hold_s=5.0), cluster(fresh.endpoint(), name=NEW, revision=2, hold_s=5.0)
    routes = (route(), *((new(), *more) if lanes else ()))
    made = table(*clusters, routes=routes, lanes=(lanes,) if lanes else (), version=version, edge=EDGE)
    return replace(made, **rest)


@dataclass(frozen=True, slots=True)
class Said:
    """Who answered, and which id was issued."""

    status: int
    task: str
    cookie: str


async def ask(port: int, heads: Iterable[str], *, path: str = "/") -> list[Said]:
    """Send a GET for each of ``heads`` (more header lines, or none), many at a time; answers come in their order."""
    lines = list(heads)
    texts = [f"GET {path} HTTP/1.1\r\nhost: shop.test\r\n{each}\r\n".encode() for each in lines]
    size = -(-len(texts) // _CONNECTIONS)
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(_pipeline(port, texts[at : at + size])) for at in range(0, len(texts), size)]
    return [each for part in parts for each in part.result()]


def counted(said: Iterable[Said]) -> Counter[str]:
    """Return how often each task answered."""
    return Counter(each.task for each in said)


async def _pipeline(port: int, texts: list[bytes]) -> list[Said]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found: list[Said] = []
    for at in range(0, len(texts), _PIPELINED):
        some = texts[at : at + _PIPELINED]
        writer.writelines(some)
        found += [await _answer(reader) for _ in some]
    writer.close()
    await writer.wait_closed()
    return found


async def _answer(reader: asyncio.StreamReader) -> Said:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(fields.get("content-length", "0")))
    cookie = fields.get("set-cookie", "").partition(";")[0].partition("=")[2]
    return Said(int(first.split()[1]), body.decode(), cookie)
