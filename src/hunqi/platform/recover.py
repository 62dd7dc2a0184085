"""``hunqi recover``: control rebuilt on a surviving manager, from what is mirrored in the Swarm.

What is mirrored is sealed with the cluster's key, which the Swarm keeps as a secret. Apps serve throughout.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hunqi.apps.recovery import Recovered
from hunqi.apps.recovery import recover as rebuild
from hunqi.engine.client import Docker
from hunqi.engine.errors import NotFoundError, NotManagerError
from hunqi.engine.model import LABEL_CLUSTER
from hunqi.platform import escrow, founding, settings
from hunqi.platform.errors import RecoverError
from hunqi.platform.keys import find_keys
from hunqi.platform.membership import Membership, save_membership
from hunqi.platform.settings import PlatformSettings
from hunqi.state.database import open_database
from hunqi.state.sealing import load_sealer


async def recover(chosen: PlatformSettings, *, key_file: Path | None) -> tuple[PlatformSettings, Recovered]:
    """Fill this machine's empty control from the Swarm, and return the settings to start it with.

    Raises :class:`RecoverError` with what is missing, and the errors of ``hunqi.apps.recovery``, engine and state.
    """
    async with Docker(str(chosen.docker_socket)) as docker:
        swarm = (await docker.system.info()).swarm
        if not swarm.active or not swarm.is_manager:
            raise RecoverError("this machine is no manager of the Swarm: run hunqi recover on one that is")
        cluster = await _cluster_of(docker, address=swarm.node_address)
        keys = await find_keys(chosen, docker, node=swarm.node_id, key_file=key_file)
        keys.write(chosen)
        await escrow.deposit(docker, keys.key, cluster=cluster)
        membership = Membership(cluster=cluster, node=swarm.node_id)
        save_membership(chosen, membership)
        founding.make_keys(chosen, membership, now=datetime.now(UTC))
        sealer = load_sealer(chosen.cluster_key_file, create=False)
        async with open_database(chosen.database) as database:
            found = await rebuild(database, docker, sealer, cluster=cluster, actor="hunqi recover")
    final = replace(chosen, has_control=True)
    settings.save(final)
    return final, found


async def _cluster_of(docker: Docker, *, address: str) -> str:
    try:
        return (await docker.configs.inspect(founding.CONFIG_NAME)).labels[LABEL_CLUSTER]
    except (NotFoundError, KeyError) as error:
        raise RecoverError("this Swarm has no Hunqi: hunqi up makes one") from error
    except NotManagerError as error:
        raise RecoverError(
            "too few managers are left for the Swarm to decide anything. If the others are lost for good, "
            f"docker swarm init --force-new-cluster --advertise-addr {address or 'ADDRESS'} makes this machine its "
            "only manager and keeps what runs; then hunqi recover again"
        ) from error
