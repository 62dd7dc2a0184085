"""The database, the same promises on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, String, column, insert, select, table, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.state.backup import back_up, restore
from hunqi.state.database import Database, open_database
from hunqi.state.errors import (
    BackupFailedError,
    LeaseLostError,
    StateConflictError,
    StateDamagedError,
    StateInvalidError,
    StateUnavailableError,
    StateUrlError,
    StateVersionError,
)
from hunqi.state.events import EventLog, append, now
from hunqi.state.leases import Leases
from hunqi.state.schema import HEAD, configuration, current, migrate
from hunqi.state.tables import METADATA, SETTINGS, TEAMS

pytest_plugins = ["testbed.postgres"]


async def put(connection: AsyncConnection, key: str, value: str) -> None:
    await connection.execute(insert(SETTINGS).values(key=key, value=value))


async def get(database: Database, key: str) -> str | None:
    async with database.read() as connection:
        return await connection.scalar(select(SETTINGS.c.value).where(SETTINGS.c.key == key))


async def test_what_is_written_is_there_after_reopening(database_url: str) -> None:
    async with open_database(database_url) as database, database.begin() as connection:
        await put(connection, "a", "1")
    async with open_database(database_url) as database:
        assert await get(database, "a") == "1"


async def test_an_error_in_the_block_rolls_all_of_it_back(database_url: str) -> None:
    async with open_database(database_url) as database:
        with pytest.raises(RuntimeError):  # noqa: PT012  (the block is what is tested)
            async with database.begin() as connection:
                await put(connection, "a", "1")
                raise RuntimeError
        assert await get(database, "a") is None


async def test_writers_are_serial_so_no_update_is_lost(database_url: str) -> None:
    async with open_database(database_url) as one, open_database(database_url) as two:
        async with one.begin() as connection:
            await put(connection, "n", "0")

        async def count(database: Database) -> None:
            for _ in range(10):
                async with database.begin() as connection:
                    seen = int(await connection.scalar(select(SETTINGS.c.value)) or 0)
                    await asyncio.sleep(0)
                    await connection.execute(update(SETTINGS).values(value=str(seen + 1)))

        async with asyncio.TaskGroup() as tasks:
            for database in (one, two, one, two):
                tasks.create_task(count(database))
        assert await get(one, "n") == "40"


async def test_a_reader_sees_one_moment_and_cannot_write(database_url: str) -> None:
    async with open_database(database_url) as database:
        async with database.read() as reader:
            assert await reader.scalar(select(SETTINGS.c.value)) is None
            async with database.begin() as connection:
                await put(connection, "a", "1")
            assert await reader.scalar(select(SETTINGS.c.value)) is None
        with pytest.raises((StateInvalidError, StateUnavailableError)):
            async with database.read() as reader:
                await put(reader, "b", "1")


async def test_conflicts_have_their_own_error_which_shows_no_values(database_url: str) -> None:
    async with open_database(database_url) as database:
        async with database.begin() as connection:
            await put(connection, "a", "hidden-value")
        with pytest.raises(StateConflictError) as raised:
            async with database.begin() as connection:
                await put(connection, "a", "hidden-value")
        assert "hidden-value" not in str(raised.value)
        values = {"team_id": "nobody", "user_id": "nobody", "role": "owner"}
        with pytest.raises(StateConflictError):
            async with database.begin() as connection:
                await connection.execute(insert(METADATA.tables["members"]).values(**values))


async def test_a_task_cancelled_in_a_transaction_leaves_the_writer_usable(database_url: str) -> None:
    async with open_database(database_url) as database:
        began = asyncio.Event()

        async def hang() -> None:
            async with database.begin() as connection:
                await put(connection, "a", "1")
                began.set()
                await asyncio.Event().wait()

        async with asyncio.TaskGroup() as tasks:
            hanging = tasks.create_task(hang())
            await began.wait()
            hanging.cancel()
        async with database.begin() as connection:
            await put(connection, "a", "2")
        assert await get(database, "a") == "2"


async def test_the_migrations_make_exactly_the_tables(database_url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, METADATA))

    async with open_database(database_url) as database, database.read() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(current) == HEAD


def test_head_is_the_last_script() -> None:
    assert ScriptDirectory.from_config(configuration()).get_current_head() == HEAD


async def test_every_earlier_schema_is_brought_forward_with_its_rows(database_url: str) -> None:
    scripts = [script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()]
    async with open_database(database_url) as database, database.begin() as connection:
        await connection.run_sync(METADATA.drop_all)
        await connection.exec_driver_sql("DROP TABLE alembic_version")
        for revision in reversed(scripts):
            await migrate(connection, to=revision)
            team = {"id": revision, "name": f"team-{revision}", "quota": "{}", "created_at": now()}
            then = table("teams", *(column(name, String) for name in team))  # as every version has it
            await connection.execute(insert(then).values(**team))
    async with open_database(database_url) as database, database.read() as connection:
        assert len((await connection.execute(select(TEAMS.c.id))).all()) == len(scripts)


async def test_two_processes_that_open_an_empty_database_at_once_both_get_it(database_url: str) -> None:
    async def open_it() -> None:
        async with open_database(database_url) as database:
            assert await get(database, "nothing") is None

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(open_it())


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(database_url: str) -> None:
    async with open_database(database_url) as database, database.begin() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from-the-future'")
    for _ in range(2):
        with pytest.raises(StateVersionError, match="from-the-future"):
            async with open_database(database_url):
                pass


async def test_events_are_numbered_read_in_order_and_wake_their_followers(database_url: str) -> None:
    async with open_database(database_url) as database, open_database(database_url) as elsewhere:
        log = EventLog(database)
        async with database.begin() as connection:
            first = await append(connection, "app.created", actor="ann", app="shop", reason="new", data={"n": 1})
            second = await append(connection, "app.created", actor="ann", app="blog")
        assert second > first
        assert [event.app for event in await log.read()] == ["shop", "blog"]
        assert [event.seq for event in await log.read(after=first)] == [second]
        assert (await log.read(app="shop"))[0].data == {"n": 1}
        assert not await log.wait(after=second, timeout_s=0.05)

        async def append_elsewhere() -> None:
            async with elsewhere.begin() as connection:
                await append(connection, "app.removed", actor="bob", app="blog")

        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(log.wait(after=second, timeout_s=10))
            tasks.create_task(append_elsewhere())
        assert waiting.result()


async def test_a_lease_has_one_holder_and_its_epoch_grows(database_url: str) -> None:
    async with open_database(database_url) as database:
        ann, bob = Leases(database, holder="ann", ttl_s=0.6), Leases(database, holder="bob", ttl_s=0.6)
        lease = await ann.acquire("control")
        assert lease is not None
        assert await bob.acquire("control") is None
        assert await bob.holder("control") == "ann"
        await asyncio.sleep(0.4)
        await ann.renew(lease)
        await asyncio.sleep(0.4)
        assert await bob.acquire("control") is None
        await ann.release(lease)
        taken = await bob.acquire("control")
        assert taken is not None
        assert taken.epoch == lease.epoch + 1
        with pytest.raises(LeaseLostError):
            await ann.renew(lease)


async def test_a_write_of_a_former_holder_is_not_made(database_url: str) -> None:
    async with open_database(database_url) as database:
        lease = await Leases(database, holder="ann", ttl_s=0.01).acquire("control")
        assert lease is not None
        fenced = database.fenced(lease)
        async with fenced.begin() as connection:
            await put(connection, "a", "1")
        await asyncio.sleep(0.05)
        assert await Leases(database, holder="bob").acquire("control") is not None
        with pytest.raises(LeaseLostError):
            async with fenced.begin() as connection:
                await put(connection, "b", "2")
        assert await get(database, "b") is None


async def test_a_backup_made_under_writes_restores_to_one_moment(database_url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with open_database(database_url) as database:
        async with database.begin() as connection:
            await put(connection, "left", "0")
            await put(connection, "right", "0")
        stop = asyncio.Event()

        async def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                async with database.begin() as connection:
                    await connection.execute(update(SETTINGS).values(value=str(number)))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            await asyncio.sleep(0.05)
            assert await back_up(database_url, copy) > 0
            stop.set()
        async with database.begin() as connection:
            await connection.execute(SETTINGS.delete())
    assert copy.stat().st_mode & 0o777 == 0o600
    await restore(database_url, copy)
    async with open_database(database_url) as database:
        assert await get(database, "left") == await get(database, "right")
        assert await get(database, "left") is not None


async def test_what_is_no_backup_is_not_restored(database_url: str, tmp_path: Path) -> None:
    async with open_database(database_url) as database, database.begin() as connection:
        await put(connection, "a", "1")
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"this is no database at all" * 100)
    with pytest.raises((StateDamagedError, BackupFailedError)):
        await restore(database_url, wrong)
    async with open_database(database_url) as database:
        assert await get(database, "a") == "1"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://user:hidden@host/name", "mysql"),
        ("sqlite://", "file"),
        ("postgresql://user:hidden@host", "names no database"),
        ("postgresql://user:hidden@host:port/x", "cannot be read"),
    ],
)
async def test_a_url_that_cannot_be_used_is_named_without_its_password(url: str, says: str) -> None:
    with pytest.raises(StateUrlError, match=says) as raised:
        async with open_database(url):
            pass
    assert "hidden" not in str(raised.value)


async def test_a_database_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailableError) as raised:
        async with open_database(f"postgresql://user:hidden@/name?host={tmp_path}"):
            pass
    assert "hidden" not in repr(raised.value)
    (tmp_path / "no.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StateDamagedError):
        async with open_database(str(tmp_path / "no.db")):
            pass


async def test_the_file_is_private_and_repr_shows_no_password(tmp_path: Path) -> None:
    async with open_database(str(tmp_path / "deep" / "control.db")) as database:
        assert str(tmp_path) in repr(database)
        for path in (tmp_path / "deep").iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
