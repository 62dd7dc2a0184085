"""Whoever writes often lets others write, too."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sqlalchemy import text

from hunqi.state.database import Database, open_database

BUSY = 8
WRITES = 150


async def _write(database: Database, times: int) -> None:
    for _ in range(times):
        async with database.begin() as connection:
            await connection.execute(text("UPDATE apps SET generation = generation"))


async def test_a_writer_waits_for_those_before_it_alone(tmp_path: Path) -> None:
    async with open_database(str(tmp_path / "control.db")) as database:
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(BUSY):
                group.create_task(_write(database, WRITES))
            await asyncio.sleep(0.05)
            waits: list[float] = []
            for _ in range(5):
                asked = time.monotonic()
                await _write(database, 1)
                waits.append(time.monotonic() - asked)
        whole = time.monotonic() - begun
    assert max(waits) < whole / 10, (waits, whole)
