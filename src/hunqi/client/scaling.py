"""Elastic scaling."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from hunqi.client.paging import every
from hunqi.client.transport import Transport, path_of


class Scaling:
    """Services that load moves; answers are the interface's JSON objects."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def scaled(self, app: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the services that load moves, each with its last decision."""
        return every(self._transport, path_of("apps", app, "scaling"))

    async def find(self, app: str, service: str) -> Mapping[str, Any]:
        """Return how load moves a service."""
        return await self._transport.ask("GET", path_of("apps", app, "services", service, "autoscale"))

    async def set(self, app: str, service: str, scale: Mapping[str, Any], *, reason: str = "") -> Mapping[str, Any]:
        """Have load move it so, in place of the file's; ``scale`` has the fields of ``x-hunqi.scale``."""
        body = {"scale": dict(scale), "reason": reason}
        return await self._transport.ask("PUT", path_of("apps", app, "services", service, "autoscale"), body=body)

    async def off(self, app: str, service: str, *, reason: str = "") -> None:
        """Have load not move it, whatever the file says."""
        body = {"off": True, "reason": reason}
        await self._transport.ask("PUT", path_of("apps", app, "services", service, "autoscale"), body=body)

    async def forget(self, app: str, service: str) -> None:
        """Have the file say it again."""
        await self._transport.ask("DELETE", path_of("apps", app, "services", service, "autoscale"))

    async def decisions(self, app: str, *, service: str | None = None, limit: int = 50) -> list[Mapping[str, Any]]:
        """Return the last decisions, newest first, with the numbers behind them."""
        query = {"limit": limit} | ({"service": service} if service is not None else {})
        return await self._transport.ask("GET", path_of("apps", app, "scaling", "decisions"), query=query)
