"""Agents with their real gateways on a bed of Docker daemons, the publisher as control has it, and load on them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from hunqi.agent.main import serve_agent
from hunqi.agent.settings import AgentSettings
from hunqi.apps.model import HealthSpec, RouteSpec
from hunqi.engine.client import Docker
from hunqi.engine.model import (
    LABEL_APP,
    LABEL_CLUSTER,
    LABEL_DRAIN,
    LABEL_REVISION,
    LABEL_SERVICE,
    LABEL_STOP_SIGNAL,
    Snapshot,
)
from hunqi.gateway.model import Edge
from hunqi.gateway.publisher import Publisher
from hunqi.nodes.agent_client import AgentClient
from hunqi.nodes.authority import ClusterAuthority
from hunqi.nodes.identity import Role, client_context
from hunqi.nodes.model import Member, Roster
from support_agent import CLUSTER, NOW, agent_settings, running, write_credential
from support_gateway import service, serving
from testbed.sample import give_sample
from testbed.swarm import Bed

RATE: Final = 100.0
"""Requests in each second, half of them on connections of their own."""
HOST: Final = "web.test"


@dataclass(kw_only=True)
class Load:
    """A constant rate of requests to the gateways in turn, whatever becomes of those before."""

    urls: Sequence[str]
    answers: list[int] = field(default_factory=list[int])
    failures: list[str] = field(default_factory=list[str])
    slowest_s: float = 0.0

    async def run(self) -> None:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as kept,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as fresh,
            asyncio.TaskGroup() as group,
        ):
            begun = time.monotonic()
            for count in itertools.count():
                url = self.urls[(count // 2) % len(self.urls)]
                group.create_task(self._one(fresh if count % 2 else kept, url))
                await asyncio.sleep(max(0.0, begun + count / RATE - time.monotonic()))

    async def _one(self, session: aiohttp.ClientSession, url: str) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(20), session.get(f"{url}/wait?s=0.05", headers={"Host": HOST}) as answer:
                await answer.read()
                self.answers.append(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.failures.append(f"{url}: {error!r}")
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)


@dataclass(kw_only=True)
class World:
    """The machines' agents and gateways, and an app of one routed service."""

    bed: Bed
    docker: Docker
    publisher: Publisher
    roster: Roster
    client: AgentClient
    app: str
    """Its own for each test: Docker says that a network is gone before its name is free."""

    snapshot: Snapshot | None = None

    @property
    def backend(self) -> str:
        return f"{self.app}_web-r1"

    @property
    def urls(self) -> list[str]:
        return [f"http://{machine.address}" for machine in self.bed.machines]

    async def refresh(self) -> Snapshot:
        services = await self.docker.services.list({LABEL_CLUSTER: CLUSTER})
        tasks = await self.docker.tasks.list()
        networks = await self.docker.networks.list()
        return Snapshot(
            services={each.name: each for each in services},
            tasks={each.id: tuple(one for one in tasks if one.service_id == each.id) for each in services},
            nodes={each.id: each for each in await self.docker.nodes.list()},
            networks={each.name: each for each in networks if each.driver == "overlay"},
            secrets={},
            configs={},
            taken_at=0.0,
        )

    async def observe(self) -> None:
        """Do what control's observer does, often."""
        while True:
            self.publisher.observed(await self.refresh())
            await asyncio.sleep(0.2)

    async def scale(self, replicas: int) -> None:
        """Scale as control does, and wait until every gateway has as many healthy."""
        found = await self.docker.services.inspect(self.backend)
        mode = {"Replicated": {"Replicas": replicas}}
        await self.docker.services.update(found.id, found.version, {**found.spec, "Mode": mode})
        async with asyncio.timeout(90):
            while True:
                tasks = [each for each in await self.docker.tasks.list(services=[self.backend]) if each.serving]
                report = self.publisher.health(self.backend)
                is_known = report.gateways == len(self.bed.machines) and {each.id for each in tasks} <= report.healthy
                if len(tasks) == replicas and is_known:
                    return
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def world(bed: Bed, directory: Path, *, app: str, replicas: int) -> AsyncGenerator[World]:
    """Have an app run on the bed behind a gateway on each machine."""
    authority = ClusterAuthority.make(CLUSTER, now=NOW)
    try:
        async with Docker(str(bed.first.socket)) as docker, contextlib.AsyncExitStack() as stack:
            settings, roster = await _settings(bed, directory, authority, docker)
            paths = write_credential(
                directory / "control", authority.issue(Role.CONTROL, "one", now=NOW), authority.ca_pem
            )
            client = AgentClient(client_context(paths), lambda: roster)
            stack.push_async_callback(client.close)
            publisher = Publisher(client, edge=Edge(redirect_to_https=False))
            it = World(bed=bed, docker=docker, publisher=publisher, roster=roster, client=client, app=app)
            await asyncio.to_thread(_create, it, replicas)
            for each in settings:
                listening = asyncio.Event()
                await stack.enter_async_context(running(serve_agent(each, on_listening=listening.set)))
                async with asyncio.timeout(30):
                    await listening.wait()
                await client.put_roster(each.node, roster)
            async with running(publisher.run(), it.observe()):
                route = RouteSpec(port=8080, hosts=(HOST,), tls="off")
                health = HealthSpec(path="/health", interval_s=0.5)
                publisher.offer(serving(app, services=[service(routes=(route,), health=health)]))
                await it.scale(replicas)
                yield it
                publisher.withdraw(app)
            # While the agents live: they are what ends tasks in their own time.
            await asyncio.to_thread(_end_service, bed, it.backend)
    finally:
        await asyncio.to_thread(_clean, bed, app)


