"""The parts of the engine that are about one machine, against a real daemon: containers, commands, files, images."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from hunqi.engine.client import Docker
from hunqi.engine.errors import (
    ConflictError,
    EngineFailedError,
    EngineUnreachableError,
    InUseError,
    NotFoundError,
    NotManagerError,
)
from hunqi.engine.model import RegistryAuth
from hunqi.engine.system import Events, negotiate
from testbed.engine import STORAGE_DRIVER
from testbed.sample import SAMPLE, give_sample, sample_image
from testbed.swarm import ONE_NODE, Bed, swarm

pytestmark = [pytest.mark.real, ONE_NODE]
LABELS = {"io.hunqi.kind": "test"}


@pytest.fixture
async def docker(one_node: Bed) -> AsyncGenerator[Docker]:
    """A client of the one node, which is cleared afterwards."""
    give_sample(one_node)
    async with Docker(one_node.first.docker_url) as client:
        try:
            yield client
        finally:
            await asyncio.to_thread(one_node.clear)


async def started(docker: Docker, name: str = "plain", **host: object) -> str:
    body = {"Image": SAMPLE, "Labels": LABELS, "StopSignal": "SIGTERM", "HostConfig": host}
    id_ = await docker.containers.create(name, body)
    await docker.containers.start(id_)
    async with docker.containers.logs(id_, follow=True) as lines, asyncio.timeout(20.0):
        assert (await anext(lines)).text.startswith("started")
    return id_


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 20):
        yield data[start : start + (1 << 20)]


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


async def output(docker: Docker, container: str, *argv: str) -> tuple[int | None, dict[str, bytes]]:
    command = await docker.execs.create(container, argv, env={"A": "1 2"})
    got: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    async with docker.execs.start(command) as duplex:
        while piece := await duplex.read():
            got[piece[0]] += piece[1]
    return await docker.execs.exit_code(command), got


async def pulled(docker: Docker, reference: str) -> None:
    async with docker.images.pull(reference, auth=RegistryAuth(username="u", password="p")) as progress:
        async for _ in progress:
            pass


async def read_to_the_end(events: Events) -> None:
    async for _ in events:
        pass


async def test_a_container_lives_its_life(docker: Docker) -> None:
    id_ = await started(docker)
    await docker.containers.start(id_)
    with pytest.raises(ConflictError):
        await docker.containers.create("plain", {"Image": SAMPLE})
    with pytest.raises(NotFoundError):
        await docker.containers.create("other", {"Image": "hunqi-nowhere:1"})
    (listed,) = await docker.containers.list(LABELS)
    assert (listed.id, listed.name, listed.running, listed.image) == (id_, "plain", True, SAMPLE)
    inspected = await docker.containers.inspect("plain")
    assert inspected.pid
    assert inspected.addresses["bridge"].startswith("172.")
    assert inspected.detail["Config"]["StopSignal"] == "SIGTERM"
    stats = await docker.containers.stats(id_)
    assert stats["memory_stats"]["usage"] > 0
    await docker.containers.rename(id_, "renamed")
    await docker.containers.kill("renamed", "SIGUSR1")
    await docker.containers.stop("renamed", grace_s=5)
    assert await docker.containers.wait(id_, timeout_s=10.0) == 0
    assert await docker.containers.list(LABELS) == []
    assert (await docker.containers.inspect(id_)).exit_code == 0
    with pytest.raises(ConflictError):
        await docker.containers.kill(id_)
    async with docker.containers.logs(id_) as lines:
        texts = [line.text.split()[:2] async for line in lines]
    assert texts[0][0] == "started"
    assert texts[1:3] == [["signal", "SIGUSR1"], ["signal", "SIGTERM"]]
    await docker.containers.remove(id_)
    with pytest.raises(NotFoundError):
        await docker.containers.inspect(id_)


async def test_a_command_is_run_with_its_streams_apart(docker: Docker) -> None:
    id_ = await started(docker)
    code, got = await output(docker, id_, "sh", "-c", 'echo "$A"; echo wrong >&2; exit 7')
    assert (code, got) == (7, {"stdout": b"1 2\n", "stderr": b"wrong\n"})
    with pytest.raises(NotFoundError):
        await docker.execs.create("nowhere", ["true"])
    command = await docker.execs.create(id_, ["no-such-program"])
    async with docker.execs.start(command) as duplex:
        said = await duplex.read()
    assert said
    assert b"no-such-program" in said[1]
    assert await docker.execs.exit_code(command) in {126, 127}


async def test_a_command_is_typed_into(docker: Docker) -> None:
    id_ = await started(docker)
    command = await docker.execs.create(id_, ["cat"], stdin=True)
    async with docker.execs.start(command) as duplex:
        await duplex.write(b"first\n" * 20_000)
        duplex.write_eof()
        got = 0
        while piece := await duplex.read():
            got += len(piece[1])
    assert got == 120_000
    command = await docker.execs.create(id_, ["sh"], stdin=True, tty=True)
    async with docker.execs.start(command, tty=True) as duplex, asyncio.timeout(20.0):
        await docker.execs.resize(command, rows=33, columns=101)
        await duplex.write(b"stty size; exit 3\n")
        seen = b""
        while piece := await duplex.read():
            seen += piece[1]
    assert b"33 101" in seen
    assert await docker.execs.exit_code(command) == 3


async def test_files_go_in_and_come_out(docker: Docker) -> None:
    id_ = await started(docker)
    data = bytes(range(256)) * 8192
    await docker.containers.write_archive(id_, "/data", pieces(packed({"a.bin": data, "b": b"x"})))
    async with docker.containers.read_archive(id_, "/data/a.bin") as body:
        archive = b"".join([piece async for piece in body])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile("a.bin")
        assert member
        assert member.read() == data
    with pytest.raises(NotFoundError):
        async with docker.containers.read_archive(id_, "/nowhere"):
            pass


async def test_images_come_in_by_tar_and_go(docker: Docker) -> None:
    id_ = await docker.images.import_tar(
        pieces(sample_image().read_bytes()), repository="hunqi-try", tag="1", changes=["LABEL a=b", 'CMD ["sh"]']
    )
    image = await docker.images.inspect("hunqi-try:1")
    assert image.id == id_
    assert dict(image.labels) == {"a": "b"}
    assert image.size_bytes > 10 * 2**20
    await docker.images.tag("hunqi-try:1", repository="hunqi-try/deep/er", tag="2")
    assert set((await docker.images.inspect(id_)).tags) == {"hunqi-try:1", "hunqi-try/deep/er:2"}
    assert [each.id for each in await docker.images.list(references=["hunqi-try/deep/er"])] == [id_]
    await docker.images.remove("hunqi-try/deep/er:2")
    await docker.images.remove("hunqi-try:1")
    with pytest.raises(NotFoundError):
        await docker.images.inspect(id_)
    assert await docker.images.prune() >= 0
    with pytest.raises(EngineFailedError, match="connection refused"):
        await pulled(docker, "127.0.0.1:1/nothing@sha256:" + "0" * 64)


async def test_a_plain_container_joins_an_overlay_under_further_names(docker: Docker) -> None:
    id_ = await started(docker)
    network = await docker.networks.create("shop_default", subnet="10.78.0.0/24")
    await docker.networks.connect(network, id_, aliases=["web", "api"], address="10.78.0.9")
    assert (await docker.containers.inspect(id_)).addresses["shop_default"] == "10.78.0.9"
    _, got = await output(docker, id_, "nslookup", "api")
    assert b"10.78.0.9" in got["stdout"]
    with pytest.raises(ConflictError):
        await docker.networks.connect(network, id_)
    await docker.networks.disconnect(network, id_)
    with pytest.raises(NotFoundError):
        await docker.networks.disconnect(network, id_)
    assert "shop_default" not in (await docker.containers.inspect(id_)).addresses


async def test_volumes_are_kept_while_used(docker: Docker) -> None:
    await docker.volumes.create("shop_data", labels=LABELS)
    await docker.volumes.create("shop_data", labels=LABELS)
    assert [each.name for each in await docker.volumes.list(LABELS)] == ["shop_data"]
    id_ = await started(docker, "user", Binds=["shop_data:/data"])
    with pytest.raises(InUseError):
        await docker.volumes.remove("shop_data")
    await docker.containers.remove(id_, force=True)
    await docker.volumes.remove("shop_data")
    with pytest.raises(NotFoundError):
        await docker.volumes.inspect("shop_data")


async def test_the_daemon_and_the_swarm_say_what_they_are(docker: Docker, one_node: Bed) -> None:
    info = await docker.system.info()
    offered = one_node.first.docker("version", "--format", "{{.Server.APIVersion}}").stdout.strip()
    assert docker.api_version == negotiate(offered)
    assert (info.name, info.os, info.storage_driver) == ("node1", "linux", STORAGE_DRIVER)
    assert info.swarm.active
    assert info.swarm.is_manager
    assert info.swarm.node_address == one_node.first.address
    settings = await docker.swarm.inspect()
    assert settings.worker_token.startswith("SWMTKN-")
    assert settings.worker_token not in repr(settings)
    assert settings.id == info.swarm.cluster_id
    with pytest.raises(ConflictError):
        await docker.swarm.init(advertise=one_node.first.address)
    usage = await docker.system.disk_usage()
    assert usage.get("Images") or usage["ImagesUsage"]


async def test_a_swarm_is_made_with_pools_and_a_call_to_a_dead_daemon_fails_in_time() -> None:
    with swarm(1, joined=0) as bed:
        machine = bed.first
        async with Docker(machine.docker_url) as docker:
            assert (await docker.system.info()).swarm.state == "inactive"
            with pytest.raises(NotManagerError):
                await docker.services.list()
            node = await docker.swarm.init(
                advertise=machine.address, pools=["10.90.0.0/16"], subnet_size=26, heartbeat_s=3
            )
            assert (await docker.nodes.inspect("self")).id == node
            assert (await docker.swarm.inspect()).subnet_size == 26
            assert "Heartbeat Period: 3 seconds" in machine.docker("info").stdout
            network = await docker.networks.create("shop_default")
            async with asyncio.timeout(20.0):
                while not (subnets := (await docker.networks.inspect(network)).subnets):
                    await asyncio.sleep(0.05)
            assert subnets[0].startswith("10.90.")
            async with docker.system.events() as events:
                await asyncio.to_thread(machine.kill)
                with contextlib.suppress(EngineUnreachableError):
                    async with asyncio.timeout(5.0):
                        await read_to_the_end(events)
            with pytest.raises(EngineUnreachableError):
                await docker.services.list()
