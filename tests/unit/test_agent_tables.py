"""Tables, marks, reports and drains of one agent, with a gateway in memory."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from hunqi.agent.drains import Drains
from hunqi.agent.reports import SLOW_S, Reports
from hunqi.agent.tables import Tables, merge
from hunqi.gateway.model import EndpointState, HeldService
from support_agent import WEB, MemoryGateway, running, table_of, text_of, until


def make(tmp_path: Path, gateway: MemoryGateway) -> tuple[Tables, Reports, Drains]:
    tables = Tables(gateway, tmp_path, clock=time.time)
    reports = Reports(gateway, tables, node="n1", monotonic=time.monotonic)
    return tables, reports, Drains(tables, reports)


def test_merge_marks_only_what_is_marked() -> None:
    merged = merge(table_of("a", "b"), {"b", "gone"}, number=9)
    states = {each.task: each.state for each in merged.clusters[WEB].endpoints}
    assert states == {"a": EndpointState.SERVING, "b": EndpointState.DRAINING}
    assert merged.version == 9


async def test_an_agent_that_starts_alone_serves_by_its_last_table_and_marks(tmp_path: Path) -> None:
    first = MemoryGateway()
    tables, _, _ = make(tmp_path, first)
    async with running(tables.run()):
        assert await tables.take(text_of(table_of("a", "b", version=5))) == 5
        await tables.mark(["b"], for_s=60)
        await until(lambda: first.draining() == {"b"})
    assert (tmp_path / "table.json").stat().st_mode & 0o777 == 0o600

    second = MemoryGateway()
    again, _, _ = make(tmp_path, second)
    again.load()
    async with running(again.run()):
        await until(lambda: second.draining() == {"b"})
    assert again.version == 5
    assert again.number > tables.number, "a number must never name two contents"


async def test_a_mark_outlives_the_next_table(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    tables, _, _ = make(tmp_path, gateway)
    async with running(tables.run()):
        await tables.take(text_of(table_of("a", "b")))
        await tables.mark(["a"], for_s=60)
        await tables.take(text_of(table_of("a", "b", "c", version=2)))
        await until(lambda: bool(gateway.applied) and len(gateway.applied[-1].clusters[WEB].endpoints) == 3)
    assert gateway.draining() == {"a"}


async def test_a_request_that_waits_for_a_service_at_zero_is_news_before_the_next_look(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    tables, reports, _ = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a")))
        await until(lambda: bool(gateway.applied))
        while not (last := await reports.wait(reports.seq, wait_s=0.3)).report.version:
            pass
        looks, began = gateway.looks, time.monotonic()
        gateway.hold(HeldService(app="shop", service="web"))
        found = await reports.wait(last.seq, wait_s=SLOW_S * 5)
        assert found.report.held == (HeldService(app="shop", service="web"),)
        assert gateway.looks == looks + 1 or time.monotonic() - began < SLOW_S


async def test_a_damaged_file_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_bytes(b'{"number": 3')
    (tmp_path / "marks.json").write_bytes(b"[]")
    tables, _, _ = make(tmp_path, MemoryGateway())
    tables.load()
    assert tables.version == 0


async def test_reports_are_in_controls_versions_and_come_with_each_change(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    tables, reports, _ = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a", version=41)))
        answer = await reports.wait("", wait_s=5)
        while answer.report.version != 41:
            answer = await reports.wait(answer.seq, wait_s=5)
        waiting = asyncio.create_task(reports.wait(answer.seq, wait_s=5))
        await asyncio.sleep(0.1)
        assert not waiting.done(), "nothing has changed"
        gateway.unhealthy.add("10.0.0.1")
        found = (await waiting).report
        assert [each.healthy for each in found.endpoints] == [False]


async def test_nobody_waits_nobody_asks(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    tables, reports, _ = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a")))
        await reports.wait("", wait_s=0.2)
        looks = gateway.looks
        await asyncio.sleep(1.3)
        assert gateway.looks <= looks + 1


async def test_a_drain_waits_for_what_is_open(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    gateway.open["10.0.0.2"] = 1
    tables, reports, drains = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a", "b")))
        draining = asyncio.create_task(drains.drain(["b"], timeout_s=10))
        await until(lambda: gateway.draining() == {"b"})
        await asyncio.sleep(0.3)
        assert not draining.done()
        gateway.open.clear()
        assert await draining == {}


async def test_a_drain_that_never_comes_idle_says_who_is_busy(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    gateway.open["10.0.0.2"] = 3
    tables, reports, drains = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a", "b")))
        assert await drains.drain(["a", "b"], timeout_s=0.8) == {"b": 3}
        assert gateway.draining() == {"a", "b"}


async def test_a_gateway_that_does_not_answer_is_not_taken_for_idle(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    tables, reports, drains = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a", "b")))
        await until(lambda: bool(gateway.applied))
        gateway.is_deaf = True
        assert "b" in await drains.drain(["b"], timeout_s=0.5)


async def test_a_gateway_that_does_not_run_has_nothing_open(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    gateway.is_running = False
    tables, reports, drains = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a", "b")))
        assert await drains.drain(["b"], timeout_s=5) == {}


async def test_a_gateway_that_is_not_found_yet_is_waited_for(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    gateway.is_running, gateway.problem = False, "it is being started"
    gateway.open["10.0.0.2"] = 1
    tables, reports, drains = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a", "b")))
        draining = asyncio.create_task(drains.drain(["b"], timeout_s=20))
        await asyncio.sleep(0.5)
        gateway.is_running = True  # it had served all the time
        await asyncio.sleep(0.5)
        assert not draining.done()
        gateway.open.clear()
        assert await draining == {}


async def test_the_last_healthy_endpoint_stays_until_another_serves(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    gateway.unhealthy.add("10.0.0.2")
    tables, reports, drains = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a", "b")))
        draining = asyncio.create_task(drains.drain(["a"], timeout_s=20))
        await asyncio.sleep(0.5)
        assert gateway.draining() == set()
        gateway.unhealthy.clear()
        assert await draining == {}
        assert gateway.draining() == {"a"}


async def test_the_last_endpoint_leaves_in_the_end_though_nobody_follows(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    tables, reports, drains = make(tmp_path, gateway)
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(table_of("a")))
        assert await drains.drain(["a"], timeout_s=1.0) == {}
        assert gateway.draining() == {"a"}


async def test_a_service_that_gets_no_traffic_is_not_waited_for(tmp_path: Path) -> None:
    gateway = MemoryGateway()
    tables, reports, drains = make(tmp_path, gateway)
    bare = table_of("a")
    async with running(tables.run(), reports.run()):
        await tables.take(text_of(type(bare)(version=1, edge=bare.edge, clusters=bare.clusters, routes=())))
        began = time.monotonic()
        assert await drains.drain(["a"], timeout_s=20) == {}
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("tasks", [["unknown"], []])
async def test_tasks_that_no_gateway_knows_are_idle(tmp_path: Path, tasks: list[str]) -> None:
    tables, reports, drains = make(tmp_path, MemoryGateway())
    async with running(tables.run(), reports.run()):
        assert await drains.drain(tasks, timeout_s=5) == {}
