"""Control asks agents for samples: one that is away, one that is slow, nodes that come and go, and when it matters."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from hunqi.apps.metrics_spec import MetricsSpec
from hunqi.control.measuring import Measurements
from hunqi.engine.model import LABEL_APP, LABEL_REVISION, LABEL_SERVICE, Service, Snapshot
from hunqi.nodes.errors import AgentUnreachableError
from hunqi.nodes.wire import ScrapeOrder, ScrapeTarget
from hunqi.telemetry.wire import NodeSample, TaskCounts
from support_agent import until
from support_gateway import service, serving, snapshot, task

LABELS = {LABEL_APP: "shop", LABEL_SERVICE: "web", LABEL_REVISION: "1"}
RESERVED = {"TaskTemplate": {"Resources": {"Reservations": {"NanoCPUs": 250_000_000, "MemoryBytes": 64 << 20}}}}


@dataclass
class Agents:
    """Agents in memory: who is away raises, who is stuck never answers."""

    nodes: list[str]
    away: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    orders: dict[str, ScrapeOrder] = field(default_factory=dict)

    async def measure(self, node: str, order: ScrapeOrder) -> NodeSample:
        self.asked[node] += 1
        self.orders[node] = order
        if node in self.away:
            raise AgentUnreachableError(node, "no answer in time", is_refused=False)
        if node in self.stuck:
            await asyncio.Event().wait()
        used = TaskCounts(task="t", app="shop", service="web", revision=1, cpu_s=1.0, memory_bytes=5)
        return NodeSample(node=node, at=float(self.asked[node]), boot="b", gateway=True, tasks=(used,))


def world() -> Snapshot:
    made = snapshot({"shop_web-r1": [task(1), task(2, node_id="n2")]})
    known = made.services["shop_web-r1"]
    labelled: Service = replace(known, labels=LABELS, spec=RESERVED)
    return replace(made, services={"shop_web-r1": labelled})


@dataclass
class It:
    agents: Agents
    loop: Measurements
    samples: list[NodeSample]

    def heard(self, node: str) -> int:
        return sum(each.node == node for each in self.samples)


@contextlib.asynccontextmanager
async def measured(*nodes: str, interval_s: float = 0.02, **more: object) -> AsyncGenerator[It]:
    agents, samples = Agents(list(nodes), **more), list[NodeSample]()  # type: ignore[arg-type]
    counted = serving(services=(service(metrics=MetricsSpec(port=9100, names=("jobs_*",))),))
    loop = Measurements(
        agents,
        samples.append,
        servings=lambda: {"shop": counted},
        snapshot=world,
        interval_s=interval_s,
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(loop.run())
        yield It(agents, loop, samples)
        running.cancel()


async def test_one_that_is_stuck_or_away_keeps_nobody_else_waiting() -> None:
    async with measured("n1", "n2", "n3", away={"n2"}, stuck={"n3"}) as it:
        await until(lambda: it.heard("n1") >= 5 and it.agents.asked["n2"] >= 5)
        assert (it.heard("n2"), it.heard("n3"), it.agents.asked["n3"]) == (0, 0, 1)
        assert list(it.loop.problems) == ["n2"]
        it.agents.away.clear()
        await until(lambda: it.heard("n2") >= 1)
        assert it.loop.problems == {}


async def test_nodes_that_join_are_asked_and_those_that_leave_no_more() -> None:
    async with measured("n1") as it:
        await until(lambda: it.heard("n1") >= 1)
        it.agents.nodes[:] = ["n2"]
        await until(lambda: it.heard("n2") >= 1)
        asked = it.agents.asked["n1"]
        await until(lambda: it.heard("n2") >= 5)
        assert it.agents.asked["n1"] <= asked + 1


async def test_an_agent_is_told_whom_of_its_node_to_scrape_and_reservations_are_added() -> None:
    async with measured("n1", "n2") as it:
        await until(lambda: it.heard("n1") >= 1 and it.heard("n2") >= 1)
        target = ScrapeTarget(task="shop_web-r1.1", port=9100, names=("jobs_*",))
        assert it.agents.orders["n1"].targets == (target,)
        assert it.agents.orders["n2"].targets == (replace(target, task="shop_web-r1.2"),)
        (used,) = it.samples[0].tasks
        assert (used.cpu_request_cores, used.memory_request_bytes) == (0.25, 64 << 20)


async def test_while_something_is_decided_by_it_it_is_asked_more_often() -> None:
    async with measured("n1", interval_s=60.0) as it:
        await until(lambda: it.heard("n1") == 1)
        it.loop.attend("shop", for_s=30.0)
        await until(lambda: it.heard("n1") >= 2, timeout_s=3.0)
