"""Whether this node's Docker answers: a daemon that is up but stuck is seen by nobody else.

The Swarm believes in a node whose daemon sends heartbeats, though it may start and stop nothing any more. So it is
asked for something that needs its locks: containers, and networks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from hunqi.engine.model import Container, Network
from hunqi.errors import HunqiError

LOOK_S: Final = 10.0
PATIENCE_S: Final = 8.0
_AGAIN_S: Final = 2.0
_log: Final = logging.getLogger(__name__)


class Containers(Protocol):
    """Containers of this node."""

    async def list(self) -> list[Container]:
        """Return those that run."""
        ...


class Networks(Protocol):
    """Networks, as this node knows them."""

    async def list(self) -> list[Network]:
        """Return all."""
        ...


class EngineWatch:
    """Asks again and again; :attr:`problem` says what came of it."""

    def __init__(self, containers: Containers, networks: Networks, *, patience_s: float = PATIENCE_S) -> None:
        self._containers = containers
        self._networks = networks
        self._patience_s = patience_s
        self.problem = ""
        """Why Docker is of no use now, in a sentence; empty while it answers."""

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_AGAIN_S if self.problem else LOOK_S)

    async def look(self) -> None:
        """Ask once."""
        before, problem = self.problem, ""
        try:
            async with asyncio.timeout(self._patience_s):
                await self._containers.list()
                await self._networks.list()
        except TimeoutError:
            problem = (
                f"it has not answered for {self._patience_s:.0f} s; what runs is served, nothing can be started or "
                "stopped there: if it stays so, restart it (systemctl restart docker)"
            )
        except HunqiError as error:
            problem = str(error)
        self.problem = problem
        if bool(problem) != bool(before):
            _log.warning("Docker: %s", problem or "it answers again")
