"""Machines of the Swarm, through a manager."""

from __future__ import annotations

from collections.abc import Mapping

from hunqi.engine import parse
from hunqi.engine.model import Node
from hunqi.engine.transport import Transport, quoted


class Nodes:
    """Nodes; every method raises ``NotManagerError`` on a worker, and ``EngineUnreachableError``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self) -> list[Node]:
        """Return all nodes."""
        return [parse.node(item) for item in parse.items(await self._transport.call("GET", "/nodes"), "nodes")]

    async def inspect(self, node: str) -> Node:
        """Return a node by id or host name, ``self`` for this one. Raises ``NotFoundError``."""
        if node == "self":
            # Docker's client has this name, its API has not.
            info = parse.engine_info(parse.fields(await self._transport.call("GET", "/info"), "info"))
            node = info.swarm.node_id
        return parse.node(parse.fields(await self._transport.call("GET", f"/nodes/{quoted(node)}"), "node"))

    async def update(
        self,
        node: Node,
        *,
        availability: str | None = None,
        role: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Change what is given, at the version that ``node`` was seen with; ``labels`` replaces all of them.

        Raises ``ConflictError`` if the node was changed since.
        """
        spec = {
            **node.spec,
            "Availability": availability or node.availability,
            "Role": role or node.role,
            "Labels": dict(node.labels if labels is None else labels),
        }
        await self._transport.call(
            "POST", f"/nodes/{quoted(node.id)}/update", params={"version": node.version}, body=spec
        )

    async def remove(self, node: str, *, force: bool = False) -> None:
        """Forget a node. Raises ``NotFoundError``; ``EngineRefusedError`` for one that is up, unless forced."""
        await self._transport.call("DELETE", f"/nodes/{quoted(node)}", params={"force": force})
