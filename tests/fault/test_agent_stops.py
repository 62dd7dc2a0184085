"""Containers that the engine stops: in every interleaving of requests, peers, deaths and restarts of the agent."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hunqi.agent import stops as stops_module
from hunqi.agent.drains import Drains
from hunqi.agent.errors import BadRequestError, GoneError
from hunqi.agent.processes import parse_signal, send_signal
from hunqi.agent.reports import Reports
from hunqi.agent.stops import Stops, StopWorld
from hunqi.agent.tables import Tables
from hunqi.nodes.errors import AgentFailedError, AgentUnreachableError
from hunqi.nodes.model import Member, Roster
from support_agent import CLUSTER, MemoryEngine, MemoryGateway, running, table_of, text_of, until


class MemoryPeers:
    """The other agents: each drains when told to, is dead, or refuses."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.idle = asyncio.Event()
        self.idle.set()
        self.dead: set[str] = set()
        self.refusals: dict[str, int] = {}
        self.broken: set[str] = set()

    async def drain(self, node: str, tasks: Sequence[str], *, timeout_s: float) -> Mapping[str, int]:
        self.asked.append((node, tasks[0]))
        if node in self.dead:
            await asyncio.sleep(0.2)
            raise AgentUnreachableError(node, "no answer in time")
        if self.refusals.get(node, 0) > 0:
            self.refusals[node] -= 1
            raise AgentUnreachableError(node, "refused", is_refused=True)
        if node in self.broken:
            raise AgentFailedError(node, "agent.disk", "no space left")
        try:
            async with asyncio.timeout(timeout_s):
                await self.idle.wait()
        except TimeoutError:
            return {tasks[0]: 1}
        return {}


class World:
    """One agent's stopping half, on an engine and a gateway in memory."""

    def __init__(self, directory: Path, *, others: Sequence[str] = ()) -> None:
        self.directory = directory
        self.engine = MemoryEngine(now=time.time())
        self.gateway = MemoryGateway()
        self.peers = MemoryPeers()
        self.sent: list[tuple[str, int]] = []
        members = [Member(node=each, name=each, address="", agent=each) for each in ("n1", *others)]
        self.roster = Roster(version=1, members=tuple(members))
        self.refuses: set[str] = set()

    def send(self, _pid: int, container: str, number: int) -> None:
        if container in self.refuses:
            raise GoneError("gone")
        self.sent.append((container, number))

    def agent(self) -> tuple[Stops, list[object]]:
        tables = Tables(self.gateway, self.directory, clock=time.time)
        tables.load()
        reports = Reports(self.gateway, tables, node="n1", monotonic=time.monotonic)
        world = StopWorld(
            system=self.engine,
            containers=self.engine,
            images=self.engine,
            drains=Drains(tables, reports),
            peers=self.peers,
            roster=lambda: self.roster,
            clock=time.time,
            send=self.send,
        )
        stops = Stops(world, self.directory, cluster=CLUSTER, node="n1")
        self.tables = tables
        return stops, [tables.run(), reports.run(), stops.run()]

    def kill(self, container: str, number: str = "23") -> None:
        self.engine.now = time.time()
        self.engine.say("kill", container, signal=number)


