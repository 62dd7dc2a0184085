"""One agent, from its settings to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final

from hunqi.agent.certificates import Certificates
from hunqi.agent.chores import Chores
from hunqi.agent.door import Door
from hunqi.agent.drains import Drains
from hunqi.agent.engine import EngineWatch
from hunqi.agent.gateway import NoGateway
from hunqi.agent.images import Images
from hunqi.agent.measuring import Measuring
from hunqi.agent.ports import Gateway
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
from hunqi.engine.client import Docker
from hunqi.engine.errors import EngineUnreachableError
from hunqi.gateway.boxes import GatewaySettings
from hunqi.gateway.node import NodeGateway
from hunqi.kit.memory import give_back_often
from hunqi.nodes.agent_client import AgentClient

_DOCKER_RETRY_S: Final = 1.0
_log: Final = logging.getLogger(__name__)

GatewayFactory = Callable[[AgentSettings, Docker], Gateway]
"""Makes the gateway of a node that keeps one."""


def node_gateway(settings: AgentSettings, docker: Docker) -> Gateway:
    """Return the node's gateway: Envoy in containers."""
    return NodeGateway(
        docker,
        GatewaySettings(
            cluster=settings.cluster,
            node=settings.node,
            folder=settings.data_dir / "gateway",
            name=settings.gateway_name,
            workers=settings.gateway_workers,
            host_ip=settings.gateway_host_ip,
        ),
    )


async def run_agent(
    settings: AgentSettings,
    *,
    make_gateway: GatewayFactory = node_gateway,
    on_listening: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until cancelled. The gateway's containers and all tasks live on.

    Raises ``OSError`` if the port is taken, ``IdentityError`` if the certificate cannot be used.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve_agent(settings, make_gateway=make_gateway, on_listening=on_listening))
            await stopped.wait()
            serving.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def serve_agent(
    settings: AgentSettings,
    *,
    make_gateway: GatewayFactory = node_gateway,
    on_listening: Callable[[], None] = lambda: None,
) -> None:
    """As :func:`run_agent`, until cancelled; signals are the caller's business."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        docker = await stack.enter_async_context(_docker(settings))
        gateway = make_gateway(settings, docker) if settings.has_gateway else NoGateway(settings.node)
        roster = RosterFile(settings.data_dir)
        roster.load()
        certificates = Certificates(settings.tls, settings.mirror_tls)
        peers = AgentClient(certificates.client_context(), roster.current)
        stack.push_async_callback(peers.close)
        parts = _parts(settings, docker, gateway, roster, peers, certificates)
        parts.tables.load()
        runner = await AgentServer(settings, parts).start()
        stack.push_async_callback(runner.cleanup)
        on_listening()
        async with asyncio.TaskGroup() as group:
            services = (gateway.run, parts.tables.run, parts.reports.run, parts.stops.run, parts.engine.run)
            for service in (*services, give_back_often):
                group.create_task(service(), name=service.__qualname__)


def _parts(
    settings: AgentSettings,
    docker: Docker,
    gateway: Gateway,
    roster: RosterFile,
    peers: AgentClient,
    certificates: Certificates,
) -> AgentParts:
    tables = Tables(gateway, settings.data_dir, clock=time.time)
    reports = Reports(gateway, tables, node=settings.node, monotonic=time.monotonic)
    drains = Drains(tables, reports)
    book = TaskBook(docker.containers, cluster=settings.cluster, monotonic=time.monotonic)
    world = StopWorld(
        system=docker.system,
        containers=docker.containers,
        images=docker.images,
        drains=drains,
        peers=peers,
        roster=roster.current,
        clock=time.time,
    )
    return AgentParts(
        tables=tables,
        reports=reports,
        drains=drains,
        stops=Stops(world, settings.data_dir, cluster=settings.cluster, node=settings.node),
        roster=roster,
        streams=Streams(docker, cluster=settings.cluster),
        chores=Chores(docker, cluster=settings.cluster),
        images=Images(
            docker, mirror_socket=settings.mirror_socket, directory=settings.data_dir, prefix=settings.mirror_address
        ),
        door=Door(ca_file=settings.tls.ca, control_url=settings.control_url),
        certificates=certificates,
        engine=EngineWatch(docker.containers, docker.networks),
        requests=RequestLog(docker, cluster=settings.cluster, gateway=settings.gateway_name),
        measuring=Measuring(gateway, reports, book, Scraping(book, monotonic=time.monotonic), clock=time.time),
    )


@contextlib.asynccontextmanager
async def _docker(settings: AgentSettings) -> AsyncGenerator[Docker]:
    """Open the engine, waiting for one that is not up yet."""
    said = False
    while True:
        async with contextlib.AsyncExitStack() as stack:
            try:
                docker = await stack.enter_async_context(Docker(str(settings.docker_socket)))
            except EngineUnreachableError as error:
                if not said:
                    _log.warning("waiting for Docker: %s", error)
                said = True
            else:
                yield docker
                return
        await asyncio.sleep(_DOCKER_RETRY_S)
