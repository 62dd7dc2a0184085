"""The gateway of one node, as its agent keeps it: containers, networks, one or (during an upgrade) two Envoys.

``run`` brings the node to what is wanted, again and again; ``apply`` and ``observe`` are for the agent. An upgrade is
no special case: when another kind of Envoy is wanted it is started beside the old one (both listen, ``SO_REUSEPORT``),
and once it serves the old one is drained, and removed when its last connection has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from hunqi.engine.client import Docker
from hunqi.engine.model import Container
from hunqi.errors import HunqiError
from hunqi.gateway.admin import AdminUnreachableError
from hunqi.gateway.boxes import DRAIN_S, GatewaySettings, envoy_box
from hunqi.gateway.counting import GatewayCounts, Ledger
from hunqi.gateway.hold import Holds
from hunqi.gateway.image import ensure_image, find_parts, remove_old_images
from hunqi.gateway.instance import Instance, folder_of, merge, open_instance, prepare
from hunqi.gateway.keeper import Keeper, Stand
from hunqi.gateway.lightening import Lightness
from hunqi.gateway.model import Edge, EndpointState, GatewayReport, RouteTable
from hunqi.gateway.page import RoutesPage
from hunqi.gateway.ports import Ports, PortsFailedError, wanted_ports

RESYNC_S: Final = 5.0
"""How often the containers are looked at when nothing has changed."""
LONGEST_DRAIN_S: Final = 3600.0
"""After this an old Envoy is removed with the connections it still has."""
_HELD_S: Final = 0.05
_READY_S: Final = 30.0
_PORTS_S: Final = 60.0
"""How often the rules of ports are set again, in case that somebody has removed them."""
_log: Final = logging.getLogger(__name__)


class NodeGateway:
    """Satisfies the agent's port ``Gateway``. For one event loop; ``run`` once."""

    def __init__(self, docker: Docker, settings: GatewaySettings, *, image: str | None = None) -> None:
        """``image`` is used instead of one made of the installed wheel."""
        self._docker = docker
        self._settings = settings
        self._image = image
        self._keeper = Keeper(docker, settings)
        self._holds = Holds(max_held=Edge().max_held)
        self._ledger = Ledger(time.monotonic)
        self._table: RouteTable | None = None
        self._page = RoutesPage(settings.logins_key_file, lambda: self._table)
        self._ports = Ports(settings.enter)
        self._ports_checked = 0.0
        self._lightness = Lightness()
        self._instances: dict[str, Instance] = {}
        self._stacks: dict[str, AsyncExitStack] = {}
        self._draining: dict[str, float] = {}
        self._wanted = ""
        self._untidy = True
        """Whether images of other gateways may lie on the node."""
        self._problem = "it waits for its first table"
        self._dirty = asyncio.Event()

    async def run(self) -> None:
        """Keep containers, networks and Envoys as they should be, until cancelled; they live on then."""
        self._settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._feed_holds())
                while True:
                    # Without a table nothing is touched: what runs has its files from before.
                    if self._table is not None:
                        await self._step_safely(self._table)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(RESYNC_S if not self._problem else 1.0):
                            await self._dirty.wait()
                            self._dirty.clear()
        finally:
            for digest in list(self._stacks):
                await self._close(digest)

    async def apply(self, table: RouteTable) -> None:
        """Have it work by ``table``: resources are written now, networks joined soon. Raises ``OSError``."""
        before, self._table = self._table, table
        self._ledger.name(table)
        await self._holds.update(table)
        for each in list(self._instances.values()):
            await each.envoy.apply(table)
        if before is None or _needs(before) != _needs(table) or not self._instances:
            self._dirty.set()

    async def observe(self) -> GatewayReport:
        """Ask the Envoys what they have."""
        wanted = self._instances.get(self._wanted)
        if wanted is None:
            return GatewayReport(
                node=self._settings.node, version=0, running=False, endpoints=(), problem=self._problem
            )
        found = {digest: await each.envoy.observe() for digest, each in list(self._instances.items())}
        first = found.pop(self._wanted, None) or await wanted.envoy.observe()
        beside = [each for digest, each in found.items() if digest not in self._draining]
        report = merge([first, *beside], [each for digest, each in found.items() if digest in self._draining])
        await self._found(report)
        return replace(report, held=self._holds.waited_for)

    async def waits_anew(self) -> None:
        """Return once a request waits for a service for which none did before."""
        await self._holds.waits_anew()

    async def count(self) -> GatewayCounts:
        """Ask the Envoys what they have counted, and put it together."""
        problem = "" if self._wanted in self._instances else self._problem
        for each in list(self._instances.values()):
            try:
                await self._read(each)
            except AdminUnreachableError as error:
                problem = str(error)
        return GatewayCounts(
            boot=self._ledger.boot,
            answered=not problem,
            clusters=self._ledger.counts(),
            held=self._holds.counts(),
            problem=problem,
        )

    async def _read(self, instance: Instance) -> None:
        self._ledger.take(instance.digest, await instance.admin.counts())

    async def remove(self) -> None:
        """Take the gateway off this node. Not while ``run`` runs."""
        await self._keeper.remove_all()

    async def _step_safely(self, table: RouteTable) -> None:
        try:
            self._problem = await self._step(table)
        except (HunqiError, OSError) as error:
            if str(error) != self._problem:
                _log.warning("the gateway is not as it should be: %s", error)
            self._problem = str(error)

    async def _step(self, table: RouteTable) -> str:
        """Look at all and do what is missing; return what cannot be done now."""
        image = await self._ensure_image()
        edge = table.edge
        sandbox = await self._keeper.sandbox(edge, image)
        box = envoy_box(self._settings, edge, image, sandbox.id)
        if box.hash not in self._instances:
            await prepare(self._settings, box.hash, edge, table)
        stand = await self._keeper.envoy(sandbox, edge, image)
        await self._adopt(stand, table)
        await self._lightness.keep(stand.pid, now=time.monotonic())
        problems = await self._keeper.join(sandbox, table.networks)
        problems += await self._lead_ports(sandbox, table)
        await self._retire(stand)
        await self._leave(sandbox, table)
        await self._tidy_images(stand, image)
        return "; ".join(problems)

    async def _ensure_image(self) -> str:
        if self._image is None:
            parts = await find_parts()
            self._image = await ensure_image(self._docker.images, parts, folder=self._settings.folder)
        return self._image

    async def _adopt(self, stand: Stand, table: RouteTable) -> None:
        """Drive every Envoy that runs; the wanted one counts once it is ready."""
        for digest in stand.envoys.keys() - self._instances.keys():
            stack = AsyncExitStack()
            instance = await stack.enter_async_context(open_instance(self._settings, digest, self._holds, self._page))
            self._stacks[digest] = stack
            self._instances[digest] = instance
            await instance.envoy.apply(self._table or table)
            with contextlib.suppress(AdminUnreachableError):  # it is starting
                await self._read(instance)
        for digest in self._instances.keys() - stand.envoys.keys():
            await self._close(digest)
        wanted = self._instances.get(stand.wanted.hash)
        if wanted is not None and self._wanted != stand.wanted.hash:
            await self._wait_ready(wanted)
            self._wanted = stand.wanted.hash

    async def _wait_ready(self, instance: Instance) -> None:
        deadline = time.monotonic() + _READY_S
        while not await instance.ready():
            if time.monotonic() > deadline:
                raise AdminUnreachableError("the gateway's Envoy does not become ready: see `docker logs`")
            await asyncio.sleep(0.05)

    async def _retire(self, stand: Stand) -> None:
        """Drain Envoys that are not wanted while the wanted one serves; remove those that have nothing left."""
        for digest in stand.envoys.keys() - {stand.wanted.hash}:
            instance = self._instances[digest]
            since = self._draining.get(digest)
            if since is None:
                _log.info("another gateway serves: the old one is drained")
                with contextlib.suppress(AdminUnreachableError):
                    await instance.drain()
                self._draining[digest] = time.monotonic()
                continue
            age_s = time.monotonic() - since
            if age_s > LONGEST_DRAIN_S or (age_s > DRAIN_S + 1 and await instance.connections() == 0):
                with contextlib.suppress(AdminUnreachableError):
                    await self._read(instance)
                await self._close(digest)
                await self._forget(digest)
        for digest in await self._keeper.dead_envoys():
            if digest != stand.wanted.hash:
                await self._forget(digest)

    async def _tidy_images(self, stand: Stand, image: str) -> None:
        """Once the wanted Envoy is the only one: images of those before are not needed any more."""
        alone = set(stand.envoys) == {stand.wanted.hash}
        if alone and self._untidy:
            for each in await remove_old_images(self._docker.images, current=image):
                _log.info("the image %s of an old gateway is removed", each)
        self._untidy = not alone

    async def _forget(self, digest: str) -> None:
        await self._keeper.remove_envoy(digest)
        await asyncio.to_thread(shutil.rmtree, folder_of(self._settings, digest), ignore_errors=True)

    async def _lead_ports(self, sandbox: Container, table: RouteTable) -> list[str]:
        if time.monotonic() - self._ports_checked > _PORTS_S:
            self._ports.forget()
            self._ports_checked = time.monotonic()
        try:
            await self._ports.keep(wanted_ports(table), sandbox.addresses.get("bridge", ""))
        except (PortsFailedError, ValueError) as error:
            return [str(error)]
        return []

    async def _leave(self, sandbox: Container, table: RouteTable) -> None:
        """Networks go when no Envoy works by a table that has them."""
        serving = [each for digest, each in self._instances.items() if digest not in self._draining]
        if self._table is table and all(each.envoy.settled for each in serving):
            fresh = await self._docker.containers.inspect(sandbox.id)
            await self._keeper.leave(fresh, [each.network for each in table.networks])

    async def _feed_holds(self) -> None:
        """While requests wait, look often whether they may go on."""
        while True:
            await self._holds.someone_waits.wait()
            await asyncio.sleep(_HELD_S)
            if self._wanted in self._instances:
                with contextlib.suppress(HunqiError, OSError):
                    await self.observe()

    async def _found(self, report: GatewayReport) -> None:
        serving = {each.cluster for each in report.endpoints if each.healthy and each.state is EndpointState.SERVING}
        await self._holds.found_healthy(serving)

    async def _close(self, digest: str) -> None:
        self._instances.pop(digest, None)
        self._draining.pop(digest, None)
        if self._wanted == digest:
            self._wanted = ""
        if stack := self._stacks.pop(digest, None):
            await stack.aclose()


def _needs(table: RouteTable) -> object:
    """What a table asks of containers, networks and rules; all else is files."""
    return table.networks, table.edge, wanted_ports(table)
