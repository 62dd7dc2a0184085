"""Nodes and networks of the fake, and its daemon."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from hunqi.engine import parse
from hunqi.engine.errors import ConflictError, EngineRefusedError, InUseError, NotFoundError
from hunqi.engine.fake.placement import FakeNode
from hunqi.engine.fake.services import labelled
from hunqi.engine.fake.streams import FakeEvents, Reach
from hunqi.engine.fake.world import World
from hunqi.engine.model import EngineInfo, Event, Network, Node, SwarmState


class FakeNodes:
    """See :class:`~hunqi.engine.nodes.Nodes`."""

    def __init__(self, world: World, reach: Reach) -> None:
        self._world = world
        self._reach = reach

    async def list(self) -> list[Node]:
        """Return all nodes."""
        self._reach()
        return [parse.node(node.json()) for node in self._world.nodes.values()]

    async def inspect(self, node: str) -> Node:
        """Return a node."""
        self._reach()
        return parse.node(self._find(node).json())

    async def update(
        self,
        node: Node,
        *,
        availability: str | None = None,
        role: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Change what is given."""
        self._reach()
        found = self._find(node.id)
        if found.version != node.version:
            raise ConflictError("update out of sequence")
        if (availability or "active") not in {"active", "pause", "drain"} or (role or "worker") not in _ROLES:
            raise EngineRefusedError(f"no availability or role: {availability} {role}")
        found.availability, found.role = availability or found.availability, role or found.role
        found.labels = dict(found.labels if labels is None else labels)
        found.version = self._world.bump()
        self._world.tell("node", "update", found.id, found.hostname)
        self._world.mark_all()
        self._world.settle()

    async def remove(self, node: str, *, force: bool = False) -> None:
        """Forget a node."""
        self._reach()
        found = self._find(node)
        if found.state == "ready" and not force:
            raise EngineRefusedError(f"node {found.id} is not down and can't be removed")
        for task in list(self._world.tasks.values()):
            if task.node_id == found.id:
                self._world.drop(task)
        del self._world.nodes[found.id]
        self._world.tell("node", "remove", found.id, found.hostname)
        self._world.mark_all()
        self._world.settle()

    def _find(self, node: str) -> FakeNode:
        for found in self._world.nodes.values():
            if node in {found.id, found.hostname} or (node == "self" and found.leader):
                return found
        raise NotFoundError(f"node {node} not found")


