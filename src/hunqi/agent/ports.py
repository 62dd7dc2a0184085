"""What the agent needs of others, each port as small as its use: the gateway of this node, its engine, its mirror."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from hunqi.engine.model import JSON, Event
from hunqi.gateway.model import GatewayReport, RouteTable


class Gateway(Protocol):
    """The gateway of this node."""

    async def run(self) -> None:
        """Keep its containers as they should be, until cancelled."""
        ...

    async def apply(self, table: RouteTable) -> None:
        """Have it work by ``table``: networks joined, resources written. Idempotent; returns before Envoy has it."""
        ...

    async def observe(self) -> GatewayReport:
        """Ask Envoy what it has. ``version`` is that of the last table that it took in whole."""
        ...


class Container(Protocol):
    """A container of this node, as far as the agent looks at one (``hunqi.engine.model.Container`` is one)."""

    @property
    def id(self) -> str:
        """Its full id."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        ...

    @property
    def pid(self) -> int | None:
        """Its first process, in the machine's own numbers; None if it does not run or came from a list."""
        ...

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        ...

    @property
    def detail(self) -> JSON:
        """Docker's whole answer, empty when it came from a list."""
        ...


class Containers(Protocol):
    """The engine of this node, for what concerns running containers."""

    async def containers(self, *, labels: Mapping[str, str | None]) -> Sequence[Container]:
        """Return running containers that carry ``labels`` (None: with any value)."""
        ...

    async def container(self, container_id: str, /) -> Container:
        """Return one, whole. Raises ``NotFoundError``."""
        ...

    def events(
        self, *, since: float | None = None, filters: Mapping[str, Sequence[str]] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Open the stream of events from ``since`` (seconds since 1970) on."""
        ...


class Mirror(Protocol):
    """The operator's socket of this node's mirror."""

    async def call(
        self, op: str, payload: Mapping[str, Any], *, on_event: Callable[[Mapping[str, Any]], None] | None = None
    ) -> Mapping[str, Any]:
        """Have an operation done. Raises ``RpcError`` and ``RpcUnavailableError``."""
        ...


class Peers(Protocol):
    """The other agents."""

    async def drain(self, node: str, tasks: Sequence[str], *, timeout_s: float) -> Mapping[str, int]:
        """Take tasks out of the node's gateway and wait until idle; return who was still busy at the end."""
        ...
