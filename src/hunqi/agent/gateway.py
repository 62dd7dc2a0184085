"""The gateway of a node that keeps none."""

from __future__ import annotations

import asyncio

from hunqi.gateway.counting import GatewayCounts
from hunqi.gateway.model import GatewayReport, RouteTable


class NoGateway:
    """Stands where a node is not to have a gateway: nothing is served, so nothing is ever open."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def run(self) -> None:
        """Do nothing until cancelled."""
        await asyncio.Event().wait()

    async def apply(self, table: RouteTable) -> None:
        """Have nobody work by ``table``."""

    async def observe(self) -> GatewayReport:
        """Return that nothing runs here."""
        return GatewayReport(node=self._node, version=0, running=False, endpoints=())

    async def count(self) -> GatewayCounts:
        """Return that there were no requests here, which is known."""
        return GatewayCounts(boot="none", answered=True)

    async def waits_anew(self) -> None:
        """Wait until cancelled: nobody is ever held here."""
        await asyncio.Event().wait()
