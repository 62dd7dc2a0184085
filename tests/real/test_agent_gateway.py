"""An agent with its real gateway on a real Docker: scaling loses nothing, and apps end in their own time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from hunqi.agent.main import serve_agent
from hunqi.apps.model import HealthSpec, RouteSpec
from hunqi.engine.client import Docker
from hunqi.engine.model import LABEL_CLUSTER, LABEL_DRAIN, LABEL_STOP_SIGNAL, Snapshot
from hunqi.gateway.model import Edge
from hunqi.gateway.publisher import Publisher
from hunqi.nodes.agent_client import AgentClient
from hunqi.nodes.authority import ClusterAuthority
from hunqi.nodes.identity import Role, client_context
from hunqi.nodes.model import Member, Roster
from support_agent import CLUSTER, NOW, agent_settings, running, until, write_credential
from support_gateway import service, serving
from testbed.sample import give_sample
from testbed.swarm import ONE_NODE, Bed

pytestmark = [pytest.mark.real, pytest.mark.slow, ONE_NODE]

RATE = 100.0
"""Requests in each second, half of them on connections of their own."""


@dataclass(kw_only=True)
class Load:
    """A constant rate of requests, whatever becomes of those before."""

    url: str
    answers: list[int] = field(default_factory=list[int])
    failures: list[str] = field(default_factory=list[str])
    slowest_s: float = 0.0

    async def run(self) -> None:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as kept,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as fresh,
            asyncio.TaskGroup() as group,
        ):
            begun, count = time.monotonic(), 0
            while True:
                group.create_task(self._one(fresh if count % 2 else kept))
                count += 1
                await asyncio.sleep(max(0.0, begun + count / RATE - time.monotonic()))

    async def _one(self, session: aiohttp.ClientSession) -> None:
        began = time.monotonic()
        try:
            async with (
                asyncio.timeout(20),
                session.get(f"{self.url}/wait?s=0.05", headers={"Host": "web.test"}) as answer,
            ):
                await answer.read()
                self.answers.append(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.failures.append(repr(error))
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)


@dataclass(kw_only=True)
class World:
    """One node: an agent with its gateway, and the publisher as control has it."""

    bed: Bed
    docker: Docker
    client: AgentClient
    publisher: Publisher
    app: str
    """Its own for each test: Docker says that a network is gone before its name is free."""

    @property
    def backend(self) -> str:
        return f"{self.app}_web-r1"

    @property
    def url(self) -> str:
        return f"http://{self.bed.first.address}"

    async def observe(self) -> None:
        """Do what control's observer does, often."""
        while True:
            services = await self.docker.services.list({LABEL_CLUSTER: CLUSTER})
            tasks = await self.docker.tasks.list()
            networks = await self.docker.networks.list()
            self.publisher.observed(
                Snapshot(
                    services={each.name: each for each in services},
                    tasks={each.id: tuple(one for one in tasks if one.service_id == each.id) for each in services},
                    nodes={},
                    networks={each.name: each for each in networks if each.driver == "overlay"},
                    secrets={},
                    configs={},
                    taken_at=0.0,
                )
            )
            await asyncio.sleep(0.2)

    async def scale(self, replicas: int) -> None:
        """Scale as control does, and wait until the gateway has as many healthy."""
        service = await self.docker.services.inspect(self.backend)
        mode = {"Replicated": {"Replicas": replicas}}
        await self.docker.services.update(service.id, service.version, {**service.spec, "Mode": mode})
        async with asyncio.timeout(60):
            while True:
                tasks = [each for each in await self.docker.tasks.list(services=[self.backend]) if each.serving]
                if (
                    len(tasks) == replicas
                    and {each.id for each in tasks} <= self.publisher.health(self.backend).healthy
                ):
                    return
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def world(bed: Bed, directory: Path, *, app: str, replicas: int) -> AsyncGenerator[World]:
    authority = ClusterAuthority.make(CLUSTER, now=NOW)
    settings, name = agent_settings(
        directory / "agent", authority, "n1", docker_socket=bed.first.socket, gateway_name="hunqi-gw-agent"
    )
    paths = write_credential(directory / "control", authority.issue(Role.CONTROL, "one", now=NOW), authority.ca_pem)
    member = Member(node="n1", name="one", address=f"127.0.0.1:{settings.port}", agent=name)
    roster = Roster(version=1, members=(member,))
    client = AgentClient(client_context(paths), lambda: roster)
    listening = asyncio.Event()
    publisher = Publisher(client, edge=Edge(redirect_to_https=False))
    try:
        async with Docker(str(bed.first.socket)) as docker:
            it = World(bed=bed, docker=docker, client=client, publisher=publisher, app=app)
            create(it, replicas)
            async with running(serve_agent(settings, on_listening=listening.set)):
                async with asyncio.timeout(30):
                    await listening.wait()
                await client.put_roster("n1", roster)
                async with running(publisher.run(), it.observe()):
                    route = RouteSpec(port=8080, hosts=("web.test",), tls="off")
                    health = HealthSpec(path="/health", interval_s=0.5)
                    publisher.offer(serving(app, services=[service(routes=(route,), health=health)]))
                    await it.scale(replicas)
                    yield it
                    publisher.withdraw(app)
                # While the agent lives: it is what ends tasks in their own time.
                await asyncio.to_thread(end_service, bed, it.backend)
    finally:
        await client.close()
        await asyncio.to_thread(clean, bed, app)


