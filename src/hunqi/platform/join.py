"""``hunqi join``, step by step: Docker, the ports, into the cluster and its Swarm, then the supervisor.

A joining that was interrupted is done again with the same token, until that expires.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hunqi.engine.client import Docker
from hunqi.nodes.joining import Joiner, join_cluster
from hunqi.platform import founding, ports, settings
from hunqi.platform.errors import SettingsError
from hunqi.platform.membership import Membership, save_membership
from hunqi.platform.settings import LOOPBACK, PlatformSettings, with_shared
from hunqi.platform.swarm import own_address
from hunqi.platform.up import gateway_ports


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedMachine:
    """A machine on which the supervisor can be started."""

    settings: PlatformSettings
    membership: Membership
    role: str


async def join(chosen: PlatformSettings, token: str) -> JoinedMachine:
    """Join the cluster of ``token`` with this machine, whose Docker answers already.

    Raises ``UserError`` with what to do, and the errors of ``hunqi.nodes.joining`` and of the engine.
    """
    host = chosen.advertise or own_address()
    if host == LOOPBACK:
        raise SettingsError("this machine has no address that others could reach: give --advertise ADDRESS")
    wanted = replace(chosen, advertise=host, has_control=False)
    for directory in (wanted.agent_dir, wanted.mirror_dir, wanted.run_dir, wanted.log_dir):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with Docker(str(wanted.docker_socket)) as docker:
        ports.require_free(ports.needs_of(wanted), ours=await gateway_ports(docker, wanted))
        joiner = Joiner(
            system=docker.system,
            swarm=docker.swarm,
            agent_dir=wanted.agent_dir,
            mirror_dir=wanted.mirror_dir,
            host=host,
            agent_port=wanted.agent_port,
        )
        joined = await join_cluster(token, joiner)
    final = with_shared(wanted, joined.answer.settings)
    membership = Membership(cluster=joined.answer.cluster, node=joined.node)
    save_membership(final, membership)
    founding.write_registry_key(final, str(joined.answer.settings.get("registry_key", "")))
    settings.save(final)
    return JoinedMachine(settings=final, membership=membership, role=joined.answer.role)
