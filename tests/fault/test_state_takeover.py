"""A leader that dies is succeeded; one that was only asleep finds that it writes nothing any more."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select

from hunqi.state.database import open_database
from hunqi.state.errors import LeaseLostError
from hunqi.state.leases import Leadership, Lease, Leases
from hunqi.state.tables import SETTINGS
from testbed.postgres import PostgresServer

pytest_plugins = ["testbed.postgres"]

_CONTENDER = """
import asyncio, sys
from sqlalchemy import insert
from hunqi.state.database import open_database
from hunqi.state.leases import Leadership, Leases
from hunqi.state.tables import SETTINGS

async def main(url, name):
    async with open_database(url) as database:
        async def lead(lease):
            number = 0
            while True:
                number += 1
                async with database.fenced(lease).begin() as connection:
                    await connection.execute(insert(SETTINGS).values(key=f"{lease.epoch:03}-{number:06}", value=name))
                print(name, lease.epoch, flush=True)
                await asyncio.sleep(0.05)
        await Leadership(Leases(database, holder=name)).run(lead)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def contender(url: str, name: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CONTENDER, url, name, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: asyncio.subprocess.Process, *, timeout_s: float) -> tuple[str, int]:
    assert process.stdout is not None
    async with asyncio.timeout(timeout_s):
        name, epoch = (await process.stdout.readline()).decode().split()
    return name, int(epoch)


async def test_a_killed_leader_is_succeeded_in_under_15_seconds(database_url: str) -> None:
    async with contender(database_url, "one") as one:
        assert await said(one, timeout_s=30) == ("one", 1)
        async with contender(database_url, "two") as two:
            with pytest.raises(TimeoutError):
                await said(two, timeout_s=3)
            one.send_signal(signal.SIGKILL)
            since = time.monotonic()
            assert await said(two, timeout_s=30) == ("two", 2)
            assert time.monotonic() - since < 15


async def test_a_leader_that_slept_writes_nothing_once_another_leads(postgres_server: PostgresServer) -> None:
    database_url = postgres_server.create()
    async with contender(database_url, "one") as one:
        assert await said(one, timeout_s=30) == ("one", 1)
        async with contender(database_url, "two") as two:
            os.kill(one.pid, signal.SIGSTOP)
            try:
                assert await said(two, timeout_s=30) == ("two", 2)
            finally:
                os.kill(one.pid, signal.SIGCONT)
            await asyncio.sleep(1.0)
        async with open_database(database_url) as database, database.read() as connection:
            rows = (await connection.execute(select(SETTINGS.c.value).order_by(SETTINGS.c.key))).scalars().all()
    # In the order of epochs and numbers: all of one's are of epoch 1, none came after two's first.
    assert rows == sorted(rows)
    assert rows.count("two") > 0


async def test_leading_ends_when_the_lease_is_taken_and_begins_again(tmp_path: object) -> None:
    async with open_database(f"{tmp_path}/control.db") as database:
        ours = Leases(database, holder="ann", ttl_s=0.9)
        leadership = Leadership(ours)
        epochs: list[int] = []
        ended = 0

        async def lead(lease: Lease) -> None:
            nonlocal ended
            epochs.append(lease.epoch)
            assert leadership.lease == lease
            if len(epochs) == 2:
                return
            try:
                await asyncio.Event().wait()
            finally:
                ended += 1

        async def steal() -> None:
            while not epochs:
                await asyncio.sleep(0.01)
            async with database.begin() as connection:
                await connection.exec_driver_sql("UPDATE leases SET holder = 'bob', epoch = 7, expires_at = 0")

        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(leadership.run(lead))
            tasks.create_task(steal())
        assert epochs == [1, 8]
        assert ended == 1
        assert leadership.lease is None


async def test_an_error_of_the_leader_ends_the_campaign_and_frees_the_lease(tmp_path: object) -> None:
    async with open_database(f"{tmp_path}/control.db") as database:

        async def fail(lease: Lease) -> None:
            raise RuntimeError(lease.name)

        with pytest.raises(ExceptionGroup) as raised:
            await Leadership(Leases(database, holder="ann")).run(fail)
        assert raised.group_contains(RuntimeError, match="control")
        assert await Leases(database, holder="bob").acquire("control") is not None


async def test_a_leader_that_cannot_reach_the_database_stops_in_time(tmp_path: object) -> None:
    async with open_database(f"{tmp_path}/control.db") as database:
        started = asyncio.Event()
        stopped_after_s = 0.0

        async def lead(lease: Lease) -> None:
            nonlocal stopped_after_s
            since = time.monotonic()
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped_after_s = time.monotonic() - since
                raise LeaseLostError("seen")

        async def run() -> None:
            await Leadership(Leases(database, holder="ann", ttl_s=1.5)).run(lead)

        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(run())
            await started.wait()
            async with database.begin():  # nobody else can write meanwhile, as if the disk hung
                async with asyncio.timeout(10):
                    while not stopped_after_s:
                        await asyncio.sleep(0.02)
            running.cancel()
        assert stopped_after_s < 2.5
