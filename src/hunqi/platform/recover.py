"""``hunqi recover``: control rebuilt on a surviving manager, from what is mirrored in the Swarm.

What is mirrored is sealed: the cluster's key, kept elsewhere by its owner, is what opens it. Apps serve throughout.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hunqi.apps.recovery import Recovered
from hunqi.apps.recovery import recover as rebuild
from hunqi.engine.client import Docker
from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import LABEL_CLUSTER
from hunqi.kit.files import write_atomic
from hunqi.platform import founding, settings
from hunqi.platform.errors import RecoverError, SettingsError
from hunqi.platform.membership import Membership, save_membership
from hunqi.platform.settings import PlatformSettings, write_private
from hunqi.state.database import open_database
from hunqi.state.sealing import load_sealer


async def recover(chosen: PlatformSettings, *, key_file: Path | None) -> tuple[PlatformSettings, Recovered]:
    """Fill this machine's empty control from the Swarm, and return the settings to start it with.

    Raises :class:`RecoverError` with what is missing, and the errors of ``hunqi.apps.recovery``, engine and state.
    """
    _take_key(chosen, key_file)
    async with Docker(str(chosen.docker_socket)) as docker:
        swarm = (await docker.system.info()).swarm
        if not swarm.active or not swarm.is_manager:
            raise RecoverError("this machine is no manager of the Swarm: run hunqi recover on one that is")
        cluster = await _cluster_of(docker)
        membership = Membership(cluster=cluster, node=swarm.node_id)
        save_membership(chosen, membership)
        await _take_authority(chosen, docker)
        founding.make_keys(chosen, membership, now=datetime.now(UTC))
        sealer = load_sealer(chosen.cluster_key_file, create=False)
        async with open_database(chosen.database) as database:
            found = await rebuild(database, docker, sealer, cluster=cluster, actor="hunqi recover")
    final = replace(chosen, has_control=True)
    settings.save(final)
    return final, found


def _take_key(chosen: PlatformSettings, key_file: Path | None) -> None:
    if key_file is None:
        if not chosen.cluster_key_file.exists():
            raise RecoverError(
                "the cluster's key is needed, without which nothing that is mirrored opens: give --key-file FILE, "
                "the copy of DIR/control/cluster.key of the lost machine"
            )
        return
    try:
        write_private(chosen.cluster_key_file, key_file.read_text("ascii").strip() + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{key_file} cannot be read: {error}") from error


async def _cluster_of(docker: Docker) -> str:
    try:
        return (await docker.configs.inspect(founding.CONFIG_NAME)).labels[LABEL_CLUSTER]
    except (NotFoundError, KeyError) as error:
        raise RecoverError("this Swarm has no Hunqi: hunqi up makes one") from error


async def _take_authority(chosen: PlatformSettings, docker: Docker) -> None:
    if chosen.authority_file.exists():
        return
    try:
        sealed = (await docker.configs.inspect(founding.AUTHORITY_NAME)).data
    except NotFoundError as error:
        raise RecoverError(
            "the Swarm has no copy of the cluster's authority: restore DIR/control from a backup"
        ) from error
    write_atomic(chosen.authority_file, sealed or b"", mode=0o600)
