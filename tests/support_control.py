"""A real control process on the engine's fake, as a program: ``python support_control.py DIR NODE PORT DATABASE``.

``DIR`` holds the keys of one cluster (made by :func:`found`); several such processes share a database, and each has a
Swarm in memory of the same three nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hunqi.control.process import run_control
from hunqi.control.settings import ControlSettings
from hunqi.engine.client import Docker
from hunqi.engine.fake.swarm import FakeSwarm
from hunqi.gateway.model import Edge
from hunqi.platform.founding import make_keys
from hunqi.platform.membership import Membership, save_membership
from hunqi.platform.settings import PlatformSettings

CLUSTER = "c1"


class _Engine(FakeSwarm):
    """The fake, with what control hands on and this test never calls."""

    swarm: Any = None

    def __init__(self) -> None:
        super().__init__(nodes=3)


@contextlib.asynccontextmanager
async def _open_engine(_: ControlSettings) -> AsyncGenerator[Docker]:
    engine: Any = _Engine()
    async with asyncio.TaskGroup() as group:
        life = group.create_task(engine.run())
        yield engine
        life.cancel()


def node_ids() -> list[str]:
    """Return the ids of the three nodes, the same in every process."""
    return list(_Engine().world.nodes)


def found(directory: Path, node: str, *, of: Path | None = None) -> Path:
    """Make control's keys in ``directory``: a new cluster's, or those of the machine ``of``."""
    settings, membership = PlatformSettings(data_dir=directory), Membership(cluster=CLUSTER, node=node)
    save_membership(settings, membership)
    if of is not None:
        held = PlatformSettings(data_dir=of)
        settings.control_dir.mkdir()
        shutil.copy2(held.cluster_key_file, settings.cluster_key_file)
        shutil.copy2(held.authority_file, settings.authority_file)
    make_keys(settings, membership, now=datetime.now(UTC))
    return directory


def start(directory: Path, node: str, port: int, database: str) -> subprocess.Popen[bytes]:
    """Start a control process; its log is ``DIR/control.log``."""
    with (directory / "control.log").open("ab") as log:
        command = [sys.executable, __file__, str(directory), node, str(port), database]
        return subprocess.Popen(command, stdout=log, stderr=log)


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM."""
    directory, node, port, database = Path(arguments[0]), arguments[1], int(arguments[2]), arguments[3]
    platform, membership = PlatformSettings(data_dir=directory), Membership(cluster=CLUSTER, node=node)
    settings = ControlSettings(
        cluster=CLUSTER,
        node=node,
        host="127.0.0.1",
        port=port,
        database_url=database,
        docker_socket=Path("/nowhere"),
        mirror_address="127.0.0.1:1",
        agent_address=f"127.0.0.1:{int(node, 16) % 1000}",
        tls=platform.control_tls,
        agent_tls=platform.agent_tls,
        cluster_key_file=platform.cluster_key_file,
        log_dir=directory / "log",
        backup_dir=directory / "backups",
        telemetry_dir=directory / f"telemetry-{node}",
        edge=Edge(),
        acme=None,
        is_open=False,
    )
    authority = make_keys(platform, membership, now=datetime.now(UTC))
    asyncio.run(run_control(settings, authority, engine=_open_engine))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
