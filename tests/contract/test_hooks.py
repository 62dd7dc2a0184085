"""Webhooks against real servers on loopback: signed, in order, until they are taken; never where they may not go."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import insert, select

from hunqi.apps.operations import Change
from hunqi.apps.store import AppStore
from hunqi.hooks.calling import is_near
from hunqi.hooks.controller import HookController
from hunqi.hooks.errors import HookNotFoundError, HookRefusedError
from hunqi.hooks.store import HookStore
from hunqi.state.database import Database, open_database
from hunqi.state.events import append, now
from hunqi.state.sealing import Sealer
from hunqi.state.tables import APPS, HOOKS, TEAMS

CHANGE = Change(actor="ann")
SEALER = Sealer(b"k" * 32)


@dataclass
class Target:
    """A webhook's server: it answers with ``answers`` in turn, then with 200."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    told: list[tuple[dict[str, str], dict[str, Any], bytes]] = field(default_factory=list)

    def kinds(self) -> list[str]:
        return [body["type"] for _, body, _ in self.told]


@asynccontextmanager
async def target(*answers: int) -> AsyncGenerator[Target]:
    made = Target(answers=list(answers))

    async def take(request: web.Request) -> web.Response:
        raw = await request.read()
        made.told.append((dict(request.headers), json.loads(raw), raw))
        return web.Response(status=made.answers.pop(0) if made.answers else 200, headers={"location": "/elsewhere"})

    app = web.Application()
    app.router.add_post("/in", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def hooks_of(database: Database) -> AsyncGenerator[HookController]:
    controller = HookController(database, HookStore(database, SEALER), time.time, pauses_s=(0.05, 0.05))
    running = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    async with open_database(str(tmp_path / "control.db")) as opened:
        async with opened.begin() as connection:
            await connection.execute(insert(TEAMS).values(id="t1", name="t1", quota="{}", created_at=now()))
            for app in ("shop", "blog"):
                row = {"name": app, "team_id": "t1", "created_at": now(), "updated_at": now()}
                await connection.execute(insert(APPS).values(**row))
        yield opened


async def tell(database: Database, kind: str, app: str | None = "shop", reason: str = "") -> None:
    async with database.begin() as connection:
        await append(connection, kind, actor="ann", app=app, subject="s", reason=reason, data={"weight": 5})


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not reached():
            await asyncio.sleep(0.01)


async def test_events_that_are_wanted_are_told_in_order_and_signed(database: Database) -> None:
    async with target() as there, hooks_of(database) as hooks:
        made = await hooks.add("shop", there.url, ["rollout.*"], CHANGE, trusted=True)
        for kind in ("rollout.step", "deploy.succeeded", "rollout.aborted"):
            await tell(database, kind, reason="because")
        await tell(database, "rollout.step", app="blog")
        await until(lambda: len(there.told) == 2)
        assert there.kinds() == ["rollout.step", "rollout.aborted"]
        headers, body, raw = there.told[1]
        assert body["data"] | {"seq": 0} == {
            "seq": 0, "app": "shop", "subject": "s", "actor": "ann", "sentence": "because", "details": {"weight": 5},
        }  # fmt: skip
        key = base64.b64decode(made.secret.removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + raw
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


async def test_what_is_not_taken_is_told_again_and_given_up_at_last(database: Database) -> None:
    async with target(500, 302, 200, 503, 503, 503) as there, hooks_of(database) as hooks:
        made = await hooks.add("shop", there.url, ["deploy.*"], CHANGE, trusted=True)
        await tell(database, "deploy.one")
        await tell(database, "deploy.two")
        await tell(database, "deploy.three")
        await until(lambda: len(there.told) == 7)
        assert there.kinds() == ["deploy.one"] * 3 + ["deploy.two"] * 3 + ["deploy.three"]
        ids = [headers["webhook-id"] for headers, _, _ in there.told]
        assert len(set(ids)) == 3
        async with asyncio.timeout(20):
            while len(found := await hooks.deliveries("shop", made.id)) < 7:
                await asyncio.sleep(0.01)
        assert [(each.attempt, each.status) for each in found][::-1] == [
            (1, 500), (2, 302), (3, 200), (1, 503), (2, 503), (3, 503), (1, 200),
        ]  # fmt: skip


async def test_a_restart_goes_on_where_it_was(database: Database) -> None:
    async with target() as there:
        async with hooks_of(database) as hooks:
            await hooks.add(None, there.url, [], CHANGE, trusted=True)
            await tell(database, "deploy.one")
            await until(lambda: "deploy.one" in there.kinds())
            async with asyncio.timeout(20):
                while (await hooks.hooks(None))[0].told < 2:
                    await asyncio.sleep(0.01)
        await tell(database, "deploy.two")
        async with hooks_of(database):
            await until(lambda: "deploy.two" in there.kinds())
        assert there.kinds().count("deploy.one") == 1


async def test_numbers_of_a_log_that_was_lost_keep_nothing_back(database: Database) -> None:
    async with target() as there:
        made = await HookStore(database, SEALER).add(None, there.url, [], CHANGE, trusted=True)
        await HookStore(database, SEALER).skip(made.id, 1_000_000)
        async with hooks_of(database):
            await asyncio.sleep(0.1)
            await tell(database, "deploy.two")
            await until(lambda: "deploy.two" in there.kinds())


async def test_only_administrators_reach_the_machine_itself(database: Database) -> None:
    async with target() as there, hooks_of(database) as hooks:
        for url in (
            there.url,
            there.url.replace("127.0.0.1", "localhost"),
            "http://[::ffff:127.0.0.1]:1/",
            "http://0.0.0.0/",
        ):
            made = await hooks.add("shop", url, ["rollout.*"], CHANGE, trusted=False)
            said = await hooks.test("shop", made.id)
            assert said.status is None, url
            assert "administrator" in (said.problem or ""), (url, said.problem)
            await hooks.remove("shop", made.id, CHANGE)
        assert there.told == []
        trusted = await hooks.add("shop", there.url, ["rollout.*"], CHANGE, trusted=True)
        assert (await hooks.test("shop", trusted.id)).status == 200
        assert there.kinds() == ["hook.test"]


async def test_hooks_of_a_removed_app_are_gone_with_it(database: Database) -> None:
    async with target(*[500] * 100) as there, hooks_of(database) as hooks:
        made = await hooks.add("shop", there.url, [], CHANGE, trusted=True)
        await tell(database, "deploy.one")
        await until(lambda: len(there.told) > 0)
        store = AppStore(database)
        async with database.begin() as connection:
            await store.forget(connection, "shop")
            row = {"name": "shop", "team_id": "t1", "created_at": now(), "updated_at": now()}
            await connection.execute(insert(APPS).values(**row))
        await asyncio.sleep(0.2)
        before = len(there.told)
        await tell(database, "deploy.of.the.next.shop")
        await asyncio.sleep(0.3)
        assert len(there.told) == before
        assert await hooks.hooks("shop") == []
        with pytest.raises(HookNotFoundError):
            await hooks.test("shop", made.id)


async def test_secrets_lie_sealed_and_are_shown_once(database: Database) -> None:
    async with hooks_of(database) as hooks:
        made = await hooks.add("shop", "https://example.com/in", [], CHANGE, trusted=False)
        assert made.secret.startswith("whsec_")
        assert made.secret not in repr(made)
        assert [each.secret for each in await hooks.hooks("shop")] == [""]
        async with database.read() as connection:
            sealed = await connection.scalar(select(HOOKS.c.sealed))
        assert base64.b64decode(made.secret.removeprefix("whsec_")) not in sealed
        with pytest.raises(HookNotFoundError):
            await hooks.test("blog", made.id)


@pytest.mark.parametrize(
    ("url", "kinds"),
    [
        ("ftp://example.com", []),
        ("example.com", []),
        ("http://", []),
        ("http://ann:secret@example.com", []),
        ("http://exa mple.com", []),
        ("http://example.com:99999", []),
        ("https://example.com", ["rollout aborted"]),
        ("https://example.com", [""]),
    ],
)
async def test_what_cannot_be_a_webhook_is_refused(database: Database, url: str, kinds: list[str]) -> None:
    with pytest.raises(HookRefusedError):
        await HookStore(database, SEALER).add("shop", url, kinds, CHANGE, trusted=True)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.169.254", "fe80::1%eth0", "0.0.0.0", "::ffff:127.0.0.1"]
)
def test_addresses_of_the_machine_are_near(address: str) -> None:
    assert is_near(address)


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.1", "1.1.1.1", "example.com", "2606:4700::1111"])
def test_addresses_of_others_are_not(address: str) -> None:
    assert not is_near(address)
