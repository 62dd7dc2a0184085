"""Control on a further manager: a machine that has joined takes part in leading, by the PostgreSQL of the cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hunqi.engine.client import Docker
from hunqi.nodes.store import NodeStore
from hunqi.platform import founding, ports, settings
from hunqi.platform.errors import FurtherControlError
from hunqi.platform.keys import find_keys
from hunqi.platform.membership import Membership, load_membership
from hunqi.platform.settings import PlatformSettings
from hunqi.platform.up import gateway_ports
from hunqi.state.database import open_database
from hunqi.state.engines import parse_url


def has_joined(chosen: PlatformSettings) -> bool:
    """Whether this machine is of a cluster, and has no control."""
    return not chosen.has_control and load_membership(chosen) is not None


def runs_control(chosen: PlatformSettings) -> bool:
    """Whether this machine is of a cluster, and has control."""
    return chosen.has_control and load_membership(chosen) is not None


async def require_ports(chosen: PlatformSettings, *, ours: frozenset[int] | None = None) -> None:
    """Raise ``PortTakenError`` where somebody else has a port that this machine's processes need to start.

    ``ours`` are those that they and the gateway hold already, looked for if they are not given.
    """
    async with Docker(str(chosen.docker_socket)) as docker:
        held = await gateway_ports(docker, chosen) if ours is None else ours
        ports.require_free(ports.needs_of(chosen), ours=held)


async def add_control(chosen: PlatformSettings, *, key_file: Path | None) -> PlatformSettings:
    """Give this machine, which has joined, all that control needs; return the settings to start it with.

    What is wrong is found before anything is written. Raises :class:`FurtherControlError`, ``RecoverError`` for the
    key, ``PortTakenError``, and the errors of the engine and the database.
    """
    membership = load_membership(chosen)
    if membership is None:
        raise FurtherControlError(
            "--key-file is for a manager that has joined a cluster: hunqi join TOKEN first; "
            "a machine that founds a cluster makes its own key"
        )
    _require_postgresql(chosen)
    async with Docker(str(chosen.docker_socket)) as docker:
        swarm = (await docker.system.info()).swarm
        if not swarm.active or not swarm.is_manager:
            raise FurtherControlError(
                f"this machine is a worker, and control runs on managers: docker node promote {swarm.node_id} "
                "on a manager, then again"
            )
        keys = await find_keys(chosen, docker, node=swarm.node_id, key_file=key_file)
    await _require_known(chosen, membership)
    wanted = replace(chosen, has_control=True)
    ports.require_free([need for need in ports.needs_of(wanted) if need.address == wanted.control])
    keys.write(wanted)
    founding.make_keys(wanted, membership, now=datetime.now(UTC))
    settings.save(wanted)
    return wanted


def _require_postgresql(chosen: PlatformSettings) -> None:
    if chosen.database_url is None or parse_url(chosen.database_url).is_sqlite:
        raise FurtherControlError(
            "control on several managers needs one PostgreSQL that all of them reach; an SQLite file is one machine's: "
            "give --database-file FILE, with the URL that the first machine has"
        )


async def _require_known(chosen: PlatformSettings, membership: Membership) -> None:
    async with open_database(chosen.database) as database:
        roster = await NodeStore(database).roster()
    if roster.of(membership.node) is None:
        raise FurtherControlError(
            "this database knows nothing of this machine: it is not that of the cluster which this machine has joined; "
            "give --database-file the URL that the first machine has"
        )
