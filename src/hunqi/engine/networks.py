"""Networks: overlays through a manager, joining and leaving them on this node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hunqi.engine import parse
from hunqi.engine.model import Network
from hunqi.engine.transport import Transport, filters, labelled, quoted

_JOIN_S: Final = 60.0
"""An overlay's first join on a node asks a manager for an address."""


class Networks:
    """Networks."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(
        self, labels: Mapping[str, str] | None = None, *, names: Iterable[str] | None = None
    ) -> list[Network]:
        """Return the networks with all of these labels; ``names`` match in part, as Docker has it."""
        params = {"filters": filters(label=labelled(labels), name=names)}
        answer = await self._transport.call("GET", "/networks", params=params)
        return [parse.network(item) for item in parse.items(answer, "networks")]

    async def inspect(self, network: str) -> Network:
        """Return a network by id or name. Raises ``NotFoundError``."""
        return parse.network(parse.fields(await self._transport.call("GET", f"/networks/{quoted(network)}"), "network"))

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
        """Create a network and return its id; ``options`` are the driver's (``{"encrypted": ""}``).

        The Swarm gives it its driver and its subnet a moment later: until then they are empty.

        Raises ``ConflictError`` where the name is taken, ``NotManagerError`` for an overlay on a worker.
        """
        body: dict[str, Any] = {
            "Name": name,
            "Driver": driver,
            "Labels": dict(labels or {}),
            "Options": dict(options or {}),
            "Internal": internal,
            "CheckDuplicate": True,
        }
        if driver == "overlay":
            body["Attachable"] = attachable
        if subnet is not None:
            body["IPAM"] = {"Driver": "default", "Config": [{"Subnet": subnet}]}
        answer = await self._transport.call("POST", "/networks/create", body=body)
        return parse.fields(answer, "network")["Id"]

    async def remove(self, network: str) -> None:
        """Remove a network. Raises ``NotFoundError``; ``InUseError`` while a task or container is on it."""
        await self._transport.call("DELETE", f"/networks/{quoted(network)}")

    async def connect(
        self, network: str, container: str, *, aliases: Sequence[str] = (), address: str | None = None
    ) -> None:
        """Join a plain container of this node to a network, under further names and at an address of its subnet.

        Raises ``NotFoundError``, ``ConflictError`` if it is connected already.
        """
        endpoint: dict[str, Any] = {"Aliases": list(aliases)}
        if address is not None:
            endpoint["IPAMConfig"] = {"IPv4Address": address}
        body = {"Container": container, "EndpointConfig": endpoint}
        await self._transport.call("POST", f"/networks/{quoted(network)}/connect", body=body, timeout_s=_JOIN_S)

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        """Take a container of this node out. Raises ``NotFoundError``, also if it is not in."""
        body = {"Container": container, "Force": force}
        await self._transport.call("POST", f"/networks/{quoted(network)}/disconnect", body=body, timeout_s=_JOIN_S)
