"""The accelerator as deploys use it: tags become digests, platforms are looked at, what is missing is named."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from hunqi.apps.errors import AcceleratorError, ImageError
from hunqi.apps.images import Accelerator
from hunqi.control.accelerators import Accelerators
from hunqi.identity.model import Actor, ActorKind
from hunqi.identity.registry import RegistryLogins
from hunqi.state.sealing import Sealer
from support_routing import FakeImages
from testbed import images
from testbed.mirror import RunningMirror
from testbed.zoo import ZooRegistry

PLAIN = images.opaque([50_000], seed="apps-images")
SEVERAL = images.multi_platform(seed="apps-images")["index"]
NODES = ("linux/x86_64",)


@pytest.fixture(scope="module")
def upstream() -> Iterator[ZooRegistry]:
    with ZooRegistry([PLAIN, SEVERAL]) as registry:
        yield registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, upstream: ZooRegistry) -> Iterator[RunningMirror]:
    directory = tmp_path_factory.mktemp("apps-images")
    with RunningMirror(
        directory,
        upstreams={"docker.io": upstream.url, "ghcr.io": upstream.url},
        args=["--allow-anonymous-push"],
        workers=1,
    ) as running:
        yield running


@pytest.fixture
async def accelerator(mirror: RunningMirror) -> AsyncGenerator[Accelerator]:
    async with aiohttp.ClientSession() as session:
        yield Accelerator(session, mirror.base_url.removeprefix("http://"))


async def test_tag_becomes_the_digest_under_the_name_that_every_node_pulls(
    accelerator: Accelerator, upstream: ZooRegistry
) -> None:
    pinned = await accelerator.resolve("ghcr.io/team/app:latest", platforms=NODES)

    assert pinned.digest == PLAIN.digest
    assert pinned.reference == f"{accelerator.address}/ghcr.io/team/app@{PLAIN.digest}"
    again = await accelerator.resolve(f"ghcr.io/team/app@{PLAIN.digest}", platforms=NODES)
    assert again == pinned


async def test_pushed_image_is_found_under_its_own_name(accelerator: Accelerator, mirror: RunningMirror) -> None:
    images.push(PLAIN, mirror.base_url, "shop/web", "7")

    pinned = await accelerator.resolve(f"{accelerator.address}/shop/web:7", platforms=NODES)

    assert pinned.reference == f"{accelerator.address}/shop/web@{PLAIN.digest}"


async def test_image_that_is_not_there_is_named(accelerator: Accelerator, mirror: RunningMirror) -> None:
    images.push(PLAIN, mirror.base_url, "shop/other", "1")  # so that the name is local: no upstream is asked
    with pytest.raises(ImageError, match=r"there is no image .*shop/nothing:1"):
        await accelerator.resolve(f"{accelerator.address}/shop/nothing:1", platforms=NODES)


async def test_index_without_a_nodes_platform_is_refused_and_one_with_it_is_kept_whole(
    accelerator: Accelerator, mirror: RunningMirror
) -> None:
    images.push(SEVERAL, mirror.base_url, "shop/several", "1")
    name = f"{accelerator.address}/shop/several:1"

    assert (await accelerator.resolve(name, platforms=NODES)).digest == SEVERAL.digest
    with pytest.raises(ImageError, match=r"nodes need linux/s390x"):
        await accelerator.resolve(name, platforms=("linux/x86_64", "linux/s390x"))


async def test_accelerator_that_is_away_is_a_dependency_that_failed() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(AcceleratorError, match=r"does not answer"):
            await Accelerator(session, "127.0.0.1:1").resolve("app:1", platforms=NODES)


async def test_services_pull_with_the_login_of_the_cluster_which_no_repr_shows(accelerator: Accelerator) -> None:
    logins = RegistryLogins(Sealer(bytes(32)))
    login = Accelerators(accelerator, FakeImages(), logins).registry_auth()
    assert (login.username, login.server) == ("services", accelerator.address)
    assert login.password == logins.of_services().password
    assert login.password not in repr(login)


async def test_a_deploy_finds_what_its_team_may_read_and_nothing_of_another_team(
    tmp_path: Path, upstream: ZooRegistry
) -> None:
    logins = RegistryLogins(Sealer(bytes(32)))
    key = tmp_path / "key.pem"
    key.write_text(logins.public_pem)
    with RunningMirror(
        tmp_path / "mirror", upstreams={"docker.io": upstream.url}, args=["--trusted-key", str(key)], workers=1
    ) as mirror:
        admin = logins.of(Actor(kind=ActorKind.USER, name="root", is_admin=True), [], now=datetime.now(UTC))
        header = aiohttp.encode_basic_auth(admin.username, admin.password)
        for name in ("shop/web", "blog/web"):
            images.Pusher(base_url=mirror.base_url, authorization=header).push(PLAIN, name, "1")
        async with aiohttp.ClientSession() as session:
            here = Accelerator(session, mirror.base_url.removeprefix("http://"))
            room = Accelerators(here, FakeImages(), logins)

            async def found(name: str, *reads: str) -> str:
                return (await room.resolve(name, platforms=NODES, reads=reads)).digest

            own, other = f"{here.address}/shop/web", f"{here.address}/blog/web"
            assert await found(f"{own}:1", "shop") == PLAIN.digest
            assert await found(f"{other}:1", "shop", "blog") == PLAIN.digest, "shared with the team"
            assert await found(f"{other}:1", "*") == PLAIN.digest, "an administrator"
            assert await found("team/app:latest", "shop") == PLAIN.digest, "public"
            for secret in (f"{other}:1", f"{other}@{PLAIN.digest}", f"{here.address}/blog/nothing:1"):
                with pytest.raises(ImageError, match="may not be run here"):
                    await found(secret, "shop")