async def test_the_apps_signal_comes_after_its_last_request(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.engine.add("c1", task="a", drain="20")
    world.gateway.open["10.0.0.1"] = 1
    _, services = world.agent()
    async with running(*services):
        await world.tables.take(text_of(table_of("a", "b")))
        world.kill("c1")
        await until(lambda: world.gateway.draining() == {"a"})
        await asyncio.sleep(0.3)
        assert world.sent == []
        world.gateway.open.clear()
        await until(lambda: world.sent == [("c1", signal.SIGTERM)])


async def test_the_signal_comes_when_the_time_is_over(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.engine.add("c1", task="a", drain="0.5", own="SIGQUIT")
    world.gateway.open["10.0.0.1"] = 1
    _, services = world.agent()
    async with running(*services):
        await world.tables.take(text_of(table_of("a", "b")))
        world.kill("c1")
        await until(lambda: world.sent == [("c1", signal.SIGQUIT)])


async def test_every_other_agent_is_told_and_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path, others=["n2", "n3"])
    world.engine.add("c1", task="a", drain="20")
    world.peers.idle.clear()
    _, services = world.agent()
    async with running(*services):
        await world.tables.take(text_of(table_of("a", "b")))
        world.kill("c1")
        await until(lambda: sorted(world.peers.asked) == [("n2", "a"), ("n3", "a")])
        await asyncio.sleep(0.3)
        assert world.sent == []
        world.peers.idle.set()
        await until(lambda: len(world.sent) == 1)


@pytest.mark.parametrize("fault", ["dead", "broken"])
async def test_a_node_that_is_gone_does_not_delay(tmp_path: Path, fault: str) -> None:
    world = World(tmp_path, others=["n2"])
    world.engine.add("c1", task="a", drain="60")
    getattr(world.peers, fault).add("n2")
    _, services = world.agent()
    async with running(*services):
        await world.tables.take(text_of(table_of("a", "b")))
        world.kill("c1")
        await until(lambda: len(world.sent) == 1, timeout_s=10)
    assert world.peers.asked == [("n2", "a")]


async def test_an_agent_that_is_being_restarted_is_asked_again(tmp_path: Path) -> None:
    world = World(tmp_path, others=["n2"])
    world.engine.add("c1", task="a", drain="60")
    world.peers.refusals["n2"] = 3
    _, services = world.agent()
    async with running(*services):
        world.kill("c1")
        await until(lambda: len(world.sent) == 1, timeout_s=10)
    assert len(world.peers.asked) == 4


async def test_an_agent_restarted_in_the_middle_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.engine.add("c1", task="a", drain="30")
    world.gateway.open["10.0.0.1"] = 1
    _, services = world.agent()
    async with running(*services):
        await world.tables.take(text_of(table_of("a", "b")))
        world.kill("c1")
        await until(lambda: world.gateway.draining() == {"a"} and (tmp_path / "stops.json").exists())
    assert world.sent == []

    world.engine.log.clear()  # the engine has forgotten the event by now
    stops, services = world.agent()
    async with running(*services):
        await until(lambda: stops.tasks == ("a",))
        world.gateway.open.clear()
        await until(lambda: len(world.sent) == 1)


async def test_a_stop_during_the_agents_absence_is_found(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.engine.add("c1", task="a", drain="20")
    world.kill("c1")
    _, services = world.agent()
    async with running(*services):
        await until(lambda: len(world.sent) == 1)


async def test_the_signal_is_sent_once_whatever_is_told_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.engine.add("c1", task="a", drain="1")
    _, services = world.agent()
    async with running(*services):
        world.kill("c1")
        await until(lambda: len(world.sent) == 1)
        world.kill("c1")
        await asyncio.sleep(0.2)
    _, services = world.agent()  # which is told all events of the last hour
    async with running(*services):
        await asyncio.sleep(0.3)
    assert len(world.sent) == 1


async def test_a_container_that_dies_by_itself_ends_its_drain(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.engine.add("c1", task="a", drain="3600")
    world.gateway.open["10.0.0.1"] = 1
    stops, services = world.agent()
    async with running(*services):
        await world.tables.take(text_of(table_of("a", "b")))
        world.kill("c1")
        await until(lambda: stops.tasks == ("a",))
        world.engine.die("c1")
        await until(lambda: stops.tasks == ())
    assert world.sent == []


async def test_what_is_not_ours_or_not_drained_is_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    foreign = world.engine.add("foreign", task="a")
    foreign.labels = {**foreign.labels, "io.hunqi.cluster": "another"}
    plain = world.engine.add("plain", task="b")
    plain.labels = {key: value for key, value in plain.labels.items() if key != "io.hunqi.drain"}
    world.engine.add("term", task="c")
    _, services = world.agent()
    async with running(*services):
        world.kill("foreign")
        world.kill("plain")
        world.kill("term", "15")
        await asyncio.sleep(0.3)
    assert world.sent == []
    assert not (tmp_path / "stops.json").exists()


async def test_many_stop_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, others=["n2"])
    tasks = [f"t{number}" for number in range(30)]
    for task in tasks:
        world.engine.add(f"c-{task}", task=task, drain="20")
    _, services = world.agent()
    async with running(*services):
        await world.tables.take(text_of(table_of(*tasks, "stays")))
        for task in tasks:
            world.kill(f"c-{task}")
        await until(lambda: len(world.sent) == 30, timeout_s=15)
    assert world.gateway.draining() == set(tasks)


async def test_without_a_signal_of_its_own_the_images_counts(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.engine.add("c1", task="a", drain="0", own=None)
    world.engine.image_config = {"StopSignal": "SIGWINCH"}
    _, services = world.agent()
    async with running(*services):
        world.kill("c1")
        await until(lambda: world.sent == [("c1", signal.SIGWINCH)])


async def test_a_process_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.engine.add("c1", task="a", drain="0")
    world.refuses.add("c1")
    stops, services = world.agent()
    async with running(*services):
        world.kill("c1")
        await until(lambda: (tmp_path / "stops.json").exists() and stops.tasks == ())


def test_a_process_of_another_is_never_signalled() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        with pytest.raises(GoneError):
            send_signal(child.pid, "f" * 64, signal.SIGKILL)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    with pytest.raises(GoneError):
        send_signal(child.pid, "f" * 64, signal.SIGTERM)


def test_a_process_of_the_container_gets_it() -> None:
    own = Path("/proc/self/cgroup").read_text()
    name = max((part for line in own.splitlines() for part in line.split("/")), key=len)
    child = subprocess.Popen(["sleep", "60"])
    try:
        send_signal(child.pid, name, signal.SIGTERM)
        assert child.wait(10) == -signal.SIGTERM
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


@pytest.mark.parametrize(
    ("text", "number"), [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("QUIT", 3)]
)
def test_signals_are_read_as_docker_writes_them(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "SIG", "0", "999", "SIGNOPE", "SIGRTMIN+99", "-9"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError):
        parse_signal(text)


def test_the_signal_of_a_drain_is_one_that_processes_ignore() -> None:
    assert stops_module._KILL == "23" == str(int(signal.SIGURG))
