"""Control's side of the gateways, with agents that are slow, silent, restarted or gone; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from hunqi.apps.serving import Waited
from hunqi.engine.model import Node
from hunqi.errors import DependencyError
from hunqi.gateway.model import Edge, EndpointHealth, GatewayReport, HeldService, RouteTable
from hunqi.gateway.publisher import Publisher
from support_gateway import serving, snapshot, task
from testbed.virtual import run_virtual


@dataclass
class Heard:
    seq: str
    report: GatewayReport


@dataclass
class Agent:
    """A node's agent and gateway: takes tables after ``delay_s``, finds healthy what is in ``healthy``."""

    node: str
    delay_s: float = 0.01
    reachable: bool = True
    running: bool = True
    version: int = 0
    table: RouteTable | None = None
    taken: list[int] = field(default_factory=list)
    healthy: set[str] = field(default_factory=set)
    busy: dict[str, int] = field(default_factory=dict)
    held: tuple[HeldService, ...] = ()
    count: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change(self, **changes: object) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        self.count += 1
        self.changed.set()

    def report(self) -> GatewayReport:
        clusters = self.table.clusters.values() if self.table else ()
        endpoints = tuple(
            EndpointHealth(
                cluster=cluster.name,
                address=each.address,
                port=each.port,
                healthy=each.task in self.healthy,
                active_requests=self.busy.get(each.task, 0),
                failure="" if each.task in self.healthy else "its check failed",
            )
            for cluster in clusters
            for each in cluster.endpoints
        )
        return GatewayReport(
            node=self.node, version=self.version, running=self.running, endpoints=endpoints, held=self.held
        )


class Fleet:
    """All agents; the port of the publisher."""

    def __init__(self, *nodes: str) -> None:
        self.agents = {node: Agent(node) for node in nodes}

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.agents)

    async def push_table(self, node: str, table: RouteTable) -> int:
        agent = await self._reach(node)
        await asyncio.sleep(agent.delay_s)
        await self._reach(node)
        agent.taken.append(table.version)
        agent.change(table=table, version=table.version)
        return table.version

    async def report(self, node: str, *, after: str = "", wait_s: float = 30.0) -> Heard:
        agent = await self._reach(node)
        if after == str(agent.count):
            agent.changed.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await agent.changed.wait()
            except TimeoutError:
                pass
            await self._reach(node)
        return Heard(str(agent.count), agent.report())

    async def _reach(self, node: str) -> Agent:
        agent = self.agents.get(node)
        if agent is None or not agent.reachable:
            await asyncio.sleep(2.0)
            raise DependencyError(f"{node} does not answer")
        return agent


Scenario = Callable[[Publisher, Fleet], Awaitable[None]]


def play(scenario: Scenario, *nodes: str) -> None:
    async def whole() -> None:
        fleet = Fleet(*(nodes or ("n1", "n2", "n3")))
        clock = asyncio.get_running_loop().time
        publisher = Publisher(fleet, edge=Edge(), monotonic=clock, now=lambda: 1e9 + clock())
        async with asyncio.TaskGroup() as group:
            running = group.create_task(publisher.run())
            await scenario(publisher, fleet)
            running.cancel()

    run_virtual(whole)


def test_one_that_only_listens_knows_the_gateways_tells_them_nothing_and_judges_no_task() -> None:
    async def whole() -> None:
        fleet = Fleet("n1", "n2")
        fleet.agents["n2"].reachable = False
        publisher = Publisher(fleet, edge=Edge(), monotonic=asyncio.get_running_loop().time)
        publisher.observed(snapshot(tasks(1, 2)))
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(publisher.listen())
            await asyncio.sleep(8.0)
            assert set(publisher.reports()) == {"n1"}
            assert publisher.health("shop_web-r1").gateways == 0
            assert fleet.agents["n1"].taken == []
            listening.cancel()

    run_virtual(whole)


def tasks(*numbers: int) -> dict[str, list]:
    return {"shop_web-r1": [task(number) for number in numbers]}


def now() -> float:
    return asyncio.get_running_loop().time()


