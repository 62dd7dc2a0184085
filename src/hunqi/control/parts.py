"""All parts of a control process, each made once, from its settings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import aiohttp
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.api.ports import Rooms
from hunqi.apps.build import Apps, Around, build_apps
from hunqi.apps.images import Accelerator
from hunqi.apps.operations import Change
from hunqi.apps.retention import Retention
from hunqi.control.accelerators import Accelerators
from hunqi.control.certificates import Certificates
from hunqi.control.entering import Entrance
from hunqi.control.leading import LEASE, Holder, Leading
from hunqi.control.machines import Doors, Machines
from hunqi.control.platform import PlatformView
from hunqi.control.rollouts import Grounds, Rolling, build_rollouts
from hunqi.control.scaling import Scaling, build_scaling
from hunqi.control.settings import ControlSettings
from hunqi.control.telemetry import Measured, build_telemetry
from hunqi.engine.client import Docker
from hunqi.engine.errors import EngineUnreachableError
from hunqi.engine.observer import Observer
from hunqi.gateway.publisher import Publisher
from hunqi.hooks.controller import HookController
from hunqi.hooks.store import HookStore
from hunqi.identity.directory import Directory, open_directory
from hunqi.identity.registry import RegistryLogins
from hunqi.nodes.agent_client import AgentClient
from hunqi.nodes.authority import ClusterAuthority
from hunqi.nodes.controller import NodeController, NodeWorld
from hunqi.nodes.identity import client_context
from hunqi.nodes.join import Joins, JoinWorld
from hunqi.nodes.renewal import Renewals
from hunqi.nodes.requests import NodeRequests
from hunqi.nodes.roster import Rosters
from hunqi.nodes.spread import NodeImages
from hunqi.nodes.store import NodeStore
from hunqi.nodes.work import NodeWork
from hunqi.state.database import Database, open_database
from hunqi.state.errors import LeaseLostError
from hunqi.state.events import append
from hunqi.state.leases import Leadership, Leases
from hunqi.state.sealing import Sealer, load_sealer

_DOCKER_RETRY_S: Final = 1.0
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
    authority: ClusterAuthority
    renewals: Renewals
    images: NodeImages
    machines: NodeController
    certificates: Certificates
    hooks: HookController
    apps: Apps
    measured: Measured
    scaling: Scaling
    rolling: Rolling
    rooms: Rooms
    logins: RegistryLogins
    leases: Leases
    leadership: Leadership
    leading: Leading


@contextlib.asynccontextmanager
async def open_docker(settings: ControlSettings) -> AsyncGenerator[Docker]:
    """Open this machine's engine, waiting for one that is not up yet."""
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


EngineOpener = Callable[[ControlSettings], contextlib.AbstractAsyncContextManager[Docker]]


@contextlib.asynccontextmanager
async def open_parts(
    settings: ControlSettings, authority: ClusterAuthority, *, engine: EngineOpener = open_docker
) -> AsyncGenerator[Parts]:
    """Make every part; nothing runs yet."""
    sealer = load_sealer(settings.cluster_key_file)
    async with contextlib.AsyncExitStack() as stack:
        docker = await stack.enter_async_context(engine(settings))
        database = await stack.enter_async_context(open_database(settings.database_url))
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=False))
        rosters = Rosters(NodeStore(database), now=now)
        agents = AgentClient(client_context(settings.tls), rosters.current)
        stack.push_async_callback(agents.close)
        yield _Making(settings, authority, docker, database, session, rosters, agents, sealer).parts()


