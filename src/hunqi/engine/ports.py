"""The Swarm side of the engine as its users see it. :class:`~hunqi.engine.client.Docker` and
:class:`~hunqi.engine.fake.swarm.FakeSwarm` are such engines, and pass one contract suite. Promises and errors stand
at the real methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from hunqi.engine.model import JSON, EngineInfo, Event, LogLine, Network, Node, Payload, RegistryAuth, Service, Task


class LineStream(Protocol):
    """Log lines, pulled; see :class:`~hunqi.engine.logs.Lines`."""

    def __aiter__(self) -> LineStream:
        """Iterate."""
        ...

    async def __anext__(self) -> LogLine:
        """Return the next line."""
        ...


class EventStream(Protocol):
    """Events, pulled; see :class:`~hunqi.engine.system.Events`."""

    def __aiter__(self) -> EventStream:
        """Iterate."""
        ...

    async def __anext__(self) -> Event:
        """Return the next event."""
        ...


class ServicesPort(Protocol):
    """See :class:`~hunqi.engine.services.Services`."""

    async def list(
        self, labels: Mapping[str, str] | None = None, *, names: Iterable[str] | None = None
    ) -> list[Service]:
        """Return services."""
        ...

    async def inspect(self, service: str) -> Service:
        """Return a service by id or name."""
        ...

    async def create(self, spec: JSON, *, registry_auth: RegistryAuth | None = None) -> str:
        """Create a service and return its id."""
        ...

    async def update(
        self, service: str, version: int, spec: JSON, *, registry_auth: RegistryAuth | None = None
    ) -> None:
        """Replace its spec."""
        ...

    async def remove(self, service: str) -> None:
        """Remove it."""
        ...

    def logs(
        self,
        service: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_s: int | None = None,
        tty: bool = False,
    ) -> AbstractAsyncContextManager[LineStream]:
        """Open the lines of all its tasks."""
        ...


class TasksPort(Protocol):
    """See :class:`~hunqi.engine.tasks.Tasks`."""

    async def list(
        self,
        labels: Mapping[str, str] | None = None,
        *,
        services: Iterable[str] | None = None,
        nodes: Iterable[str] | None = None,
        ids: Iterable[str] | None = None,
        desired: Iterable[str] | None = None,
    ) -> list[Task]:
        """Return tasks."""
        ...

    async def inspect(self, task: str) -> Task:
        """Return a task by id."""
        ...

    def logs(
        self,
        task: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_s: int | None = None,
        tty: bool = False,
    ) -> AbstractAsyncContextManager[LineStream]:
        """Open its lines."""
        ...


class NodesPort(Protocol):
    """See :class:`~hunqi.engine.nodes.Nodes`."""

    async def list(self) -> list[Node]:
        """Return all nodes."""
        ...

    async def inspect(self, node: str) -> Node:
        """Return a node by id or host name."""
        ...

    async def update(
        self,
        node: Node,
        *,
        availability: str | None = None,
        role: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Change what is given."""
        ...

    async def remove(self, node: str, *, force: bool = False) -> None:
        """Forget a node."""
        ...


class NetworksPort(Protocol):
    """See :class:`~hunqi.engine.networks.Networks`."""

    async def list(
        self, labels: Mapping[str, str] | None = None, *, names: Iterable[str] | None = None
    ) -> list[Network]:
        """Return networks."""
        ...

    async def inspect(self, network: str) -> Network:
        """Return a network by id or name."""
        ...

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
        """Create a network and return its id."""
        ...

    async def remove(self, network: str) -> None:
        """Remove it."""
        ...

    async def connect(
        self, network: str, container: str, *, aliases: Sequence[str] = (), address: str | None = None
    ) -> None:
        """Join a plain container to it."""
        ...

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        """Take a container out of it."""
        ...


class PayloadsPort(Protocol):
    """See :class:`~hunqi.engine.payloads.Payloads`."""

    async def list(self, labels: Mapping[str, str] | None = None) -> list[Payload]:
        """Return secrets or configs."""
        ...

    async def inspect(self, payload: str) -> Payload:
        """Return one by id or name."""
        ...

    async def create(
        self, name: str, data: bytes, *, labels: Mapping[str, str] | None = None, template: str = ""
    ) -> str:
        """Create one and return its id; ``template`` names what expands it for each task (``golang``)."""
        ...

    async def remove(self, payload: str) -> None:
        """Remove one."""
        ...


class SystemPort(Protocol):
    """See :class:`~hunqi.engine.system.System`."""

    async def ping(self) -> str:
        """Return the API version."""
        ...

    async def info(self) -> EngineInfo:
        """Return what the daemon says of itself."""
        ...

    def events(
        self, *, since_ns: int | None = None, until_ns: int | None = None, kinds: Iterable[str] | None = None
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open the stream of events."""
        ...


class Engine(Protocol):
    """What a manager can be asked about apps: these six nouns."""

    @property
    def services(self) -> ServicesPort:
        """Services."""
        ...

    @property
    def tasks(self) -> TasksPort:
        """Tasks."""
        ...

    @property
    def nodes(self) -> NodesPort:
        """Nodes."""
        ...

    @property
    def networks(self) -> NetworksPort:
        """Networks."""
        ...

    @property
    def secrets(self) -> PayloadsPort:
        """Secrets."""
        ...

    @property
    def configs(self) -> PayloadsPort:
        """Configs."""
        ...


class WatchedEngine(Engine, Protocol):
    """An engine that can be watched."""

    @property
    def system(self) -> SystemPort:
        """The daemon."""
        ...
