"""Docker's Engine API over its socket: one object with a part for each noun.

Every call has a deadline; streams have one for their first answer only. The version is negotiated once, when the
client is opened, between 1.41 and 1.54. Nothing is cached and nothing is retried: who observes, decides.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from hunqi.engine.address import DEFAULT_SOCKET, Address
from hunqi.engine.containers import Containers
from hunqi.engine.execs import Execs
from hunqi.engine.images import Images
from hunqi.engine.networks import Networks
from hunqi.engine.nodes import Nodes
from hunqi.engine.payloads import Payloads
from hunqi.engine.services import Services
from hunqi.engine.swarm import Swarm
from hunqi.engine.system import System, negotiate
from hunqi.engine.tasks import Tasks
from hunqi.engine.transport import CALL_TIMEOUT_S, Transport
from hunqi.engine.volumes import Volumes


class Docker:
    """One daemon. Use it as ``async with Docker(socket) as docker``; safe for any number of tasks."""

    def __init__(self, socket: str = DEFAULT_SOCKET, *, call_timeout_s: float = CALL_TIMEOUT_S) -> None:
        """``socket``: ``unix:///path``, ``/path`` or ``tcp://host:port``. Raises ``EngineRefusedError``."""
        self._transport: Final = Transport(Address.parse(socket), call_timeout_s=call_timeout_s)
        self.system: Final = System(self._transport)
        self.swarm: Final = Swarm(self._transport)
        self.services: Final = Services(self._transport)
        self.tasks: Final = Tasks(self._transport)
        self.nodes: Final = Nodes(self._transport)
        self.networks: Final = Networks(self._transport)
        self.secrets: Final = Payloads(self._transport, "/secrets")
        self.configs: Final = Payloads(self._transport, "/configs")
        self.volumes: Final = Volumes(self._transport)
        self.containers: Final = Containers(self._transport)
        self.execs: Final = Execs(self._transport)
        self.images: Final = Images(self._transport)

    @property
    def api_version(self) -> str:
        """The negotiated version, such as ``1.41``."""
        return self._transport.version

    async def __aenter__(self) -> Self:
        """Connect and negotiate. Raises ``EngineUnreachableError``, ``UnsupportedError``."""
        await self._transport.open()
        try:
            self._transport.version = negotiate(await self.system.ping())
        except BaseException:
            await self._transport.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection, streams included."""
        await self._transport.close()
