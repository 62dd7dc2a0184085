"""A node's gateway on a real Docker: sandbox, networks, names inside an app, deaths, and an upgrade under load."""

from __future__ import annotations

import asyncio
import contextlib
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hunqi.apps.model import HealthSpec, Protocol, RouteSpec
from hunqi.apps.serving import Serving
from hunqi.engine.client import Docker
from hunqi.engine.model import Snapshot
from hunqi.gateway.boxes import GatewaySettings
from hunqi.gateway.model import Edge
from hunqi.gateway.node import NodeGateway
from hunqi.gateway.table import build_table
from support_gateway import service, serving
from testbed.sample import give_sample
from testbed.swarm import ONE_NODE, Bed

pytestmark = [pytest.mark.real, pytest.mark.slow, ONE_NODE]

HEALTH = HealthSpec(path="/health", interval_s=0.5)


@dataclass
class World:
    """One node, its engine, and the gateway on it."""

    bed: Bed
    docker: Docker
    settings: GatewaySettings
    gateway: NodeGateway
    version: int = 0
    servings: list[Serving] = field(default_factory=list)

    async def run_service(self, name: str, network: str, *, replicas: int = 1, env: Iterable[str] = ()) -> None:
        await asyncio.to_thread(self._create, name, network, replicas, list(env))

    def _create(self, name: str, network: str, replicas: int, env: list[str]) -> None:
        words = [word for each in env for word in ("-e", each)]
        machine = self.bed.first
        if machine.docker("network", "inspect", network, check=False).returncode:
            machine.docker("network", "create", "-d", "overlay", "--attachable", network)
        image = give_sample(self.bed)
        options = ["--network", network, "--endpoint-mode", "dnsrr", "--replicas", str(replicas), *words]
        machine.docker("service", "create", "-d", "--no-resolve-image", "--name", name, *options, image)

    async def snapshot(self) -> Snapshot:
        services = await self.docker.services.list()
        tasks = await self.docker.tasks.list()
        networks = await self.docker.networks.list()
        return Snapshot(
            services={each.name: each for each in services},
            tasks={each.id: tuple(one for one in tasks if one.service_id == each.id) for each in services},
            nodes={},
            networks={each.name: each for each in networks if each.driver == "overlay" and each.name != "ingress"},
            secrets={},
            configs={},
            taken_at=0.0,
        )

    async def serve(self, *servings: Serving, healthy: int) -> None:
        """Have the gateway serve, and wait until it works by it and finds so many endpoints healthy."""
        self.servings = list(servings)
        deadline = asyncio.get_running_loop().time() + 60
        while True:
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(await self.gateway.observe(), self.log())
            self.version += 1
            table = build_table(self.servings, await self.snapshot(), Edge(), version=self.version)
            await self.gateway.apply(table)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    if await self._works(healthy):
                        return

    async def _works(self, healthy: int) -> bool:
        while True:
            report = await self.gateway.observe()
            if report.version == self.version and sum(each.healthy for each in report.endpoints) == healthy:
                return True
            await asyncio.sleep(0.05)

    def log(self) -> str:
        """Return the last words of the Envoys, for a test that fails."""
        names = [each for each in self.containers() if each != "hunqi-gateway"]
        logs = [self.bed.first.docker("logs", "--tail", "15", each, check=False) for each in names]
        return "\n".join(each.stdout + each.stderr for each in logs)

    def containers(self) -> dict[str, str]:
        listed = self.bed.first.docker("ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}").stdout
        pairs = [line.split() for line in listed.splitlines()]
        return {name: ident for name, ident in pairs if name.startswith("hunqi-gateway")}

    def images(self) -> set[str]:
        listed = self.bed.first.docker("images", "--format", "{{.Repository}}:{{.Tag}}", "hunqi/gateway").stdout
        return set(listed.split())

    def import_images(self, *tags: str) -> None:
        """Make an image of a gateway that was before for each of ``tags``."""
        for tag in tags:
            empty = self.bed.first.directory / f"{tag}.tar"
            with tarfile.open(empty, "w") as tar:
                tar.addfile(tarfile.TarInfo(tag))
            self.bed.first.docker("import", str(empty), f"hunqi/gateway:{tag}")

    def url(self, path: str = "/") -> str:
        return f"http://{self.bed.first.address}{path}"

    async def ask(self, path: str = "/", host: str = "web.test") -> tuple[int, str]:
        connector = aiohttp.TCPConnector(force_close=True)
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as client,
            client.get(self.url(path), headers={"host": host}) as answer,
        ):
            return answer.status, await answer.text()


