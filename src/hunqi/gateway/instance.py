"""One Envoy container as the node's gateway drives it: its files, its admin interface, its end of the hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hunqi.gateway.admin import Admin, AdminUnreachableError, open_admin
from hunqi.gateway.boxes import GatewaySettings, bootstrap_of, place_of
from hunqi.gateway.envoy import Envoy
from hunqi.gateway.hold import Holds, serve_holds
from hunqi.gateway.model import Edge, EndpointHealth, GatewayReport, RouteTable
from hunqi.gateway.page import RoutesPage
from hunqi.gateway.render.bootstrap import ADMIN_SOCKET
from hunqi.kit.files import write_atomic

HOLD_SOCKET: Final = "hold.sock"
_BOOTSTRAP: Final = "bootstrap.json"
_ACTIVE: Final = r"^http\.(public|internal)\.downstream_cx_active$|^tcp\.[a-z]+\.downstream_cx_active$"


@dataclass(frozen=True, slots=True)
class Instance:
    """An Envoy and how to speak to it."""

    digest: str
    envoy: Envoy
    admin: Admin

    async def ready(self) -> bool:
        """Whether it takes requests."""
        return await self.admin.ready()

    async def drain(self) -> None:
        """Have it send clients away, and close its listeners in the end. Raises ``AdminUnreachableError``."""
        await self.admin.drain()

    async def connections(self) -> int:
        """Return how many connections are open; 0 if it does not answer."""
        try:
            said = await self.admin.stats(_ACTIVE)
        except AdminUnreachableError:
            return 0
        return sum(int(each) for each in said.values())


def folder_of(settings: GatewaySettings, digest: str) -> Path:
    """Return where an Envoy's files lie, as we see it."""
    return settings.folder / digest


async def prepare(settings: GatewaySettings, digest: str, edge: Edge, table: RouteTable) -> None:
    """Write all that an Envoy needs to start with ``table``. Raises ``OSError``."""
    folder = folder_of(settings, digest)
    await asyncio.to_thread(folder.mkdir, 0o700, parents=True, exist_ok=True)
    bootstrap = json.dumps(bootstrap_of(settings, edge)).encode()
    await asyncio.to_thread(write_atomic, folder / _BOOTSTRAP, bootstrap, mode=0o600)
    async with open_admin(folder / ADMIN_SOCKET) as admin:
        await Envoy(folder, place_of(settings), admin).apply(table)


@asynccontextmanager
async def open_instance(
    settings: GatewaySettings, digest: str, holds: Holds, page: RoutesPage
) -> AsyncGenerator[Instance]:
    """Drive the Envoy for as long as the block; it runs on afterwards."""
    folder = folder_of(settings, digest)
    async with serve_holds(holds, folder / HOLD_SOCKET, page=page), open_admin(folder / ADMIN_SOCKET) as admin:
        yield Instance(digest, Envoy(folder, place_of(settings), admin), admin)


def merge(reports: Sequence[GatewayReport], draining: Sequence[GatewayReport] = ()) -> GatewayReport:
    """Return what Envoys side by side are taken together: as far as the slowest, with the requests of all.

    The first is the wanted one: what it finds of health is what counts. Those that drain take in no listeners any
    more, so only their requests count.
    """
    running = [each for each in reports if each.running]
    if not running:
        return reports[0]
    first = running[0]
    more: dict[tuple[str, str, int], int] = {}
    for report in (*running[1:], *draining):
        for each in report.endpoints:
            key = (each.cluster, each.address, each.port)
            more[key] = more.get(key, 0) + each.active_requests

    def with_others(each: EndpointHealth) -> EndpointHealth:
        extra = more.get((each.cluster, each.address, each.port), 0)
        return replace(each, active_requests=each.active_requests + extra) if extra else each

    problems = "; ".join(sorted({each.problem for each in running if each.problem}))
    endpoints = tuple(with_others(each) for each in first.endpoints)
    return replace(first, version=min(each.version for each in running), endpoints=endpoints, problem=problems)
