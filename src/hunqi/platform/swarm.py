"""The Swarm of this machine: the one that is there is adopted as it is, else one of a single node is made.

Nothing here ever leaves or resets a Swarm.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import Enum
from typing import Final

import psutil

from hunqi.engine.client import Docker
from hunqi.engine.model import EngineInfo
from hunqi.platform.errors import DockerMissingError
from hunqi.platform.settings import LOOPBACK, PlatformSettings

HEARTBEAT_S: Final = 3.0
"""Docker's own is 5: a worker's loss was then seen after 13 s instead of about 8, a leader's after 42 instead of 29."""


class Found(Enum):
    """Where the Swarm comes from."""

    ADOPTED = "adopted"
    MADE = "made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """This machine's place in its Swarm."""

    found: Found
    node: str
    is_manager: bool
    info: EngineInfo


async def take_seat(docker: Docker, settings: PlatformSettings) -> Seat:
    """Return this machine's place in the Swarm that is there, or in a new one of this node alone.

    Raises :class:`DockerMissingError` for a Swarm that is locked, failed or known only from the outside, and the
    errors of the engine.
    """
    info = await docker.system.info()
    match info.swarm.state:
        case "active":
            return Seat(found=Found.ADOPTED, node=info.swarm.node_id, is_manager=info.swarm.is_manager, info=info)
        case "inactive":
            node = await docker.swarm.init(advertise=settings.advertise or own_address(), heartbeat_s=HEARTBEAT_S)
            return Seat(found=Found.MADE, node=node, is_manager=True, info=await docker.system.info())
        case "locked":
            raise DockerMissingError("this machine's Swarm is locked: docker swarm unlock, then again")
        case state:
            why = f" ({info.swarm.error})" if info.swarm.error else ""
            raise DockerMissingError(
                f"this machine's Swarm is {state}{why}; Hunqi never leaves or resets one: see docker info, then again"
            )


def own_address() -> str:
    """Return the IPv4 address by which others would most likely reach this machine, loopback if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: a datagram socket sends nothing by this
            return str(probe.getsockname()[0])
        except OSError:
            pass
    addresses = [
        held.address
        for name, each in psutil.net_if_addrs().items()
        for held in each
        if held.family == socket.AF_INET and not held.address.startswith("127.") and not name.startswith("docker")
    ]
    return addresses[0] if addresses else LOOPBACK