@contextlib.asynccontextmanager
async def node_gateway(bed: Bed, docker: Docker, settings: GatewaySettings) -> AsyncIterator[NodeGateway]:
    gateway = NodeGateway(docker, settings)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(gateway.run())
        try:
            yield gateway
        finally:
            running.cancel()


def enter(bed: Bed) -> tuple[str, ...]:
    return ("nsenter", f"--net=/var/run/netns/{bed.first.name}")


@pytest.fixture
async def world(one_node: Bed, tmp_path: Path) -> AsyncIterator[World]:
    settings = GatewaySettings(cluster="c1", node="node1", folder=tmp_path / "g", enter=enter(one_node))
    try:
        async with (
            Docker(str(one_node.first.socket)) as docker,
            node_gateway(one_node, docker, settings) as gateway,
        ):
            yield World(one_node, docker, settings, gateway)
    finally:
        await asyncio.to_thread(one_node.clear)


def web(app: str = "shop", **changes: object) -> Serving:
    route = RouteSpec(port=8080, hosts=("web.test" if app == "shop" else f"{app}.test",), tls="off")
    made = service("web", routes=(route,), health=HEALTH, **changes)
    return serving(app, services=[made])


async def test_a_node_serves_apps_and_their_names_inside(world: World) -> None:
    await world.run_service("shop_web-r1", "shop_default", replicas=2)
    await world.run_service("shop_client", "shop_default")
    await world.serve(web(), healthy=2)
    assert {(await world.ask())[0] for _ in range(10)} == {200}
    assert (await world.ask(host="other.test"))[0] == 404

    before = world.containers()
    found = await inside(world, "http://web:8080/")
    assert found.startswith("200")
    assert (await inside(world, "http://web:8080/", app="shop_client")).startswith("200")

    # A further app: neither the containers nor the first app's network are touched.
    await world.run_service("blog_web-r1", "blog_default", env=["NAME=blog"])
    await world.serve(web(), web("blog"), healthy=3)
    status, text = await world.ask(host="blog.test")
    assert status == 200
    assert '"blog"' in text.replace("'", '"')
    assert world.containers() == before
    assert (await inside(world, "http://web:8080/", app="blog_web-r1")).startswith("200")

    # What an app does not have any more goes.
    await world.serve(web(), healthy=2)
    await eventually(lambda: networks(world), lambda found: "blog_default" not in found)
    assert "shop_default" in await networks(world)


async def test_ports_of_routes_are_led_to_the_gateway_and_no_others(world: World) -> None:
    env = ["TCP_PORT=9000"]
    await world.run_service("shop_web-r1", "shop_default", env=env)
    tcp = RouteSpec(port=9000, protocol=Protocol.TCP, tcp_port=20007)
    plain = service("web", routes=(tcp,), health=HealthSpec(interval_s=0.5), internal="tasks", internal_ports=())
    await world.serve(serving(services=[plain]), healthy=1)
    address = world.bed.first.address
    await eventually(lambda: echo(address, 20007), lambda found: b"hello" in found)
    assert await echo(address, 20008) == b""
    await world.serve(web(), healthy=1)
    await eventually(lambda: echo(address, 20007), lambda found: found == b"")


async def echo(address: str, port: int) -> bytes:
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"hello\n")
            found = await reader.readuntil(b"hello\n")
            writer.close()
            return found
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return b""


async def test_what_dies_comes_back(world: World) -> None:
    await world.run_service("shop_web-r1", "shop_default")
    await world.serve(web(), healthy=1)
    for name in [each for each in world.containers() if each != "hunqi-gateway"]:
        world.bed.first.docker("rm", "-f", name)
    await eventually(lambda: status(world), lambda found: found == 200)
    world.bed.first.docker("restart", "-t", "0", "hunqi-gateway")
    await eventually(lambda: status(world), lambda found: found == 200)
    assert (await inside(world, "http://web:8080/")).startswith("200")


