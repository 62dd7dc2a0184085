"""The key of vouchers is made once, kept sealed, and what is signed says what its bearer may do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import jwt
import pytest
from sqlalchemy import select

from hunqi.identity.vouchers import AUDIENCE, open_signer
from hunqi.state.database import open_database
from hunqi.state.errors import SealBrokenError
from hunqi.state.sealing import Sealer
from hunqi.state.tables import KEYS
from support_api import run_world

pytest_plugins = ["testbed.postgres"]


async def test_all_processes_sign_with_one_key(database_url: str) -> None:
    sealer = Sealer(b"k" * 32)
    async with open_database(database_url) as one, open_database(database_url) as two:
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(open_signer(database, sealer)) for database in (one, two, one, two)]
        assert len({each.result().public_pem for each in made}) == 1
        async with one.read() as connection:
            row = (await connection.execute(select(KEYS))).one()
        assert row.public == made[0].result().public_pem
        with pytest.raises(SealBrokenError):
            await open_signer(one, Sealer(b"x" * 32))


@pytest.mark.parametrize(
    ("who", "grants"),
    [
        ("viewer", ["shop:pull"]),
        ("developer", ["shop:pull,push"]),
        ("owner", ["shop:pull,push,delete"]),
        ("stranger", ["blog:pull,push,delete"]),
        ("admin", ["*:pull,push,delete"]),
    ],
)
async def test_a_voucher_says_what_its_bearer_may(tmp_path: Path, who: str, grants: list[str]) -> None:
    async with run_world(tmp_path) as world, world.client(who) as client:
        voucher = await client.people.create_voucher(hours=1)
    assert voucher["username"] == who
    assert voucher["grants"] == grants
    claims = jwt.decode(voucher["password"], options={"verify_signature": False}, audience=AUDIENCE)
    assert claims["grants"] == grants
    assert 3500 < claims["exp"] - claims["iat"] <= 3600