class FakeNetworks:
    """See :class:`~hunqi.engine.networks.Networks`."""

    def __init__(self, world: World, reach: Reach) -> None:
        self._world = world
        self._reach = reach
        self.containers: Final[dict[str, dict[str, str]]] = {}
        """Plain containers: name → network id → address. A test puts its containers here."""
        self.aliases: Final[dict[tuple[str, str], tuple[str, ...]]] = {}
        """(container, network id) → its further names there."""

    async def list(
        self, labels: Mapping[str, str] | None = None, *, names: Iterable[str] | None = None
    ) -> list[Network]:
        """Return networks."""
        self._reach()
        parts = None if names is None else tuple(names)
        return [
            parse.network(copy.deepcopy(data))
            for data in self._world.networks.values()
            if labelled(data["Labels"], labels) and (parts is None or any(part in data["Name"] for part in parts))
        ]

    async def inspect(self, network: str) -> Network:
        """Return a network."""
        self._reach()
        return parse.network(copy.deepcopy(self._find(network)))

    async def create(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        driver: str = "overlay",
        attachable: bool = True,
        internal: bool = False,
        subnet: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        """Create a network."""
        self._reach()
        world = self._world
        if any(data["Name"] == name for data in world.networks.values()):
            raise ConflictError(f"network with name {name} already exists")
        taken = {data["IPAM"]["Config"][0]["Subnet"] for data in world.networks.values()}
        free = (f"10.{second}.{third}.0/24" for second in range(256) for third in range(1, 256))
        data: dict[str, Any] = {
            "Id": world.new_id(),
            "Name": name,
            "Driver": driver,
            "Scope": "swarm" if driver == "overlay" else "local",
            "Attachable": attachable if driver == "overlay" else False,
            "Internal": internal,
            "Labels": dict(labels or {}),
            "Options": dict(options or {}),
            "IPAM": {"Config": [{"Subnet": subnet or next(each for each in free if each not in taken)}]},
        }
        world.networks[data["Id"]] = data
        world.tell("network", "create", data["Id"], name)
        return data["Id"]

    async def remove(self, network: str) -> None:
        """Remove a network."""
        self._reach()
        data = self._find(network)
        id_ = data["Id"]
        for service in self._world.services.values():
            if any(each["Target"] == id_ for each in service["Spec"]["TaskTemplate"].get("Networks") or ()):
                raise InUseError(f"network {data['Name']} is in use by service {service['Spec']['Name']}")
        if any(id_ in task.addresses and not task.ended for task in self._world.tasks.values()):
            raise InUseError(f"network {data['Name']} is in use by a task")
        if any(id_ in joined for joined in self.containers.values()):
            raise InUseError(f"network {data['Name']} has active endpoints")
        del self._world.networks[id_]
        self._world.tell("network", "remove", id_, data["Name"])

    async def connect(
        self, network: str, container: str, *, aliases: Sequence[str] = (), address: str | None = None
    ) -> None:
        """Join a plain container to it."""
        self._reach()
        data, joined = self._find(network), self._container(container)
        if data["Id"] in joined:
            raise ConflictError(f"endpoint with name {container} already exists in network {data['Name']}")
        joined[data["Id"]] = address or self._world.take_address(data["Id"])
        self.aliases[container, data["Id"]] = tuple(aliases)

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        """Take a container out of it."""
        self._reach()
        data, joined = self._find(network), self._container(container)
        if joined.pop(data["Id"], None) is None:
            raise NotFoundError(f"container {container} is not connected to network {data['Name']}")
        self.aliases.pop((container, data["Id"]), None)

    def _container(self, name: str) -> dict[str, str]:
        if name not in self.containers:
            raise NotFoundError(f"No such container: {name}")
        return self.containers[name]

    def _find(self, network: str) -> dict[str, Any]:
        for id_, data in self._world.networks.items():
            if network in {id_, data["Name"]}:
                return data
        raise NotFoundError(f"network {network} not found")


class FakeSystem:
    """See :class:`~hunqi.engine.system.System`."""

    def __init__(self, world: World, reach: Reach) -> None:
        self._world = world
        self._reach = reach
        self.streams: Final[set[FakeEvents]] = set()

    async def ping(self) -> str:
        """Return the API version."""
        self._reach()
        return "1.41"

    async def info(self) -> EngineInfo:
        """Return what the daemon says of itself: the first node's."""
        self._reach()
        node = next(iter(self._world.nodes.values()))
        swarm = SwarmState(
            state="active",
            is_manager=True,
            node_id=node.id,
            node_address=node.address,
            managers=tuple(f"{each.address}:2377" for each in self._world.nodes.values() if each.role == "manager"),
            cluster_id="fake",
            error="",
        )
        return EngineInfo(
            name=node.hostname,
            version="20.10.24",
            os="linux",
            arch="x86_64",
            kernel="6.1.0",
            cpus=node.nano_cpus // 10**9,
            memory_bytes=node.memory_bytes,
            storage_driver="overlay2",
            cgroup_version="2",
            data_root="/var/lib/docker",
            swarm=swarm,
            log_driver="json-file",
        )

    @asynccontextmanager
    async def events(
        self, *, since_ns: int | None = None, until_ns: int | None = None, kinds: Iterable[str] | None = None
    ) -> AsyncGenerator[FakeEvents]:
        """Open the stream of events, from now on."""
        self._reach()
        stream = FakeEvents()
        wanted = None if kinds is None else frozenset(kinds)

        def listen(event: Event) -> None:
            if wanted is None or event.kind in wanted:
                stream.put(event)

        self._world.listeners.add(listen)
        self.streams.add(stream)
        try:
            yield stream
        finally:
            self._world.listeners.discard(listen)
            self.streams.discard(stream)


_ROLES: Final = frozenset({"manager", "worker"})