class _Making:
    """Makes the parts of what was opened."""

    def __init__(
        self,
        settings: ControlSettings,
        authority: ClusterAuthority,
        docker: Docker,
        database: Database,
        session: aiohttp.ClientSession,
        rosters: Rosters,
        agents: AgentClient,
        sealer: Sealer,
    ) -> None:
        self._settings = settings
        self._authority = authority
        self._docker = docker
        self._database = database
        self._session = session
        self._rosters = rosters
        self._agents = agents
        self._sealer = sealer
        self._logins = RegistryLogins(sealer)
        own = Holder.at(settings.node, settings.host, settings.port, own_address=settings.agent_address)
        self._leases = Leases(database, holder=str(own))
        self._leadership = Leadership(self._leases, name=LEASE)
        self._leading = Leading(self._leadership, own, rosters.current)
        self._held = database.fenced(Held(self._leadership))
        self._observer = Observer(docker, cluster=settings.cluster)
        self._publisher = Publisher(agents, edge=settings.edge)
        self._images = NodeImages(agents, self._taking)
        self._measured = build_telemetry(
            settings.telemetry_dir,
            self._held,
            sealer,
            session,
            agents=agents,
            servings=lambda: self._publisher.servings,
            snapshot=lambda: self._observer.snapshot,
            settings=settings.telemetry,
        )

    def parts(self) -> Parts:
        machines = self._machines()
        apps = self._apps(machines)
        scaling = build_scaling(self._held, apps, self._measured, self._observer, self._publisher)
        rolling = self._rolling(apps)
        certificates = Certificates(
            self._held,
            self._sealer,
            self._publisher,
            cluster=self._settings.cluster,
            now=now,
            acme=self._settings.acme,
        )
        hooks = HookController(self._database, HookStore(self._database, self._sealer), time.time)
        return Parts(
            settings=self._settings,
            database=self._database,
            directory=open_directory(self._database),
            observer=self._observer,
            publisher=self._publisher,
            agents=self._agents,
            rosters=self._rosters,
            authority=self._authority,
            renewals=Renewals(self._agents, self._authority, self._rosters, now=now),
            images=self._images,
            machines=machines,
            certificates=certificates,
            hooks=hooks,
            apps=apps,
            measured=self._measured,
            scaling=scaling,
            rolling=rolling,
            rooms=self._rooms(machines, apps, certificates, hooks, scaling, rolling),
            logins=self._logins,
            leases=self._leases,
            leadership=self._leadership,
            leading=self._leading,
        )

    def _machines(self) -> NodeController:
        world = NodeWorld(
            store=NodeStore(self._held),
            observer=self._observer,
            services=self._docker.services,
            nodes=self._docker.nodes,
            gateways=self._publisher,
            now=now,
            tell=self._tell,
        )
        return NodeController(world)

    def _apps(self, machines: NodeController) -> Apps:
        settings = self._settings
        accelerator = Accelerator(self._session, settings.mirror_address)
        work = NodeWork(self._agents)
        return build_apps(
            Around(
                database=self._held,
                engine=self._docker,
                observer=self._observer,
                routing=self._publisher,
                judging=self._publisher,
                images=Accelerators(accelerator, self._images, self._logins),
                seal=self._sealer,
                volumes=work,
                diagnosis=work,
                cluster=settings.cluster,
                logs=settings.log_dir,
                clock=time.time,
                tcp_ports=lambda: settings.edge.tcp_ports,
                surge=machines.surge,
                retention=Retention(event_days=settings.event_days),
            )
        )

    def _rolling(self, apps: Apps) -> Rolling:
        return build_rollouts(
            Grounds(
                database=self._held,
                apps=apps,
                observer=self._observer,
                entering=Entrance(apps.operations.views, self._agents),
                telemetry=self._measured.live,
                metric_sources=self._measured.sources,
                clock=time.time,
            )
        )

    def _rooms(
        self,
        machines: NodeController,
        apps: Apps,
        certificates: Certificates,
        hooks: HookController,
        scaling: Scaling,
        rolling: Rolling,
    ) -> Rooms:
        settings, store = self._settings, NodeStore(self._database)
        platform = PlatformView(
            settings.cluster,
            self._database,
            settings.database_url,
            self._observer,
            self._publisher,
            self._rosters,
            apps.operations.views,
            self._leading,
            backup_dir=settings.backup_dir,
        )
        return Rooms(
            apps=apps.operations,
            entering=Entrance(apps.operations.views, self._agents),
            nodes=Machines(self._docker, self._observer, machines, self._rosters, store, tell=self._note),
            joining=Doors(
                self._joins(store),
                self._rosters,
                store,
                manager_ids=self._manager_ids,
                is_open=settings.is_open,
                tell=self._note,
            ),
            certificates=certificates,
            platform=platform,
            telemetry=self._measured.operations,
            scaling=scaling.operations,
            leader=self._leading,
            hooks=hooks,
            rollouts=rolling.operations,
            requests=NodeRequests(self._agents, name=self._name_of),
        )

    def _joins(self, store: NodeStore) -> Joins:
        world = JoinWorld(
            store=store,
            authority=self._authority,
            swarm=self._docker.swarm,
            nodes=self._docker.nodes,
            managers=self._managers,
            settings={**self._settings.shared, "registry_key": self._logins.public_pem},
            now=now,
        )
        return Joins(world)

    async def _tell(self, node: str, sentence: str) -> None:
        async with self._database.begin() as connection:
            await append(connection, "node.step", actor="control", subject=node, reason=sentence)
        self._rosters.wake()  # a node that is gone is to be a stranger to the others at once

    async def _note(self, kind: str, node: str, change: Change) -> None:
        async with self._database.begin() as connection:
            await append(connection, kind, actor=change.actor, subject=node, reason=change.reason)

    def _name_of(self, node: str) -> str:
        member = self._rosters.current().of(node)
        return member.name if member else node

    def _taking(self) -> frozenset[str]:
        """Return the nodes that have an agent and take tasks."""
        snapshot = self._observer.snapshot
        ready = {each.id for each in snapshot.nodes.values() if each.ready} if snapshot else set[str]()
        return frozenset(ready & set(self._agents.nodes))

    def _manager_ids(self) -> frozenset[str]:
        snapshot = self._observer.snapshot
        nodes = snapshot.nodes.values() if snapshot else ()
        return frozenset(each.id for each in nodes if each.role == "manager")

    async def _managers(self) -> tuple[str, ...]:
        found = [each for each in await self._docker.nodes.list() if each.role == "manager" and each.address]
        return tuple(f"{each.address}:{SWARM_PORT}" for each in found)


def now() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(UTC)
