"""What is kept for an app: secrets, environment, routes."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

from hunqi.client.model import Deploy, EnvView, RouteView, SecretView
from hunqi.client.paging import every
from hunqi.client.transport import Transport, path_of


class Variables:
    """Secrets, environment and routes of apps; what changes a running app returns its deploy."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def secrets(self, app: str) -> AsyncIterator[SecretView]:
        """Yield secrets, without values."""
        return every(self._transport, path_of("apps", app, "secrets"))

    async def put_secret(self, app: str, name: str, value: bytes, *, reason: str = "") -> Deploy | None:
        """Keep a secret."""
        body = {"base64": base64.b64encode(value).decode(), "reason": reason}
        return await self._transport.ask("PUT", path_of("apps", app, "secrets", name), body=body)

    async def remove_secret(self, app: str, name: str) -> None:
        """Forget a secret that is not in use."""
        await self._transport.ask("DELETE", path_of("apps", app, "secrets", name))

    def environment(self, app: str) -> AsyncIterator[EnvView]:
        """Yield variables, with values."""
        return every(self._transport, path_of("apps", app, "env"))

    async def put_environment(self, app: str, values: Mapping[str, str | None], *, reason: str = "") -> Deploy | None:
        """Set variables, and forget those that are None; one deploy for all."""
        body = {"values": dict(values), "reason": reason}
        return await self._transport.ask("PUT", path_of("apps", app, "env"), body=body)

    def routes(self, app: str) -> AsyncIterator[RouteView]:
        """Yield the routes in force."""
        return every(self._transport, path_of("apps", app, "routes"))

    async def add_route(self, app: str, service: str, spec: Mapping[str, Any], *, reason: str = "") -> RouteView:
        """Add a route; ``spec`` has ``port`` and mostly ``hosts``, see RouteSpecBody in the interface's description."""
        body = {"service": service, "spec": dict(spec), "reason": reason}
        return await self._transport.ask("POST", path_of("apps", app, "routes"), body=body)

    async def remove_route(self, app: str, route: str) -> None:
        """Remove a route that does not stand in the file."""
        await self._transport.ask("DELETE", path_of("apps", app, "routes", route))
