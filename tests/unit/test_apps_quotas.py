"""The quota of a team counts what a deploy under way may have, not only what serves already."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import update

from hunqi.apps.errors import QuotaError
from hunqi.apps.limits import Limits
from hunqi.state.tables import TEAMS
from support_apps import service, spec
from support_cluster import Cluster, cluster


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


async def _limit(room: Cluster, **limits: float) -> None:
    async with room.database.begin() as connection:
        await connection.execute(update(TEAMS).where(TEAMS.c.id == "t1").values(quota=json.dumps(limits)))


async def test_a_deploy_under_way_counts_with_what_it_may_have(room: Cluster) -> None:
    async with room.running():
        await room.deployed(spec(service("web")))
    larger = spec(service("web", version=2, replicas=8))
    await room.release(larger)  # nobody works at it
    await _limit(room, replicas=8)

    with pytest.raises(QuotaError, match="9 of 8 replicas"):
        await Limits(room.store, room.routing).check_quota("t1", "other", spec(service("web")), {})


async def test_a_quota_of_no_memory_is_one(room: Cluster) -> None:
    await _limit(room, memory_bytes=0)
    claiming = spec(service("web", template={"Resources": {"Limits": {"MemoryBytes": 2**30}}}))

    with pytest.raises(QuotaError, match=r"1\.0 of 0\.0 GiB"):
        await Limits(room.store, room.routing).check_quota("t1", "shop", claiming, {})