def test_an_offer_is_in_force_when_every_gateway_works_by_it() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        fleet.agents["n3"].delay_s = 1.0
        publisher.observed(snapshot(tasks(1, 2)))
        publisher.offer(serving())
        await asyncio.sleep(0.5)
        assert await publisher.wait_in_force("shop", timeout_s=0.1) is Waited.TIMED_OUT
        assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
        assert 1.0 <= now() < 1.5
        assert all(each.table == publisher.table for each in fleet.agents.values())

    play(scenario)


def test_who_waits_at_a_gateway_is_told_at_once_and_again_while_it_waits() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        told: list[tuple[float, str, str]] = []
        publisher.on_held(lambda app, service: told.append((now(), app, service)))
        publisher.observed(snapshot({}))
        await asyncio.sleep(1.0)
        fleet.agents["n2"].change(held=(HeldService(app="shop", service="web"),))
        await asyncio.sleep(6.0)
        assert told[0] == (1.0, "shop", "web")
        assert len(told) >= 3
        fleet.agents["n2"].change(held=())
        await asyncio.sleep(0.1)
        count = len(told)
        await asyncio.sleep(6.0)
        assert len(told) == count

    play(scenario)


def test_equal_tables_are_not_sent_again() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        for _ in range(5):
            publisher.observed(snapshot(tasks(1, 2)))
            publisher.offer(serving())
            assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
        assert len(fleet.agents["n1"].taken) == 1
        publisher.observed(snapshot(tasks(1)))
        await asyncio.sleep(1.0)
        assert len(fleet.agents["n1"].taken) == 2

    play(scenario)


def test_tables_in_between_are_skipped() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        fleet.agents["n1"].delay_s = 0.5
        for count in range(1, 20):
            publisher.observed(snapshot(tasks(*range(count))))
            publisher.offer(serving())
            await asyncio.sleep(0.05)
        assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
        assert len(fleet.agents["n1"].taken) <= 5
        assert fleet.agents["n1"].taken == sorted(fleet.agents["n1"].taken)

    play(scenario)


def test_a_task_is_healthy_when_every_live_gateway_says_so() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        publisher.observed(snapshot(tasks(1, 2)))
        publisher.offer(serving())
        both = {task(1).id, task(2).id}
        assert await publisher.wait_healthy("shop_web-r1", both, timeout_s=1.0) is Waited.TIMED_OUT
        for node in ("n1", "n2"):
            fleet.agents[node].change(healthy=set(both))
        fleet.agents["n3"].change(healthy={task(1).id})
        await asyncio.sleep(0.1)
        report = publisher.health("shop_web-r1")
        assert (report.gateways, report.healthy) == (3, {task(1).id})
        assert "its check failed" in report.failures[task(2).id]
        assert await publisher.wait_healthy("shop_web-r1", [task(1).id], timeout_s=1.0) is Waited.REACHED
        fleet.agents["n3"].change(healthy=set(both))
        assert await publisher.wait_healthy("shop_web-r1", both, timeout_s=1.0) is Waited.REACHED

    play(scenario)


def test_without_any_gateway_nothing_is_healthy_or_in_force() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        for each in fleet.agents.values():
            each.change(running=False)
        publisher.observed(snapshot(tasks(1)))
        publisher.offer(serving())
        assert await publisher.wait_in_force("shop", timeout_s=10.0) is Waited.TIMED_OUT
        assert await publisher.wait_healthy("shop_web-r1", [task(1).id], timeout_s=10.0) is Waited.TIMED_OUT

    play(scenario)


def test_a_node_that_is_gone_delays_a_deploy_for_a_few_seconds_only() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        publisher.observed(snapshot(tasks(1)))
        publisher.offer(serving())
        assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
        fleet.agents["n3"].reachable = False
        publisher.offer(serving(maintenance="x"))
        began = now()
        assert await publisher.wait_in_force("shop", timeout_s=60.0) is Waited.REACHED
        assert 1.0 < now() - began < 7.0
        fleet.agents["n3"].reachable = True
        await asyncio.sleep(10.0)
        assert fleet.agents["n3"].table == publisher.table

    play(scenario)


def test_a_node_that_the_swarm_finds_down_is_not_waited_for_at_all() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        publisher.observed(snapshot(tasks(1)))
        publisher.offer(serving())
        assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
        fleet.agents["n3"].reachable = False
        down = node("n3", state="down")
        publisher.observed(snapshot(tasks(1), nodes=[down]))
        publisher.offer(serving(maintenance="x"))
        began = now()
        assert await publisher.wait_in_force("shop", timeout_s=60.0) is Waited.REACHED
        assert now() - began < 1.0

    play(scenario)


