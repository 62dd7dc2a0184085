"""Parts for tests of agents: certificates, tables, a gateway in memory, an engine's containers and events in memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hunqi.agent.certificates import Certificates, utc_now
from hunqi.agent.chores import Chores
from hunqi.agent.door import Door
from hunqi.agent.drains import Drains
from hunqi.agent.engine import EngineWatch
from hunqi.agent.images import Images
from hunqi.agent.measuring import Measuring
from hunqi.agent.reports import Reports
from hunqi.agent.requests import RequestLog
from hunqi.agent.rosters import RosterFile
from hunqi.agent.scraping import Scraping
from hunqi.agent.server import AgentParts, AgentServer
from hunqi.agent.settings import AgentSettings
from hunqi.agent.stops import Stops, StopWorld
from hunqi.agent.streams import Streams
from hunqi.agent.tables import Tables
from hunqi.agent.usage import TaskBook
from hunqi.apps.model import HealthSpec, Protocol, RouteSpec
from hunqi.engine.client import Docker
from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import JSON, LABEL_CLUSTER, LABEL_DRAIN, LABEL_STOP_SIGNAL, Event
from hunqi.gateway.counting import GatewayCounts
from hunqi.gateway.model import (
    Cluster,
    Edge,
    Endpoint,
    EndpointHealth,
    EndpointState,
    GatewayReport,
    HeldService,
    Route,
    RouteTable,
    Target,
)
from hunqi.kit.codec import dumps
from hunqi.nodes.agent_client import AgentClient
from hunqi.nodes.authority import ClusterAuthority, key_name, make_request
from hunqi.nodes.identity import Credential, Role, TlsPaths
from testbed.programs import free_port

CLUSTER: Final = "c1"
NOW: Final = datetime.now(UTC)
WEB: Final = "shop_web-r7:8080"


def write_credential(directory: Path, credential: Credential, ca_pem: str) -> TlsPaths:
    """Write a certificate, its key and the authority as an agent has them."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = TlsPaths(cert=directory / "agent.pem", key=directory / "agent.key", ca=directory / "cluster-ca.pem")
    paths.cert.write_text(credential.cert_pem)
    paths.key.touch(mode=0o600)
    paths.key.write_text(credential.key_pem)
    paths.ca.write_text(ca_pem)
    return paths


def agent_settings(
    directory: Path, authority: ClusterAuthority, node: str, *, issued: datetime = NOW, **more: Any
) -> tuple[AgentSettings, str]:
    """Return settings of an agent with a certificate on loopback, and the name in that certificate."""
    key, request = make_request()
    cert = authority.sign(request, Role.AGENT, now=issued)
    write_credential(directory, Credential(cert_pem=cert, key_pem=key), authority.ca_pem)
    settings = AgentSettings(
        data_dir=directory, cluster=authority.cluster, node=node, host="127.0.0.1", port=free_port(), **more
    )
    return settings, key_name(request)


def table_of(*tasks: str, version: int = 1, draining: Sequence[str] = ()) -> RouteTable:
    """Return a table with one routed cluster; the first task is at 10.0.0.1, and so on."""
    endpoints = tuple(
        Endpoint(
            address=f"10.0.0.{number}",
            port=8080,
            task=task,
            node="n1",
            state=EndpointState.DRAINING if task in draining else EndpointState.SERVING,
        )
        for number, task in enumerate(tasks, start=1)
    )
    cluster = Cluster(name=WEB, protocol=Protocol.HTTP1, health=HealthSpec(), endpoints=endpoints)
    spec = RouteSpec(port=8080, hosts=("shop.test",))
    route = Route(app="shop", service="web", spec=spec, targets=(Target(cluster=WEB),))
    return RouteTable(version=version, edge=Edge(), clusters={WEB: cluster}, routes=(route,))


def text_of(table: RouteTable) -> bytes:
    """Return the table as it travels."""
    return dumps(table).encode()


class MemoryGateway:
    """Does at once what it is told; ``open`` says how many requests each address has, ``unhealthy`` which fail."""

    def __init__(self, node: str = "n1") -> None:
        self.node = node
        self.applied: list[RouteTable] = []
        self.open: dict[str, int] = {}
        self.unhealthy: set[str] = set()
        self.is_running = True
        self.problem = ""
        self.is_deaf = False
        self.looks = 0
        self.counts = GatewayCounts(boot="b1", answered=True)
        self.held: tuple[HeldService, ...] = ()
        self.anew = asyncio.Event()

    def hold(self, *held: HeldService) -> None:
        """Have requests wait for these services, and for no others."""
        self.held = held
        self.anew.set()

    async def waits_anew(self) -> None:
        await self.anew.wait()
        self.anew.clear()

    async def count(self) -> GatewayCounts:
        if self.is_deaf:
            return replace(self.counts, answered=False, problem="Envoy does not answer")
        return self.counts

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def apply(self, table: RouteTable) -> None:
        self.applied.append(table)

    async def observe(self) -> GatewayReport:
        self.looks += 1
        if self.is_deaf:
            raise TimeoutError
        if not self.applied or not self.is_running:
            running = self.is_running
            return GatewayReport(node=self.node, version=0, running=running, endpoints=(), problem=self.problem)
        table = self.applied[-1]
        endpoints = tuple(
            EndpointHealth(
                cluster=cluster.name,
                address=each.address,
                port=each.port,
                healthy=each.address not in self.unhealthy,
                active_requests=self.open.get(each.address, 0),
            )
            for cluster in table.clusters.values()
            for each in cluster.endpoints
        )
        return GatewayReport(node=self.node, version=table.version, running=True, endpoints=endpoints, held=self.held)

    def draining(self) -> set[str]:
        """Return the tasks that take nothing new by the last table."""
        clusters = self.applied[-1].clusters.values() if self.applied else ()
        return {each.task for one in clusters for each in one.endpoints if each.state is EndpointState.DRAINING}


