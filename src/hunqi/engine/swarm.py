"""The Swarm: looked at, made, joined. Leaving is not offered: Hunqi never leaves or resets a Swarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hunqi.engine import parse
from hunqi.engine.model import SwarmSettings
from hunqi.engine.transport import Transport

_JOIN_S: Final = 60.0
"""Docker itself gives up after 20 s, and goes on in the background."""


class Swarm:
    """The Swarm that this node is in, or could be."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def inspect(self) -> SwarmSettings:
        """Return the Swarm with its join tokens. Raises ``NotManagerError`` on a worker or outside of one."""
        return parse.swarm_settings(parse.fields(await self._transport.call("GET", "/swarm"), "swarm"))

    async def init(
        self,
        *,
        advertise: str,
        listen: str = "0.0.0.0:2377",
        pools: Sequence[str] = (),
        subnet_size: int = 24,
        heartbeat_s: float | None = None,
    ) -> str:
        """Make a Swarm of this node and return the node's id. Raises ``ConflictError`` where it is in one already.

        ``advertise``: address or interface. ``pools``: CIDRs from which networks get their subnets of ``subnet_size``
        bits. ``heartbeat_s``: how often nodes report. One that is cut off is found down after two to three times
        that, the leader after six times and an election (measured with three nodes: tasks of a worker replaced after
        13 s with Docker's 5 s, after 5 s with 2 s).
        """
        body: dict[str, Any] = {"ListenAddr": listen, "AdvertiseAddr": advertise, "Spec": {}}
        if heartbeat_s is not None:
            body["Spec"] = {"Dispatcher": {"HeartbeatPeriod": int(heartbeat_s * 1e9)}}
        if pools:
            body |= {"DefaultAddrPool": list(pools), "SubnetSize": subnet_size}
        return str(await self._transport.call("POST", "/swarm/init", body=body, timeout_s=_JOIN_S))

    async def join(self, *, managers: Sequence[str], token: str, advertise: str, listen: str = "0.0.0.0:2377") -> None:
        """Join the Swarm of ``managers`` (``address:port``) in the role that the token gives.

        Raises ``ConflictError`` where the node is in one already.
        """
        body = {"RemoteAddrs": list(managers), "JoinToken": token, "AdvertiseAddr": advertise, "ListenAddr": listen}
        await self._transport.call("POST", "/swarm/join", body=body, timeout_s=_JOIN_S)