async def _settings(
    bed: Bed, directory: Path, authority: ClusterAuthority, docker: Docker
) -> tuple[list[AgentSettings], Roster]:
    ids = {node.hostname: node.id for node in await docker.nodes.list()}
    settings: list[AgentSettings] = []
    members: list[Member] = []
    for machine in bed.machines:
        node = ids[machine.hostname]
        made, name = agent_settings(
            directory / machine.name, authority, node, docker_socket=machine.socket, gateway_name="hunqi-gw-agent"
        )
        settings.append(made)
        members.append(Member(node=node, name=machine.hostname, address=f"127.0.0.1:{made.port}", agent=name))
    return settings, Roster(version=1, members=tuple(members))


def _create(it: World, replicas: int) -> None:
    machine, network = it.bed.first, f"{it.app}_default"
    machine.docker("network", "create", "-d", "overlay", "--attachable", network)
    labels = {LABEL_CLUSTER: CLUSTER, LABEL_DRAIN: "15", LABEL_STOP_SIGNAL: "SIGTERM"}
    labels |= {LABEL_APP: it.app, LABEL_SERVICE: "web", LABEL_REVISION: "1"}
    options = [word for key, value in labels.items() for word in ("--container-label", f"{key}={value}")]
    machine.docker(
        "service", "create", "-q", "--detach", "--name", it.backend, "--replicas", str(replicas), "--no-resolve-image",
        "--label", f"{LABEL_CLUSTER}={CLUSTER}", "--network", network, "--endpoint-mode", "dnsrr",
        "--stop-signal", "SIGURG", "--stop-grace-period", "30s", "-e", "STOP_S=1", *options, give_sample(it.bed),
    )  # fmt: skip


def _end_service(bed: Bed, backend: str) -> None:
    bed.first.docker("service", "rm", backend, check=False)
    deadline = time.monotonic() + 40
    for machine in bed.machines:
        while machine.docker("ps", "-q", "--filter", f"name={backend}").stdout and time.monotonic() < deadline:
            time.sleep(0.2)


def _clean(bed: Bed, app: str) -> None:
    _end_service(bed, f"{app}_web-r1")
    for machine in bed.machines:
        for container in machine.docker("ps", "-aq", "--filter", "name=hunqi-gw-agent").stdout.split():
            machine.docker("rm", "-f", container, check=False)
    for _ in range(100):
        if bed.first.docker("network", "rm", f"{app}_default", check=False).returncode == 0:
            return
        time.sleep(0.3)
