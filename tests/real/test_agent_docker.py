"""Agents on a real Docker: tasks that Swarm stops are drained and then told so; streams into containers; images."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tarfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hunqi.agent.main import serve_agent
from hunqi.agent.settings import AgentSettings
from hunqi.engine.client import Docker
from hunqi.engine.model import LABEL_CLUSTER, LABEL_DRAIN, LABEL_STOP_SIGNAL, Task
from hunqi.gateway.model import Endpoint
from hunqi.nodes.agent_client import AgentClient, Channel
from hunqi.nodes.authority import ClusterAuthority
from hunqi.nodes.errors import AgentRefusedError
from hunqi.nodes.identity import Role, client_context
from hunqi.nodes.model import Member, Roster
from hunqi.nodes.wire import ExecRequest
from support_agent import (
    CLUSTER,
    NOW,
    WEB,
    MemoryGateway,
    agent_settings,
    running,
    served_without_docker,
    table_of,
    until,
    write_credential,
)
from testbed.sample import give_sample
from testbed.swarm import ONE_NODE, Bed

pytestmark = [pytest.mark.real, ONE_NODE]


@dataclass(kw_only=True)
class Two:
    """Two agents: one beside Docker, one that stands for another node."""

    client: AgentClient
    docker: Docker
    settings: dict[str, AgentSettings]
    gateways: dict[str, MemoryGateway]
    roster: Roster
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, Any])
    group: asyncio.TaskGroup

    async def start(self, node: str) -> None:
        listening = asyncio.Event()
        self.tasks[node] = self.group.create_task(self._run(node, listening))
        async with asyncio.timeout(10):
            await listening.wait()
        members = tuple(each for each in self.roster.members if each.node in self.tasks)
        for each in members:
            await self.client.put_roster(each.node, replace(self.roster, members=members))

    async def _run(self, node: str, listening: asyncio.Event) -> None:
        if node == "n1":
            await serve_agent(
                self.settings[node],
                make_gateway=lambda _settings, _docker: self.gateways[node],
                on_listening=listening.set,
            )
        else:  # its own Docker has none of the containers
            async with served_without_docker(self.settings[node], self.gateways[node]):
                listening.set()
                await asyncio.Event().wait()

    async def stop(self, node: str) -> None:
        task = self.tasks.pop(node)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def serve(self, tasks: list[Task]) -> dict[str, str]:
        """Give both gateways a table with these tasks; return task → address."""
        table = table_of(*(task.id for task in tasks))
        addresses = {task.id: next(iter(task.addresses.values()), f"10.9.9.{at}") for at, task in enumerate(tasks)}
        endpoints = tuple(
            Endpoint(address=addresses[task.id], port=8080, task=task.id, node=task.node_id or "") for task in tasks
        )
        table = replace(table, clusters={WEB: replace(table.clusters[WEB], endpoints=endpoints)})
        for node in self.tasks:
            await self.client.push_table(node, table)
        return addresses


@contextlib.asynccontextmanager
async def two_agents(bed: Bed, directory: Path) -> AsyncGenerator[Two]:
    authority = ClusterAuthority.make(CLUSTER, now=NOW)
    first, first_name = agent_settings(directory / "n1", authority, "n1", docker_socket=bed.first.socket)
    second, second_name = agent_settings(directory / "n2", authority, "n2")
    roster = Roster(
        version=1,
        members=(
            Member(node="n1", name="one", address=f"127.0.0.1:{first.port}", agent=first_name),
            Member(node="n2", name="two", address=f"127.0.0.1:{second.port}", agent=second_name),
        ),
    )
    paths = write_credential(directory / "control", authority.issue(Role.CONTROL, "one", now=NOW), authority.ca_pem)
    client = AgentClient(client_context(paths), lambda: roster)
    async with Docker(str(bed.first.socket)) as docker, asyncio.TaskGroup() as group:
        two = Two(
            client=client,
            docker=docker,
            settings={"n1": first, "n2": second},
            gateways={"n1": MemoryGateway("n1"), "n2": MemoryGateway("n2")},
            roster=roster,
            group=group,
        )
        await two.start("n1")
        try:
            yield two
        finally:
            for node in list(two.tasks):
                await two.stop(node)
            await client.close()


def create(bed: Bed, name: str, *, replicas: int = 1, drain: str | None = "10", extra: tuple[str, ...] = ()) -> None:
    options = ["--container-label", f"{LABEL_CLUSTER}={CLUSTER}", "--label", f"{LABEL_CLUSTER}={CLUSTER}"]
    if drain:
        options += ["--container-label", f"{LABEL_DRAIN}={drain}", "--container-label", f"{LABEL_STOP_SIGNAL}=SIGTERM"]
        options += ["--stop-signal", "SIGURG", "--stop-grace-period", "40s"]
    image = give_sample(bed)
    bed.first.docker(
        "service", "create", "-q", "--detach", "--name", name, "--replicas", str(replicas), "--no-resolve-image",
        *options, *extra, image,
    )  # fmt: skip


async def tasks_of(docker: Docker, name: str, count: int) -> list[Task]:
    found: list[Task] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found = [task for task in await docker.tasks.list(services=[name]) if task.serving and task.container_id]
            await asyncio.sleep(0.1)
    return found


@contextlib.asynccontextmanager
async def service(bed: Bed, name: str, docker: Docker, *, replicas: int = 1, **more: Any) -> AsyncGenerator[list[Task]]:
    create(bed, name, replicas=replicas, **more)
    try:
        yield await tasks_of(docker, name, replicas)
    finally:
        bed.first.docker("service", "rm", name, check=False)
        for container in bed.first.docker("ps", "-aq", "--filter", f"name={name}.").stdout.split():
            bed.first.docker("rm", "-f", container, check=False)


def log_of(bed: Bed, container: str) -> str:
    return bed.first.docker("logs", container, check=False).stdout


async def stopped(docker: Docker, name: str, count: int = 1) -> list[Task]:
    """Return the tasks that Swarm wants gone."""
    async with asyncio.timeout(30):
        while True:
            tasks = await docker.tasks.list(services=[name])
            going = [task for task in tasks if task.desired_state not in {"running", "ready"}]
            if len(going) >= count:
                return going
            await asyncio.sleep(0.1)


async def test_a_scale_down_is_drained_in_every_gateway_before_the_apps_signal(one_node: Bed, tmp_path: Path) -> None:
    async with two_agents(one_node, tmp_path) as two, service(one_node, "web-r1", two.docker, replicas=2) as tasks:
        await two.start("n2")
        addresses = await two.serve(tasks)
        for address in addresses.values():
            two.gateways["n2"].open[address] = 1  # the other node's gateway has a request open to each
        one_node.first.docker("service", "scale", "--detach", "web-r1=1")
        (going,) = await stopped(two.docker, "web-r1")
        for gateway in two.gateways.values():
            await until(lambda gateway=gateway: gateway.draining() == {going.id}, timeout_s=10)
        container = going.container_id or ""
        await asyncio.sleep(1.0)
        assert "signal SIGURG" in log_of(one_node, container)
        assert "SIGTERM" not in log_of(one_node, container), "its requests are not over"
        two.gateways["n2"].open.clear()
        await until(lambda: f"stopped {container[:12]}" in log_of(one_node, container), timeout_s=10)
        assert "signal SIGTERM" in log_of(one_node, container)


async def test_an_agent_restarted_in_mid_drain_ends_it(one_node: Bed, tmp_path: Path) -> None:
    async with two_agents(one_node, tmp_path) as two, service(one_node, "web-r2", two.docker, drain="8") as tasks:
        addresses = await two.serve(tasks)
        two.gateways["n1"].open[addresses[tasks[0].id]] = 1
        one_node.first.docker("service", "scale", "--detach", "web-r2=0")
        await until(lambda: two.gateways["n1"].draining() == {tasks[0].id}, timeout_s=20)
        await two.stop("n1")
        container = tasks[0].container_id or ""
        await asyncio.sleep(0.5)
        assert "SIGTERM" not in log_of(one_node, container)
        two.gateways["n1"].open.clear()
        await two.start("n1")
        await until(lambda: "signal SIGTERM" in log_of(one_node, container), timeout_s=10)


async def test_a_stop_while_no_agent_runs_is_made_up_for(one_node: Bed, tmp_path: Path) -> None:
    async with two_agents(one_node, tmp_path) as two, service(one_node, "web-r3", two.docker, drain="25") as tasks:
        await two.stop("n1")
        one_node.first.docker("service", "scale", "--detach", "web-r3=0")
        container = tasks[0].container_id or ""
        await until(lambda: "signal SIGURG" in log_of(one_node, container), timeout_s=20)
        await two.start("n1")
        await until(lambda: "signal SIGTERM" in log_of(one_node, container), timeout_s=10)


async def test_without_traffic_a_stop_takes_a_moment(one_node: Bed, tmp_path: Path) -> None:
    async with two_agents(one_node, tmp_path) as two, service(one_node, "web-r4", two.docker, drain="30") as tasks:
        began = time.monotonic()
        one_node.first.docker("service", "scale", "--detach", "web-r4=0")
        container = tasks[0].container_id or ""
        await until(lambda: "signal SIGTERM" in log_of(one_node, container), timeout_s=20)
        assert time.monotonic() - began < 10


async def collect(channel: Channel) -> tuple[bytes, bytes, dict[str, Any]]:
    """Return standard output, standard error and the last text frame."""
    out, err, last = b"", b"", {}
    async with asyncio.timeout(30):
        while (frame := await channel.receive()) is not None:
            if isinstance(frame, str):
                last = json.loads(frame)
            elif frame[:1] == b"\1":
                out += frame[1:]
            else:
                err += frame[1:]
    return out, err, last


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 1000):
        yield data[at : at + 1000]


async def test_streams_into_a_container(one_node: Bed, tmp_path: Path) -> None:
    async with two_agents(one_node, tmp_path) as two, service(one_node, "web-r5", two.docker, drain=None) as tasks:
        container, client = tasks[0].container_id or "", two.client

        command = ("sh", "-c", "echo out; echo err >&2; echo $X; exit 7")
        async with client.execute("n1", ExecRequest(container=container, command=command, env={"X": "a b"})) as channel:
            assert await collect(channel) == (b"out\na b\n", b"err\n", {"exit": 7})

        async with client.execute("n1", ExecRequest(container=container, command=("cat",), stdin=True)) as channel:
            await channel.send(b"\0" + b"x" * 100_000)
            await channel.send('{"eof": true}')
            out, _, last = await collect(channel)
            assert (len(out), last) == (100_000, {"exit": 0})

        shell = ExecRequest(container=container, command=("sh",), stdin=True, tty=True, columns=91, rows=33)
        async with client.execute("n1", shell) as channel:
            await channel.send(b"\0stty size\n")
            await asyncio.sleep(0.5)
            await channel.send('{"resize": [120, 40]}')
            await asyncio.sleep(0.5)
            await channel.send(b"\0stty size; exit 3\n")
            out, _, last = await collect(channel)
            assert b"33 91" in out
            assert b"40 120" in out
            assert last == {"exit": 3}

        async with client.execute("n1", ExecRequest(container=container, command=("/no/such",))) as channel:
            _, _, last = await collect(channel)
            assert last.get("exit") in {126, 127} or "error" in last

        async with client.forward("n1", container, 8080) as channel:
            await channel.send(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            out = b""
            async with asyncio.timeout(10):
                while (frame := await channel.receive()) is not None:
                    assert isinstance(frame, bytes)
                    out += frame
            assert out.startswith(b"HTTP/1.1 200")
            assert out.endswith(b"ok")
        with pytest.raises(AgentRefusedError):
            async with client.forward("n1", container, 9):
                pass

        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            member = tarfile.TarInfo("hello.txt")
            member.size = 50_000
            archive.addfile(member, io.BytesIO(b"h" * 50_000))
        await client.put_files("n1", container, "/data", pieces(tar.getvalue()))
        async with client.get_files("n1", container, "/data/hello.txt") as stream:
            read = b"".join([piece async for piece in stream])
        with tarfile.open(fileobj=io.BytesIO(read)) as archive:
            found = archive.extractfile("hello.txt")
            assert found is not None
            assert found.read() == b"h" * 50_000
        with pytest.raises(AgentRefusedError):
            async with client.get_files("n1", container, "/no/such/file"):
                pass


async def test_a_client_that_leaves_ends_its_command(one_node: Bed, tmp_path: Path) -> None:
    async with two_agents(one_node, tmp_path) as two, service(one_node, "web-r6", two.docker, drain=None) as tasks:
        container = tasks[0].container_id or ""
        request = ExecRequest(container=container, command=("cat",), stdin=True)
        async with two.client.execute("n1", request) as channel:
            await channel.send(b"\0hello")
            assert await channel.receive() == b"\1hello"

        def cats() -> int:
            return one_node.first.docker("top", container, "-o", "pid,args").stdout.split().count("cat")

        await until(lambda: cats() == 0, timeout_s=10)


async def test_containers_that_are_not_ours_are_not_there(one_node: Bed, tmp_path: Path) -> None:
    async with two_agents(one_node, tmp_path) as two:
        foreign = one_node.first.docker("run", "-d", give_sample(one_node)).stdout.strip()
        try:
            for container in (foreign, "nonsense", "../../info", ""):
                request = ExecRequest(container=container, command=("id",))
                async with two.client.execute("n1", request) as channel:
                    _, _, last = await collect(channel)
                    assert last["error"]["code"] == "agent.not-ours"
                with pytest.raises(AgentRefusedError):
                    async with two.client.forward("n1", container, 8080):
                        pass
                with pytest.raises(AgentRefusedError):
                    async with two.client.get_files("n1", container, "/etc/passwd"):
                        pass
        finally:
            one_node.first.docker("rm", "-f", foreign)


async def test_an_agent_that_starts_before_docker_waits_for_it(one_node: Bed, tmp_path: Path) -> None:
    authority = ClusterAuthority.make(CLUSTER, now=NOW)
    link = tmp_path / "docker.sock"
    settings, _ = agent_settings(tmp_path / "n1", authority, "n1", docker_socket=link, has_gateway=False)
    listening = asyncio.Event()
    async with running(serve_agent(settings, on_listening=listening.set)):
        await asyncio.sleep(0.5)
        assert not listening.is_set()
        link.symlink_to(one_node.first.socket)
        async with asyncio.timeout(10):
            await listening.wait()


async def test_chores_volumes_and_what_a_healthcheck_said(one_node: Bed, tmp_path: Path) -> None:
    labels = f"volume-label=io.hunqi.app=shop,volume-label={LABEL_CLUSTER}={CLUSTER}"
    extra = (
        "--health-cmd", "echo it is ill; exit 1", "--health-interval", "1s", "--health-retries", "50",
        "--health-start-period", "60s", "--mount", f"type=volume,source=vol1,target=/data,{labels}",
    )  # fmt: skip
    async with two_agents(one_node, tmp_path) as two:
        create(one_node, "ill-r1", drain=None, extra=extra)
        try:
            container = ""
            async with asyncio.timeout(60):
                while not container or "ill" not in await two.client.health("n1", container):
                    found = one_node.first.docker("ps", "-q", "--no-trunc", "--filter", "name=ill-r1").stdout.split()
                    container = found[0] if found else ""
                    await asyncio.sleep(0.3)
            one_node.first.docker("volume", "create", "foreign")
            removing = asyncio.create_task(two.client.remove_volumes("n1", "shop"))
            await asyncio.sleep(1.0)
            assert not removing.done(), "it is in use"
            one_node.first.docker("service", "rm", "ill-r1")
            one_node.first.docker("rm", "-f", container, check=False)
            assert (await removing).removed == ("vol1",)
            assert "foreign" in one_node.first.docker("volume", "ls", "-q").stdout
            with pytest.raises(AgentRefusedError):
                await two.client.remove_volumes("n1", "")
            with pytest.raises(AgentRefusedError):
                await two.client.health("n1", "nonsense")
        finally:
            one_node.first.docker("service", "rm", "ill-r1", check=False)
            one_node.first.docker("volume", "rm", "-f", "foreign", check=False)