@dataclass(kw_only=True)
class MemoryContainer:
    """A container."""

    id: str
    labels: Mapping[str, str]
    pid: int | None = 4242
    running: bool = True
    detail: JSON = field(default_factory=dict[str, Any])


class MemoryEngine:
    """Containers, their events, and a clock."""

    def __init__(self, *, now: float = 1_000_000.0) -> None:
        self.now = now
        self.held: dict[str, MemoryContainer] = {}
        self.log: list[Event] = []
        self.image_config: dict[str, Any] = {}
        self._more = asyncio.Event()

    def clock(self) -> float:
        return self.now

    def add(self, container: str, *, task: str, drain: str = "5", own: str | None = "SIGTERM") -> MemoryContainer:
        """Have a container of a drained service run."""
        labels = {LABEL_CLUSTER: CLUSTER, LABEL_DRAIN: drain, "com.docker.swarm.task.id": task}
        if own:
            labels[LABEL_STOP_SIGNAL] = own
        self.held[container] = MemoryContainer(id=container, labels=labels)
        return self.held[container]

    def say(self, action: str, container: str, **attributes: str) -> None:
        """Have the engine tell an event, with the container's labels as Docker does."""
        labels = self.held[container].labels if container in self.held else {}
        self.log.append(
            Event(
                kind="container",
                action=action,
                id=container,
                attributes={**labels, **attributes},
                time_ns=int(self.now * 1e9),
            )
        )
        more, self._more = self._more, asyncio.Event()
        more.set()

    def die(self, container: str) -> None:
        """Have a container end."""
        self.held[container].running = False
        self.say("die", container)

    async def inspect(self, container: str, /) -> MemoryContainer:
        if container not in self.held:
            raise NotFoundError(container)
        return self.held[container]

    async def detail(self, image: str, /) -> JSON:
        return {"Config": self.image_config}

    @contextlib.asynccontextmanager
    async def events(
        self, *, since_ns: int | None = None, kinds: Iterable[str] | None = None
    ) -> AsyncGenerator[AsyncIterator[Event]]:
        yield self._stream(since_ns or 0)

    async def _stream(self, since_ns: int) -> AsyncIterator[Event]:
        at = 0
        while True:
            while at < len(self.log):
                event = self.log[at]
                at += 1
                if event.time_ns >= since_ns:
                    yield event
            await self._more.wait()


async def until(condition: Any, *, timeout_s: float = 5.0) -> None:
    """Wait until ``condition()`` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(*services: Any) -> AsyncGenerator[None]:
    """Run coroutines while the body runs, and cancel them after it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(service) for service in services]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@contextlib.asynccontextmanager
async def served_without_docker(
    settings: AgentSettings, gateway: MemoryGateway, *, now: Callable[[], datetime] = utc_now
) -> AsyncGenerator[Tables]:
    """Serve an agent's HTTP with its gateway's half running, but with no engine to watch."""
    engine, docker = MemoryEngine(), Docker(str(settings.data_dir / "no-docker.sock"))
    tables = Tables(gateway, settings.data_dir, clock=time.time)
    reports = Reports(gateway, tables, node=settings.node, monotonic=time.monotonic)
    book = TaskBook(docker.containers, cluster=CLUSTER, monotonic=time.monotonic)
    drains, roster = Drains(tables, reports), RosterFile(settings.data_dir)
    certificates = Certificates(settings.tls, settings.mirror_tls, now=now)
    peers = AgentClient(certificates.client_context(), roster.current)
    world = StopWorld(
        system=engine,
        containers=engine,
        images=engine,
        drains=drains,
        peers=peers,
        roster=roster.current,
        clock=engine.clock,
    )
    parts = AgentParts(
        tables=tables,
        reports=reports,
        drains=drains,
        stops=Stops(world, settings.data_dir, cluster=settings.cluster, node=settings.node),
        roster=roster,
        streams=Streams(docker, cluster=settings.cluster),
        chores=Chores(docker, cluster=settings.cluster),
        images=Images(docker, mirror_socket=None, directory=settings.data_dir, prefix="127.0.0.1:5000"),
        door=Door(ca_file=settings.tls.ca, control_url=settings.control_url),
        certificates=certificates,
        engine=EngineWatch(docker.containers, docker.networks),
        requests=RequestLog(docker, cluster=CLUSTER, gateway=settings.gateway_name),
        measuring=Measuring(gateway, reports, book, Scraping(book, monotonic=time.monotonic), clock=time.time),
    )
    runner = await AgentServer(settings, parts).start()
    try:
        async with running(tables.run(), reports.run()):
            yield tables
    finally:
        await runner.cleanup()


def with_version(table: RouteTable, version: int) -> RouteTable:
    """Return the table under another version."""
    return replace(table, version=version)
