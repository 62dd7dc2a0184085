"""``hunqi up``, step by step: Docker, the Swarm, the ports, what is made once, then the supervisor.

Every step looks first and does only what is missing, so that ``up`` can be called at any time; nothing that somebody
else runs is touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hunqi.engine.client import Docker
from hunqi.engine.errors import EngineUnreachableError
from hunqi.engine.model import LABEL_CLUSTER, EngineInfo
from hunqi.platform import doctor, escrow, founding, ports, settings
from hunqi.platform.docker import DockerHost
from hunqi.platform.errors import DockerMissingError
from hunqi.platform.findings import Level
from hunqi.platform.membership import Membership, load_membership
from hunqi.platform.settings import PlatformSettings
from hunqi.platform.swarm import Found, Seat, take_seat

Tell = Callable[[str], None]
_PROBE_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A machine on which the supervisor can be started.

    ``setup_token`` is there while there is no user; each replaces the one before.
    """

    settings: PlatformSettings
    membership: Membership
    seat: Seat
    api_version: str
    setup_token: str | None


def docker_host(chosen: PlatformSettings) -> DockerHost:
    """Return this machine's Docker as a program."""
    return DockerHost(
        socket=chosen.docker_socket, log_dir=chosen.log_dir, answers=lambda: docker_answers(chosen.docker_socket)
    )


def docker_answers(socket: Path) -> bool:
    """Whether a Docker answers at ``socket``."""

    async def ask() -> None:
        async with Docker(str(socket), call_timeout_s=_PROBE_S):
            pass

    try:
        asyncio.run(ask())
    except EngineUnreachableError:
        return False
    return True


async def prepare(chosen: PlatformSettings, tell: Tell, *, ours: frozenset[int] | None = None) -> Prepared:
    """Make everything ready for the supervisor, whose Docker answers already.

    ``ours`` are the ports that it and its gateway hold already, looked for if they are not given.
    Raises ``UserError`` with what to do where the machine cannot be used as it is.
    """
    async with Docker(str(chosen.docker_socket)) as docker:
        info = await docker.system.info()
        require_manager_or_none(info, chosen)
        held = await gateway_ports(docker, chosen) if ours is None else ours
        ports.require_free(ports.needs_of(chosen), ours=held)
        _warn_of_disks(chosen, info, tell)
        seat = await take_seat(docker, chosen)
        tell(_told(seat, docker.api_version))
        membership = await founding.claim_swarm(chosen, docker, node=seat.node)
        founding.make_keys(chosen, membership, now=datetime.now(UTC))
        await founding.mirror_authority(chosen, docker, membership)
        await escrow.deposit(docker, chosen.cluster_key_file.read_text("ascii").strip(), cluster=membership.cluster)
        token = await founding.new_setup_token(chosen)
        final = replace(chosen, has_control=True)
        settings.save(final)
        return Prepared(
            settings=final, membership=membership, seat=seat, api_version=docker.api_version, setup_token=token
        )


def require_manager_or_none(info: EngineInfo, chosen: PlatformSettings) -> None:
    """Raise :class:`DockerMissingError` where this machine is a worker of a Swarm whose managers are elsewhere."""
    if info.swarm.active and not info.swarm.is_manager:
        raise DockerMissingError(
            f"this machine ({chosen.data_dir}) is a worker of a Swarm: run hunqi up on one of its managers, "
            "then hunqi join TOKEN here"
        )


async def gateway_ports(docker: Docker, chosen: PlatformSettings) -> frozenset[int]:
    """Return the ports that the gateway of an earlier run still holds: it serves on after ``hunqi down``."""
    membership = load_membership(chosen)
    if membership is None:
        return frozenset()
    kept = await docker.containers.list({LABEL_CLUSTER: membership.cluster})
    if not any("gateway" in container.name for container in kept):
        return frozenset()
    return frozenset(need.address.port for need in ports.gateway_needs(chosen))


def _warn_of_disks(chosen: PlatformSettings, info: EngineInfo, tell: Tell) -> None:
    for directory in dict.fromkeys((chosen.data_dir, Path(info.data_root or chosen.data_dir))):
        found = doctor.check_disk(directory, "disk")
        if found.level is Level.PROBLEM:
            tell(f"Warning: {found.text}: {found.remedy}")


def _told(seat: Seat, api_version: str) -> str:
    verb = "uses the Swarm that is here" if seat.found is Found.ADOPTED else "made a Swarm of this one machine"
    return f"Docker {seat.info.version} (API {api_version}) on {seat.info.name}; {verb}"
