"""What users may on single apps is as it was after control is rebuilt."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import insert

from hunqi.apps.bundles import OF_CLUSTER, newest, rows_of
from hunqi.apps.recovery import Mirroring
from hunqi.identity.model import Role
from hunqi.identity.teams import Teams
from hunqi.state.events import now
from hunqi.state.tables import USERS
from support_apps import spec, web
from support_cluster import CLUSTER, Cluster, cluster


async def _mirrored(room: Cluster) -> list[str] | None:
    parts = newest(await room.engine.configs.list()).get(OF_CLUSTER)
    if parts is None:
        return None
    whole = [await room.engine.configs.inspect(part.id) for part in parts]
    rows = rows_of(OF_CLUSTER, whole, cluster=CLUSTER, seal=room.seal)
    return [row["role"] for row in rows["grants"]]


async def test_a_grant_is_mirrored_when_it_is_given_and_when_it_is_taken_back(tmp_path: Path) -> None:
    async with cluster(tmp_path) as room:
        async with room.running():
            await room.deployed(spec(web()))
        async with room.database.begin() as connection:
            await connection.execute(
                insert(USERS).values(id="u1", name="bob", is_admin=False, disabled=False, created_at=now())
            )
        teams = Teams(room.database)

        async def holds(roles: list[str]) -> bool:
            return await _mirrored(room) == roles

        # Its clock is far behind that of the leader before, which mirrored too.
        mirror = Mirroring(room.database, room.engine, room.seal, cluster=CLUSTER, clock=lambda: 1000.0)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(mirror.run())
            await room.until(lambda: holds([]))
            await teams.set_grant("shop", "bob", Role.DEVELOPER, actor="ann")
            await room.until(lambda: holds(["developer"]))
            await teams.set_grant("shop", "bob", None, actor="ann")
            await room.until(lambda: holds([]))
            task.cancel()
