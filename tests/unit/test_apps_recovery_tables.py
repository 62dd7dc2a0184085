"""Nothing that control keeps for good is left out of what a recovery brings back: every table, every column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.apps.recovery import Mirroring, recover
from hunqi.state import tables
from hunqi.state.database import open_database
from hunqi.state.tables import METADATA
from support_cluster import CLUSTER, cluster

PASSING = {"events", "deploys", "runs", "leases", "idempotency", "sessions", "keys", "gateway", "join_tokens"}
PASSING |= {"rollouts", "rollout_looks", "scaling_decisions", "hook_deliveries"}
"""What goes by: history, and what ends by itself."""
FIXED: dict[str, Any] = {"app": "shop", "team_id": "t1", "live_revision": 1, "number": 1, "origin": "{}"}


def row_of(table: Table) -> dict[str, Any]:
    """A row in which every column has something."""
    row: dict[str, Any] = {}
    for column in table.c:
        kind = column.type.python_type
        made: Any = f"{column.name}-of-{table.name}" if kind is str else kind(7) if kind is not bytes else b"\0seven"
        for key in column.foreign_keys:
            made = row_of(key.column.table)[key.column.name]
        row[column.name] = FIXED.get(column.name, made)
    if table is tables.APPS:
        row["name"] = "shop"
    if table is tables.TEAMS:
        row["id"] = "t1"
    return row


async def content(connection: AsyncConnection, table: Table) -> list[dict[str, Any]]:
    return [dict(row) for row in (await connection.execute(select(table))).mappings()]


async def test_every_table_comes_back_as_it_was(tmp_path: Path) -> None:
    wanted = [table for table in METADATA.sorted_tables if table.name not in PASSING]
    assert len(wanted) >= 12
    async with cluster(tmp_path) as room:
        async with room.database.begin() as connection:
            await connection.execute(tables.TEAMS.delete())
            for table in wanted:
                await connection.execute(insert(table).values(**row_of(table)))
        await Mirroring(room.database, room.engine, room.seal, cluster=CLUSTER, clock=lambda: 1000.0).mirror()
        async with open_database(str(tmp_path / "new.db")) as database:
            recovered = await recover(database, room.engine, room.seal, cluster=CLUSTER, actor="ann")
            async with database.read() as connection:
                found = {table.name: await content(connection, table) for table in wanted}
    assert recovered.problems == ()
    assert found == {table.name: [row_of(table)] for table in wanted}
