"""Control is rebuilt from what is mirrored in the Swarm."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import delete

from hunqi.apps.bundles import CHUNK_BYTES, newest, parts_of, rows_of
from hunqi.apps.recovery import Mirroring, NotEmptyError, NothingMirroredError, recover
from hunqi.state.database import open_database
from hunqi.state.sealing import Sealer
from hunqi.state.tables import TEAMS
from support_apps import service, spec, web
from support_cluster import ANN, CLUSTER, Cluster, cluster


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def mirroring(room: Cluster, clock: float = 1000.0) -> Mirroring:
    return Mirroring(room.database, room.engine, room.seal, cluster=CLUSTER, clock=lambda: clock)


async def test_app_goes_on_under_a_control_that_was_rebuilt_from_the_swarm(room: Cluster, tmp_path: Path) -> None:
    async with room.running():
        await room.deployed(spec(web(), service("worker")))
        await room.deployed(spec(web(version=2), service("worker")))
        await room.apps.operations.secrets.put("shop", "token", b"hush", ANN)
    await mirroring(room).mirror()
    before = {each.name: each.id for each in await room.engine.services.list()}

    async with open_database(str(tmp_path / "new.db")) as database:
        recovered = await recover(database, room.engine, room.seal, cluster=CLUSTER, actor="ann")
        assert (recovered.apps, recovered.shared, recovered.problems) == (("shop",), True, ())
        new = Cluster(database, room.swarm, tmp_path)
        async with new.running():
            outcome = new.apps.controller.outcome
            await new.until(lambda: (held := outcome("shop")) is not None and held.plan.settled)
            assert {each.name: each.id for each in await room.engine.services.list()} == before
            assert [each.name for each in await new.apps.operations.secrets.secrets("shop")] == ["token"]
            back = await new.apps.operations.deploys.rollback("shop", 1, ANN)
            await new.ended("shop", back.id)
            assert await new.names() == {"shop_web-r3", "shop_worker-r1"}


async def test_only_what_changed_is_written_and_one_bundle_of_each_stays(room: Cluster) -> None:
    async with room.running():
        await room.deployed(spec(web()))
    mirror = mirroring(room)
    await mirror.mirror()
    assert await mirror.mirror() == 0
    room.build()
    await room.apps.operations.lifecycle.scale("shop", {"web": 3}, ANN)
    assert await mirror.mirror({"shop"}) == 1
    assert len(await room.engine.configs.list()) == 2


async def test_mirror_follows_by_itself_and_forgets_removed_apps(room: Cluster) -> None:
    async with room.running():
        await room.deployed(spec(web()))

        async def mirrored(names: set[str]) -> bool:
            return set(newest(await room.engine.configs.list())) == names

        await room.until(lambda: mirrored({"shop", ".cluster"}))
        await room.apps.operations.lifecycle.remove("shop", ANN)
        await room.until(lambda: mirrored({".cluster"}))


async def test_large_bundle_is_cut_and_an_incomplete_newer_one_does_not_count(room: Cluster) -> None:
    text = '{"apps": [{"name": "' + os.urandom(600_000).hex() + '"}]}'
    old = parts_of("shop", text, "d", sequence=1, cluster=CLUSTER, seal=room.seal)
    assert len(old) > 1
    assert all(len(part.data) <= CHUNK_BYTES for part in old)
    for part in old:
        await room.engine.configs.create(part.name, part.data, labels=part.labels)
    later = parts_of("shop", text, "e", sequence=2, cluster=CLUSTER, seal=room.seal)
    await room.engine.configs.create(later[0].name, later[0].data, labels=later[0].labels)

    parts = newest(await room.engine.configs.list())["shop"]
    assert [part.name for part in parts] == [part.name for part in old]
    assert rows_of("shop", parts, cluster=CLUSTER, seal=room.seal)["apps"][0]["name"] in text


async def test_recovery_refuses_a_database_with_apps_and_an_empty_swarm(room: Cluster, tmp_path: Path) -> None:
    with pytest.raises(NothingMirroredError):
        await recover(room.database, room.engine, room.seal, cluster=CLUSTER, actor="ann")
    async with room.running():
        await room.deployed(spec(web()))
    await mirroring(room).mirror()
    with pytest.raises(NotEmptyError):
        await recover(room.database, room.engine, room.seal, cluster=CLUSTER, actor="ann")
    async with open_database(str(tmp_path / "new.db")) as database:
        other = Sealer(b"x" * 32)
        recovered = await recover(database, room.engine, other, cluster=CLUSTER, actor="ann")
        assert recovered.apps == ()
        assert len(recovered.problems) == 2


async def test_app_comes_back_though_what_belongs_to_all_was_lost(room: Cluster, tmp_path: Path) -> None:
    async with room.running():
        await room.deployed(spec(web()))
    await mirroring(room).mirror()
    for config in await room.engine.configs.list():
        if ".cluster" in config.labels.values():
            await room.engine.configs.remove(config.id)
    async with open_database(str(tmp_path / "new.db")) as database:
        async with database.begin() as connection:
            await connection.execute(delete(TEAMS))
        recovered = await recover(database, room.engine, room.seal, cluster=CLUSTER, actor="ann")
        assert (recovered.apps, recovered.shared) == (("shop",), False)