def create(it: World, replicas: int) -> None:
    bed, network = it.bed, f"{it.app}_default"
    bed.first.docker("network", "create", "-d", "overlay", "--attachable", network)
    labels = {LABEL_CLUSTER: CLUSTER, LABEL_DRAIN: "15", LABEL_STOP_SIGNAL: "SIGTERM"}
    options = [word for key, value in labels.items() for word in ("--container-label", f"{key}={value}")]
    bed.first.docker(
        "service", "create", "-q", "--detach", "--name", it.backend, "--replicas", str(replicas), "--no-resolve-image",
        "--label", f"{LABEL_CLUSTER}={CLUSTER}", "--network", network, "--endpoint-mode", "dnsrr",
        "--stop-signal", "SIGURG", "--stop-grace-period", "30s", "-e", "STOP_S=1", *options, give_sample(bed),
    )  # fmt: skip


def end_service(bed: Bed, backend: str) -> None:
    bed.first.docker("service", "rm", backend, check=False)
    deadline = time.monotonic() + 40
    while bed.first.docker("ps", "-q", "--filter", f"name={backend}").stdout and time.monotonic() < deadline:
        time.sleep(0.2)


def clean(bed: Bed, app: str) -> None:
    machine = bed.first
    end_service(bed, f"{app}_web-r1")
    for container in machine.docker("ps", "-aq", "--filter", "name=hunqi-gw-agent").stdout.split():
        machine.docker("rm", "-f", container, check=False)
    for _ in range(100):
        if machine.docker("network", "rm", f"{app}_default", check=False).returncode == 0:
            return
        time.sleep(0.3)


@contextlib.asynccontextmanager
async def socket_to(it: World) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Hold a WebSocket through the gateway."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{it.url}/ws", headers={"Host": "web.test"}) as socket,
    ):
        await socket.send_str("hello")
        assert (await socket.receive(timeout=5)).data == "hello"
        yield socket


async def test_scaling_up_and_down_under_load_loses_no_request(one_node: Bed, tmp_path: Path) -> None:
    async with world(one_node, tmp_path, app="load", replicas=2) as it:
        load = Load(url=it.url)
        async with running(load.run()):
            for replicas in (4, 1, 3, 2):
                await it.scale(replicas)
                await asyncio.sleep(1.0)
            # The drained ones need a second to stop; requests go on meanwhile.
            await asyncio.sleep(2.0)
        assert load.failures == []
        assert set(load.answers) == {200}
        assert len(load.answers) > 500


async def test_the_app_gets_its_signal_with_its_sockets_open(one_node: Bed, tmp_path: Path) -> None:
    async with world(one_node, tmp_path, app="sock", replicas=1) as it, socket_to(it) as socket:
        (task,) = await it.docker.tasks.list(services=[it.backend])
        container = task.container_id or ""
        service_ = await it.docker.services.inspect(it.backend)
        spec = {**service_.spec, "Mode": {"Replicated": {"Replicas": 0}}}
        await it.docker.services.update(service_.id, service_.version, spec)

        def log() -> str:
            return one_node.first.docker("logs", container, check=False).stdout

        await until(lambda: "signal SIGURG" in log(), timeout_s=20)
        began = time.monotonic()
        await socket.send_str("still")
        assert (await socket.receive(timeout=5)).data == "still"
        closed = await socket.receive(timeout=40)
        assert closed.type is aiohttp.WSMsgType.CLOSE, "the app itself says goodbye"
        assert closed.data == 1001
        assert "signal SIGTERM sockets=1" in log()
        assert 10 < time.monotonic() - began < 25, "it had its drain time"
