"""What the agent needs of others, each port as small as its use: the gateway of this node, its engine, its mirror."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from hunqi.engine.model import JSON, Event
from hunqi.gateway.counting import GatewayCounts
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

    async def count(self) -> GatewayCounts:
        """Ask Envoy what it has counted; one that does not answer is said, not raised."""
        ...

    async def waits_anew(self) -> None:
        """Return once a request waits for a service for which none did before."""
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
    """The containers of this node's engine (``hunqi.engine.containers.Containers`` is one)."""

    async def inspect(self, container: str, /) -> Container:
        """Return one, whole. Raises ``NotFoundError``."""
        ...


class Images(Protocol):
    """The images of this node's engine, as far as a stop needs them."""

    async def detail(self, image: str, /) -> JSON:
        """Return Docker's whole answer. Raises ``NotFoundError``."""
        ...


class System(Protocol):
    """The engine's events."""

    def events(
        self, *, since_ns: int | None = None, kinds: Iterable[str] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Open the stream of events, replaying what the daemon still has from ``since_ns`` on."""
        ...


class Peers(Protocol):
    """The other agents."""

    async def drain(self, node: str, tasks: Sequence[str], *, timeout_s: float) -> Mapping[str, int]:
        """Take tasks out of the node's gateway and wait until idle; return who was still busy at the end."""
        ...