async def test_an_agent_that_comes_back_finds_everything_as_it_was(world: World) -> None:
    await world.run_service("shop_web-r1", "shop_default")
    await world.serve(web(), healthy=1)
    before = world.containers()
    async with node_gateway(world.bed, world.docker, world.settings) as second:
        assert (await world.ask())[0] == 200
        await second.apply(build_table(world.servings, await world.snapshot(), Edge(), version=world.version))
        await eventually(second.observe, lambda report: report.version == world.version)
        assert world.containers() == before


async def test_another_gateway_takes_over_without_a_refused_connection(world: World) -> None:
    await world.run_service("shop_web-r1", "shop_default", replicas=2)
    await world.serve(web(), healthy=2)
    old = [each for each in world.containers() if each != "hunqi-gateway"]
    mine = world.images()
    await asyncio.to_thread(world.import_images, "a", "b", "c")
    stop = asyncio.Event()
    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
        channel = await client.ws_connect(world.url("/ws"), headers={"host": "web.test"})
        fresh = group.create_task(load(world, stop, keep=False))
        kept = group.create_task(load(world, stop, keep=True))
        await asyncio.sleep(1.0)
        # Another command line, as another version of Envoy would have: the keeper takes it for another kind.
        world.gateway._settings = replace(world.settings, workers=1)
        world.gateway._keeper._settings = world.gateway._settings
        world.gateway._dirty.set()
        await eventually(names(world), lambda found: len(found) == 3)
        # Longer than the old one goes on accepting.
        await asyncio.sleep(20.0)
        await channel.send_str("still")
        assert await channel.receive_str() == "still"
        assert old[0] in world.containers()
        await channel.close()
        await eventually(names(world), lambda found: len(found) == 2 and old[0] not in found)
        stop.set()
    # The one in use, and the one before it.
    await eventually(images(world), lambda found: len(found) == len(mine) + 1 and mine < found)
    for name, results in (("fresh", fresh.result()), ("kept", kept.result())):
        assert results, name
        assert set(results) == {200}, (name, [each for each in results if each != 200][:5], len(results))


def images(world: World) -> Callable[[], Awaitable[set[str]]]:
    async def found() -> set[str]:
        return await asyncio.to_thread(world.images)

    return found


def names(world: World) -> Callable[[], Awaitable[set[str]]]:
    async def found() -> set[str]:
        return set(await asyncio.to_thread(world.containers))

    return found


async def load(world: World, stop: asyncio.Event, *, keep: bool) -> list[object]:
    """Requests every 20 ms until ``stop``: a status each, or what went wrong."""
    results: list[object] = []
    connector = aiohttp.TCPConnector(force_close=not keep)
    timeout = aiohttp.ClientTimeout(total=10)

    async def one(client: aiohttp.ClientSession) -> None:
        try:
            async with client.get(world.url(), headers={"host": "web.test"}) as answer:
                await answer.read()
                results.append(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            results.append(repr(error))

    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client, asyncio.TaskGroup() as group:
        while not stop.is_set():
            group.create_task(one(client))
            await asyncio.sleep(0.02)
    return results


async def status(world: World) -> int:
    try:
        return (await world.ask())[0]
    except (aiohttp.ClientError, TimeoutError):
        return 0


async def networks(world: World) -> set[str]:
    return set((await world.docker.containers.inspect("hunqi-gateway")).addresses)


async def inside(world: World, url: str, *, app: str = "shop_web-r1") -> str:
    """Return the status and body of a GET by a task of the service."""
    machine = world.bed.first
    ids = await asyncio.to_thread(machine.docker, "ps", "-q", "-f", f"name={app}")
    command = f"wget -S -O - {url} 2>&1 | head -40"
    said = await asyncio.to_thread(machine.docker, "exec", ids.stdout.split()[0], "sh", "-c", command)
    first = next((line.split()[1] for line in said.stdout.splitlines() if "HTTP/1.1" in line), "none")
    return f"{first} {said.stdout}"


async def eventually(look: Callable[[], Awaitable[Any]], good: Callable[[Any], bool], timeout_s: float = 60.0) -> Any:
    async with asyncio.timeout(timeout_s):
        while not good(found := await look()):
            await asyncio.sleep(0.1)
        return found