def test_drained_means_that_no_gateway_has_anything_open() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        publisher.observed(snapshot(tasks(1, 2)))
        publisher.offer(serving())
        assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
        fleet.agents["n2"].change(busy={task(1).id: 1})
        publisher.offer(serving(draining=frozenset({"shop_web-r1"})))
        assert await publisher.wait_drained("shop_web-r1", timeout_s=3.0) is Waited.TIMED_OUT
        assert await publisher.wait_drained("shop_web-r1", [task(2).id], timeout_s=3.0) is Waited.REACHED
        fleet.agents["n2"].change(busy={})
        assert await publisher.wait_drained("shop_web-r1", timeout_s=3.0) is Waited.REACHED

    play(scenario)


def test_a_request_that_comes_in_the_last_moment_is_waited_for() -> None:
    """A worker of Envoy may pick an endpoint just before it learns that this drains."""

    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        publisher.observed(snapshot(tasks(1)))
        publisher.offer(serving(draining=frozenset({"shop_web-r1"})))
        assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(publisher.wait_drained("shop_web-r1", timeout_s=5.0))
            await asyncio.sleep(0.05)
            fleet.agents["n1"].change(busy={task(1).id: 1})
            await asyncio.sleep(1.0)
            assert not waiting.done()
            fleet.agents["n1"].change(busy={})
        assert waiting.result() is Waited.REACHED

    play(scenario)


def test_who_withdraws_an_app_ends_the_waits_for_it() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        for each in fleet.agents.values():
            each.delay_s = 100.0
        publisher.observed(snapshot(tasks(1)))
        publisher.offer(serving())
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(publisher.wait_in_force("shop", timeout_s=50.0))
            await asyncio.sleep(1.0)
            publisher.withdraw("shop")
        assert waiting.result() is Waited.STOPPED
        assert now() < 2.0

    play(scenario)


def test_an_agent_that_starts_anew_gets_the_table_it_lacks() -> None:
    """Its gateway says that it works by an older version, or by none."""

    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        publisher.observed(snapshot(tasks(1)))
        publisher.offer(serving())
        assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
        fleet.agents["n1"].change(version=0, table=None)
        await asyncio.sleep(5.0)
        assert fleet.agents["n1"].table == publisher.table

    play(scenario)


def test_changes_of_others_keep_nobody_waiting() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        fleet.agents["n1"].delay_s = 0.3

        async def others() -> None:
            for number in range(1000):
                publisher.offer(serving("blog", maintenance=str(number)))
                await asyncio.sleep(0.05)

        publisher.observed(snapshot(tasks(1), apps=("shop", "blog")))
        async with asyncio.TaskGroup() as group:
            noise = group.create_task(others())
            await asyncio.sleep(1.0)
            publisher.offer(serving())
            assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
            assert now() < 3.0
            noise.cancel()

    play(scenario)


def test_a_leader_that_takes_over_gives_newer_versions() -> None:
    async def scenario(publisher: Publisher, fleet: Fleet) -> None:
        publisher.observed(snapshot(tasks(1)))
        publisher.offer(serving())
        assert await publisher.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
        first = fleet.agents["n1"].version
        await asyncio.sleep(1.0)
        clock = asyncio.get_running_loop().time
        other = Publisher(fleet, edge=Edge(), monotonic=clock, now=lambda: 1e9 + clock())
        other.observed(snapshot(tasks(1)))
        other.offer(serving())
        async with asyncio.TaskGroup() as group:
            running = group.create_task(other.run())
            assert await other.wait_in_force("shop", timeout_s=5.0) is Waited.REACHED
            running.cancel()
        assert fleet.agents["n1"].version > first

    play(scenario)


def node(name: str, **changes: object) -> Node:
    made = Node(
        id=name,
        version=1,
        hostname=name,
        role="worker",
        availability="active",
        state="ready",
        address="",
        labels={},
        is_leader=False,
        reachable=True,
        nano_cpus=0,
        memory_bytes=0,
        engine_version="",
        platform="linux/x86_64",
        spec={},
    )
    return replace(made, **changes)  # type: ignore[arg-type]
