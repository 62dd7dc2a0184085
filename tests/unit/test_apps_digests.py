"""Secrets are known by digests that tell nothing of them; what serves under an older name keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hunqi.apps.digests import Digests
from hunqi.apps.model import AppSpec, Grant, PayloadSpec
from hunqi.apps.operations import Submission
from hunqi.apps.recovery import recover
from hunqi.kit.codec import dumps
from hunqi.state.database import open_database
from hunqi.state.sealing import Sealer
from support_apps import service, spec
from support_cluster import ANN, CLUSTER, Cluster, cluster

FILE = """\
services:
  worker: {image: 'worker:1', secrets: [pin], configs: [note]}
secrets:
  pin: {environment: PIN}
configs:
  note: {content: hello}
"""


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with cluster(tmp_path) as made, made.running():
        yield made


def plain(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def submission(pin: str) -> Submission:
    return Submission(files={"compose.yaml": FILE}, entry=("compose.yaml",), variables={"PIN": pin}, team="t1")


async def secrets(room: Cluster) -> list[str]:
    return [each.name for each in await room.engine.secrets.list()]


async def test_nothing_that_docker_shows_tells_a_guess_from_the_secret(room: Cluster) -> None:
    deploys = room.apps.operations.deploys
    made = await deploys.deploy("shop", submission("1234"), ANN)
    await room.ended("shop", made.id)

    (name,) = await secrets(room)
    assert name == f"shop_pin-{Digests(room.seal).of('shop', b'1234')[:12]}"
    revision = await room.store.revision("shop", 1)
    shown = dumps(revision.spec) + dumps((await room.engine.services.inspect("shop_worker-r1")).spec)
    assert plain(b"1234")[:12] not in shown + name
    assert plain(b"hello")[:12] in shown, "a config is everybody's to read"

    assert [each.kind for each in (await deploys.check("shop", submission("1234"))).changes] == ["kept"]
    again = await room.ended("shop", (await deploys.deploy("shop", submission("1234"), ANN)).id)
    assert "nothing to do" in again.sentence
    assert [each.kind for each in (await deploys.check("shop", submission("1235"))).changes] == ["changed"]


def test_the_same_secret_is_another_one_in_another_app_and_another_cluster() -> None:
    one, other = Digests(Sealer(bytes(32))), Digests(Sealer(bytes(31) + b"1"))
    assert len({one.of("shop", b"x"), one.of("blog", b"x"), other.of("shop", b"x"), plain(b"x")}) == 4
    assert one.fits("shop", one.of("shop", b"x"), b"x")
    assert one.fits("shop", f"sha256:{plain(b'x')}", b"x")
    assert not one.fits("shop", one.of("blog", b"x"), b"x")


async def test_what_an_earlier_version_named_keeps_its_name_until_its_content_changes(
    room: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shop(value: bytes, **more: object) -> tuple[AppSpec, dict[str, bytes]]:
        worker = service("worker", secrets=(Grant(source="pin", target="pin"),), **more)
        return spec(worker, secrets={"pin": PayloadSpec(name="pin", digest=f"sha256:{plain(value)}")}), {
            f"sha256:{plain(value)}": value
        }

    made, payloads = shop(b"1234")
    with monkeypatch.context() as earlier:  # what an earlier version stored: plain digests
        earlier.setattr(Digests, "keyed", lambda _self, spec, payloads, _live: (spec, dict(payloads)))
        await room.ended("shop", await room.release(made, payloads=payloads))
    old = f"shop_pin-{plain(b'1234')[:12]}"
    assert await secrets(room) == [old]

    same = await room.ended("shop", await room.release(made, payloads=payloads))
    assert "nothing to do" in same.sentence
    await room.apps.mirroring.mirror()
    async with open_database(str(tmp_path / "other.db")) as rebuilt:
        assert (await recover(rebuilt, room.engine, room.seal, cluster=CLUSTER, actor="ann")).apps == ("shop",)

    changed, payloads = shop(b"1235")
    await room.ended("shop", await room.release(changed, payloads=payloads))
    new = f"shop_pin-{Digests(room.seal).of('shop', b'1235')[:12]}"

    async def only_new() -> bool:
        return await secrets(room) == [new]

    await room.until(only_new)
    back = await room.ended("shop", (await room.apps.operations.deploys.rollback("shop", 1, ANN)).id)
    assert back.state.value == "succeeded"
    assert old in await secrets(room)
