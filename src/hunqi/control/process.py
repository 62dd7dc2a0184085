"""One control process: the database, the observer, the controllers of whoever leads, and the API.

All parts are made once, here. The controllers run while this process holds the lease, and only then may it write what
they write (``Held``); the API answers reads always, and changes where it leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import aiohttp
import uvicorn
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.api.app import build_api
from hunqi.api.ports import Rooms
from hunqi.apps.build import Apps, Around, build_apps
from hunqi.apps.images import Accelerator, Login
from hunqi.apps.operations import Change
from hunqi.control.accelerators import Accelerators
from hunqi.control.certificates import Certificates
from hunqi.control.entering import Entrance
from hunqi.control.machines import Doors, Machines
from hunqi.control.platform import LEASE, Leading, PlatformView
from hunqi.control.settings import ControlSettings
from hunqi.engine.client import Docker
from hunqi.engine.errors import EngineUnreachableError
from hunqi.engine.model import RegistryAuth
from hunqi.engine.observer import Observer
from hunqi.gateway.publisher import Publisher
from hunqi.identity.directory import Directory, open_directory
from hunqi.identity.registry import RegistryLogins
from hunqi.nodes.agent_client import AgentClient
from hunqi.nodes.authority import ClusterAuthority, key_name, request_for
from hunqi.nodes.controller import NodeController, NodeWorld
from hunqi.nodes.identity import client_context
from hunqi.nodes.join import Joins, JoinWorld
from hunqi.nodes.model import Member
from hunqi.nodes.roster import Rosters
from hunqi.nodes.spread import NodeImages
from hunqi.nodes.store import NodeStore
from hunqi.nodes.work import NodeWork
from hunqi.state.database import Database, open_database
from hunqi.state.errors import LeaseLostError
from hunqi.state.events import EventLog, append
from hunqi.state.leases import Leadership, Lease, Leases
from hunqi.state.sealing import Sealer, load_sealer

_DOCKER_RETRY_S: Final = 1.0
_LOOK_S: Final = 2.0
_OFFERED_S: Final = 120.0
"""How long the gateways keep their last table when an app cannot be looked at."""
_STOP_S: Final = 5
SWARM_PORT: Final = 2377
_log: Final = logging.getLogger(__name__)


class Held:
    """The fence of what the leader writes: it holds while this process holds the lease."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def check(self, connection: AsyncConnection) -> None:
        """Raise ``LeaseLostError`` unless this process leads."""
        lease = self._leadership.lease
        if lease is None:
            raise LeaseLostError("this process does not lead: nothing was written")
        await lease.check(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All parts of a control process."""

    settings: ControlSettings
    database: Database
    directory: Directory
    observer: Observer
    publisher: Publisher
    agents: AgentClient
    rosters: Rosters
    images: NodeImages
    machines: NodeController
    certificates: Certificates
    apps: Apps
    rooms: Rooms
    logins: RegistryLogins
    leases: Leases
    leadership: Leadership
    leading: Leading


async def run_control(settings: ControlSettings, authority: ClusterAuthority) -> None:
    """Serve until SIGTERM or SIGINT. Apps and gateways live on.

    Raises ``StateError`` and its kin for a database that cannot be used, ``OSError`` for a port that is taken.
    """
    listener = _listen(settings.host, settings.port)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with open_parts(settings, authority) as parts:
        await _begin(parts)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(_serve(parts, listener), name="control")
            await stopped.wait()
            serving.cancel()


@contextlib.asynccontextmanager
async def open_parts(settings: ControlSettings, authority: ClusterAuthority) -> AsyncGenerator[Parts]:
    """Make every part; nothing runs yet."""
    sealer = load_sealer(settings.cluster_key_file)
    async with contextlib.AsyncExitStack() as stack:
        docker = await stack.enter_async_context(_docker(settings))
        database = await stack.enter_async_context(open_database(settings.database_url))
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        store = NodeStore(database)
        rosters = Rosters(store, now=_now)
        agents = AgentClient(client_context(settings.tls), rosters.current)
        stack.push_async_callback(agents.close)
        yield _assemble(settings, authority, _Opened(docker, database, session, store, rosters, agents, sealer))


@dataclass(frozen=True, slots=True)
class _Opened:
    docker: Docker
    database: Database
    session: aiohttp.ClientSession
    store: NodeStore
    rosters: Rosters
    agents: AgentClient
    sealer: Sealer


def _assemble(settings: ControlSettings, authority: ClusterAuthority, opened: _Opened) -> Parts:
    database, agents, rosters, store = opened.database, opened.agents, opened.rosters, opened.store
    leases = Leases(database, holder=f"http://{settings.host}:{settings.port}")
    leadership = Leadership(leases, name=LEASE)
    leading = Leading(leadership)
    held = database.fenced(Held(leadership))
    observer = Observer(opened.docker, cluster=settings.cluster)
    publisher = Publisher(agents, edge=settings.edge)
    images = NodeImages(agents, lambda: _taking(observer, agents))

    async def tell(node: str, sentence: str) -> None:
        async with database.begin() as connection:
            await append(connection, "node.step", actor="control", subject=node, reason=sentence)

    async def note(kind: str, node: str, change: Change) -> None:
        async with database.begin() as connection:
            await append(connection, kind, actor=change.actor, subject=node, reason=change.reason)

    machines = NodeController(
        NodeWorld(
            store=NodeStore(held),
            observer=observer,
            services=opened.docker.services,
            nodes=opened.docker.nodes,
            gateways=publisher,
            now=_now,
            tell=tell,
        )
    )
    logins = RegistryLogins(opened.sealer)
    services = logins.of_services()
    accelerator = Accelerator(
        opened.session,
        settings.mirror_address,
        login=Login(username=services.username, password=services.password),
    )
    pulling = RegistryAuth(username=services.username, password=services.password, server=settings.mirror_address)
    apps = build_apps(
        Around(
            database=held,
            engine=opened.docker,
            observer=observer,
            routing=publisher,
            images=Accelerators(accelerator, images, login=pulling),
            seal=opened.sealer,
            volumes=NodeWork(agents),
            diagnosis=NodeWork(agents),
            cluster=settings.cluster,
            logs=settings.log_dir,
            clock=time.time,
            tcp_ports=lambda: settings.edge.tcp_ports,
            surge=machines.surge,
        )
    )
    certificates = Certificates(held, opened.sealer, publisher, cluster=settings.cluster, now=_now, acme=settings.acme)
    joins = Joins(
        JoinWorld(
            store=store,
            authority=authority,
            swarm=opened.docker.swarm,
            nodes=opened.docker.nodes,
            managers=lambda: _managers(opened.docker),
            settings={**settings.shared, "registry_key": logins.public_pem},
            now=_now,
        )
    )
    rooms = Rooms(
        apps=apps.operations,
        entering=Entrance(apps.operations.views, agents),
        nodes=Machines(opened.docker, observer, machines, rosters, store, tell=note),
        joining=Doors(
            joins, rosters, store, manager_ids=lambda: _manager_ids(observer), is_open=settings.is_open, tell=note
        ),
        certificates=certificates,
        platform=PlatformView(
            settings.cluster,
            database,
            settings.database_url,
            observer,
            publisher,
            rosters,
            apps.operations.views,
            leading,
            backup_dir=settings.backup_dir,
        ),
        leader=leading,
    )
    return Parts(
        settings=settings,
        database=database,
        directory=open_directory(database),
        observer=observer,
        publisher=publisher,
        agents=agents,
        rosters=rosters,
        images=images,
        machines=machines,
        certificates=certificates,
        apps=apps,
        rooms=rooms,
        logins=logins,
        leases=leases,
        leadership=leadership,
        leading=leading,
    )


async def _begin(parts: Parts) -> None:
    """Put this node into the roster."""
    settings = parts.settings
    node = settings.node
    name = socket.gethostname()
    key = key_name(request_for(settings.agent_tls.key.read_text("ascii")))
    member = Member(node=node, name=name, address=settings.agent_address, agent=key)
    store = NodeStore(parts.database)
    if (await store.roster()).of(node) != member:
        await store.put_member(member, now=_now())
    await parts.rosters.load()


async def _serve(parts: Parts, listener: socket.socket) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.observer.run(), name="observer")
        group.create_task(_follow(parts), name="publisher's snapshots")
        group.create_task(_look_who_leads(parts), name="who leads")
        group.create_task(parts.leadership.run(lambda lease: _lead(parts, lease)), name="leadership")
        await _answer(parts, listener)


async def _lead(parts: Parts, lease: Lease) -> None:
    _log.info("leading in epoch %d", lease.epoch)
    await parts.machines.load()
    async with asyncio.TaskGroup() as group:
        group.create_task(_publish(parts), name="publisher")
        group.create_task(parts.rosters.run(parts.agents), name="rosters")
        group.create_task(parts.images.run(), name="images")
        group.create_task(parts.machines.run(), name="nodes")
        group.create_task(parts.certificates.run(), name="certificates")
        group.create_task(parts.apps.run(), name="apps")


async def _publish(parts: Parts) -> None:
    # A table that lacks apps or certificates would take them from the gateways, which serve by the last one until then.
    await parts.certificates.give()
    try:
        async with asyncio.timeout(_OFFERED_S):
            await parts.apps.controller.offered_all()
    except TimeoutError:
        _log.warning("some apps could not be looked at in %.0f s: the gateways are told of the others", _OFFERED_S)
    await parts.publisher.run()


async def _follow(parts: Parts) -> None:
    async for snapshot in parts.observer.follow():
        parts.publisher.observed(snapshot)
        parts.machines.wake()


async def _look_who_leads(parts: Parts) -> None:
    while True:
        with contextlib.suppress(Exception):
            await parts.leading.look(parts.leases)
        await asyncio.sleep(_LOOK_S)


async def _answer(parts: Parts, listener: socket.socket) -> None:
    """Serve the API until cancelled."""
    api = build_api(parts.directory, parts.rooms, EventLog(parts.database), parts.logins)
    config = uvicorn.Config(
        api,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=True,
        ws="websockets-sansio",
        timeout_graceful_shutdown=_STOP_S,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]  # ours are installed
    try:
        await server.serve(sockets=[listener])
    finally:
        server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def _taking(observer: Observer, agents: AgentClient) -> frozenset[str]:
    """Return the nodes that have an agent and take tasks."""
    snapshot = observer.snapshot
    ready = {each.id for each in snapshot.nodes.values() if each.ready} if snapshot else set[str]()
    return frozenset(ready & set(agents.nodes))


def _manager_ids(observer: Observer) -> frozenset[str]:
    snapshot = observer.snapshot
    return frozenset(each.id for each in snapshot.nodes.values() if each.role == "manager") if snapshot else frozenset()


async def _managers(docker: Docker) -> tuple[str, ...]:
    found = [each for each in await docker.nodes.list() if each.role == "manager" and each.address]
    return tuple(f"{each.address}:{SWARM_PORT}" for each in found)


def _now() -> datetime:
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def _docker(settings: ControlSettings) -> AsyncGenerator[Docker]:
    """Open the engine, waiting for one that is not up yet."""
    while True:
        async with contextlib.AsyncExitStack() as stack:
            try:
                docker = await stack.enter_async_context(Docker(str(settings.docker_socket)))
            except EngineUnreachableError as error:
                _log.warning("waiting for Docker: %s", error)
            else:
                yield docker
                return
        await asyncio.sleep(_DOCKER_RETRY_S)
