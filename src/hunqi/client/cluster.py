"""Nodes, joining, certificates, events and the platform itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from hunqi.client.model import BackupMade, CertificateView, JoinTokenView, NodeView, PlatformStatus
from hunqi.client.paging import every
from hunqi.client.transport import ServerEvent, Transport, path_of


class Cluster:
    """The cluster."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def status(self) -> PlatformStatus:
        """Return what is up."""
        return await self._transport.ask("GET", "/v1/status")

    async def back_up(self, *, reason: str = "") -> BackupMade:
        """Copy the database on the machine that leads."""
        return await self._transport.ask("POST", "/v1/backup", body={"reason": reason})

    def nodes(self) -> AsyncIterator[NodeView]:
        """Yield the machines."""
        return every(self._transport, "/v1/nodes")

    async def node(self, node: str) -> NodeView:
        """Return one machine, by name or id."""
        return await self._transport.ask("GET", path_of("nodes", node))

    async def change_node(
        self, node: str, *, role: str | None = None, labels: Mapping[str, str | None] | None = None
    ) -> NodeView:
        """Change a machine's role or labels; a label set to None is removed."""
        body = {"role": role, "labels": dict(labels or {})}
        return await self._transport.ask("PATCH", path_of("nodes", node), body=body)

    async def drain(self, node: str, *, reason: str = "") -> NodeView:
        """Begin to empty a machine."""
        return await self._transport.ask("POST", path_of("nodes", node, "drain"), body={"reason": reason})

    async def activate(self, node: str, *, reason: str = "") -> NodeView:
        """Let tasks be placed on a machine again."""
        return await self._transport.ask("POST", path_of("nodes", node, "activate"), body={"reason": reason})

    async def remove_node(self, node: str, *, force: bool = False) -> None:
        """Remove a machine that is drained or down."""
        await self._transport.ask("DELETE", path_of("nodes", node), query={"force": force})

    async def new_join_token(self, role: str = "worker", *, minutes: int = 60) -> JoinTokenView:
        """Make a join token; its text is shown only now."""
        return await self._transport.ask("POST", "/v1/join-tokens", body={"role": role, "minutes": minutes})

    def join_tokens(self) -> AsyncIterator[JoinTokenView]:
        """Yield the join tokens that are still good."""
        return every(self._transport, "/v1/join-tokens")

    async def revoke_join_token(self, token: str) -> None:
        """Make a join token (by id) useless."""
        await self._transport.ask("DELETE", path_of("join-tokens", token))

    def certificates(self) -> AsyncIterator[CertificateView]:
        """Yield the gateways' certificates."""
        return every(self._transport, "/v1/certificates")

    async def add_certificate(self, chain_pem: str, key_pem: str) -> CertificateView:
        """Have the gateways use a certificate."""
        return await self._transport.ask("POST", "/v1/certificates", body={"chain_pem": chain_pem, "key_pem": key_pem})

    async def remove_certificate(self, certificate: str) -> None:
        """Forget a certificate that was given."""
        await self._transport.ask("DELETE", path_of("certificates", certificate))

    async def authority(self) -> str:
        """Return the certificate of the local authority, PEM."""
        return (await self._transport.ask("GET", "/v1/ca"))["certificate_pem"]

    async def x_hunqi_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of ``x-hunqi``."""
        return await self._transport.ask("GET", "/v1/schemas/x-hunqi")

    @asynccontextmanager
    async def events(
        self, *, after: int | None = None, app: str | None = None, follow: bool = True
    ) -> AsyncGenerator[AsyncIterator[ServerEvent]]:
        """Open the events after number ``after`` (None: from now on); an event's ``id`` is its number."""
        query = {"after": after, "app": app, "follow": follow}
        async with self._transport.events("/v1/events", query=query) as events:
            yield events
