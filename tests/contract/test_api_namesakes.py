"""Two of one name, one after the other or in two teams, learn nothing of each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest

from hunqi.state.events import append
from support_api import SHOP, World, run_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with run_world(tmp_path) as running:
        yield running


async def _tell(world: World, kind: str, reason: str) -> None:
    async with world.directory.database.begin() as connection:
        await append(connection, kind, actor="test", app=SHOP, reason=reason)


async def test_events_of_a_removed_app_are_not_for_the_team_that_takes_its_name(world: World) -> None:
    await _tell(world, "app.changed", "of the sellers")
    async with world.client("owner") as owner, world.client("stranger") as writer:
        await owner.apps.remove(SHOP)
        await _tell(world, "app.removed", "of the sellers")
        await world.rooms.make_app(SHOP, world.teams["writers"])
        await _tell(world, "app.changed", "of the writers")
        async with writer.cluster.events(after=0, app=SHOP, follow=False) as events:
            seen = [event.data["reason"] async for event in events]
        async with owner.cluster.events(after=0, app=SHOP, follow=False) as events:
            assert [event async for event in events] == []

    assert seen[-1] == "of the writers"
    assert "of the sellers" not in seen


async def test_machine_tokens_of_one_name_have_their_own_idempotency_keys(world: World) -> None:
    replayed: list[str | None] = []
    async with world.client("owner") as owner, aiohttp.ClientSession(world.url) as session:
        for _ in range(2):
            made = await owner.people.create_token("ci", ["developer", f"app:{SHOP}"], kind="machine")
            headers = {"Authorization": f"Bearer {made['secret']}", "Idempotency-Key": "one"}
            for _ in range(2):
                body = {"revision": 1}
                async with session.post(f"/v1/apps/{SHOP}/rollback", json=body, headers=headers) as answer:
                    assert answer.status == 202
                    replayed.append(answer.headers.get("Idempotency-Replayed"))

    assert replayed == [None, "true", None, "true"]
