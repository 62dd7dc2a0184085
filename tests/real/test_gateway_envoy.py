"""The gateway's resources, taken in by the real Envoy and tried with requests."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hunqi.apps.model import HealthSpec
from hunqi.gateway.admin import Host
from hunqi.gateway.model import Edge, EndpointState, Target
from testbed.gateway import Gateway, backend, cluster, gateway, holding, route, table

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("gateway")]


@pytest.fixture
async def envoy_at(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def test_a_request_reaches_a_healthy_task(envoy_at: Gateway, client: aiohttp.ClientSession) -> None:
    async with backend() as task:
        await envoy_at.apply(table(cluster(task), routes=(route(),)))
        await envoy_at.healthy(1)
        async with client.get(envoy_at.url("/x?y=1"), headers={"host": "shop.test"}) as answer:
            assert answer.status == 200
            assert (await answer.json())["path"] == "/x?y=1"
        async with client.get(envoy_at.url("/x"), headers={"host": "other.test"}) as answer:
            assert (answer.status, await answer.text()) == (404, "")


async def test_a_request_waits_for_a_healthy_task_and_is_sent_once(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend(healthy=False) as task:
        wanted = table(cluster(task, hold_s=10.0), routes=(route(),))
        await envoy_at.apply(wanted)
        async with holding(envoy_at, wanted) as holds, asyncio.TaskGroup() as group:
            sent = group.create_task(post(client, envoy_at, b"x" * 5_000_000))
            await until(lambda: holds.held == 1)
            assert task.requests == []
            task.healthy = True
            answer = await sent
        assert answer["body_bytes"] == 5_000_000
        assert task.requests == ["POST /upload"]
        assert answer["headers"]["x-hunqi-held"] == "1"
        assert "x-hunqi-hold" not in answer["headers"]


async def test_a_held_request_goes_to_the_revision_that_has_taken_over(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend("old", healthy=False) as old, backend("new") as new:
        wanted = table(cluster(old, hold_s=10.0), routes=(route(),))
        await envoy_at.apply(wanted)
        async with holding(envoy_at, wanted) as holds, asyncio.TaskGroup() as group:
            sent = group.create_task(post(client, envoy_at, b"x"))
            await until(lambda: holds.held == 1)
            name = "shop_web-r2:8080"
            swapped = table(cluster(new, name=name, hold_s=10.0), routes=(route("shop.test", Target(cluster=name)),))
            await holds.update(swapped)
            await envoy_at.apply(swapped)
            assert (await sent)["task"] == "new"


async def test_what_waits_too_long_or_in_too_great_a_number_is_refused(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend(healthy=False) as task:
        edge = Edge(max_held=3)
        wanted = table(cluster(task, hold_s=1.0), routes=(route(),), edge=edge)
        await envoy_at.apply(wanted)
        async with holding(envoy_at, wanted):
            began = time.monotonic()
            statuses = await many(client, envoy_at, 10)
        assert statuses == [503] * 10
        assert 0.9 < time.monotonic() - began < 5
        assert task.requests == []


async def test_a_service_without_any_target_has_its_requests_held(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend() as task:
        nobody = replace(route(), targets=())
        await envoy_at.apply(table(routes=(nobody,)))
        async with holding(envoy_at, table(routes=(nobody,))) as holds, asyncio.TaskGroup() as group:
            sent = group.create_task(post(client, envoy_at, b"x"))
            await until(lambda: holds.held == 1)
            wanted = table(cluster(task, hold_s=5.0), routes=(route(),))
            await holds.update(wanted)
            await envoy_at.apply(wanted)
            assert (await sent)["task"] == "t1"


async def test_without_the_agent_a_request_waits_a_while_all_the_same(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend(healthy=False) as task:
        await envoy_at.apply(table(cluster(task, hold_s=10.0), routes=(route(),)))
        async with asyncio.TaskGroup() as group:
            sent = group.create_task(post(client, envoy_at, b"x" * 100_000))
            await asyncio.sleep(0.3)
            task.healthy = True
            answer = await sent
        assert answer["body_bytes"] == 100_000
        assert task.requests == ["POST /upload"]


async def test_a_task_that_is_killed_costs_no_request(envoy_at: Gateway, client: aiohttp.ClientSession) -> None:
    """Nothing is sent to it after the first failed connections; all methods may go elsewhere, as nothing was sent."""
    async with backend("one") as one, backend("two") as two:
        slow = HealthSpec(path="/healthz", interval_s=30.0, timeout_s=1.0)
        wanted = table(cluster(one, two, hold_s=10.0, health=slow), routes=(route(),))
        await envoy_at.apply(wanted)
        await envoy_at.healthy(2)
        async with holding(envoy_at, wanted):
            await two.stop()
            statuses = [await status(client, envoy_at, "POST") for _ in range(100)]
        assert set(statuses) == {200}
        assert len(one.requests) == 100


async def test_the_only_task_may_start_anew_without_a_failed_request(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend("one") as one:
        wanted = table(cluster(one, hold_s=10.0), routes=(route(),))
        await envoy_at.apply(wanted)
        await envoy_at.healthy(1)
        async with holding(envoy_at, wanted), asyncio.TaskGroup() as group:
            stream = group.create_task(steady(client, envoy_at, seconds=3.0))
            await asyncio.sleep(0.5)
            await one.stop()
            await asyncio.sleep(1.0)
            await one.start()
            statuses = await stream
        assert set(statuses) == {200}


async def status(client: aiohttp.ClientSession, at: Gateway, method: str = "GET", path: str = "/") -> int:
    async with client.request(method, at.url(path), headers={"host": "shop.test"}) as answer:
        await answer.read()
        return answer.status


async def many(client: aiohttp.ClientSession, at: Gateway, count: int, path: str = "/") -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(status(client, at, path=path)) for _ in range(count)]
    return [each.result() for each in tasks]


async def steady(client: aiohttp.ClientSession, at: Gateway, *, seconds: float) -> list[int]:
    """One request every 10 ms, whether the ones before have been answered or not."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[int]] = []
        for _ in range(int(seconds * 100)):
            tasks.append(group.create_task(status(client, at)))
            await asyncio.sleep(0.01)
    return [each.result() for each in tasks]


async def post(client: aiohttp.ClientSession, at: Gateway, body: bytes) -> dict[str, Any]:
    async with client.post(at.url("/upload"), data=io.BytesIO(body), headers={"host": "shop.test"}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_draining_task_finishes_what_it_has_and_gets_nothing_new(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend("one") as one, backend("two") as two:
        wanted = table(cluster(one, two), routes=(route(),))
        await envoy_at.apply(wanted)
        await envoy_at.healthy(2)
        async with asyncio.TaskGroup() as group:
            slow = [group.create_task(status(client, envoy_at, path="/wait")) for _ in range(8)]
            await until(lambda: one.started.is_set() and two.started.is_set())
            await until(lambda: len(one.requests) + len(two.requests) == 8)
            draining = cluster(one.endpoint(state=EndpointState.DRAINING), two)
            await envoy_at.apply(table(draining, routes=(route(),), version=2))
            had = len(one.requests)
            assert set(await many(client, envoy_at, 50, path="/new")) == {200}
            assert len(one.requests) == had
            found = await host(envoy_at, one.port)
            assert (found.draining, found.healthy, found.active_requests) == (True, True, had)
            one.release.set()
            two.release.set()
        assert [each.result() for each in slow] == [200] * 8
        assert (await host(envoy_at, one.port)).active_requests == 0
        await envoy_at.apply(table(cluster(two), routes=(route(),), version=3))
        assert [each.port for each in (await envoy_at.admin.clusters()).hosts] == [two.port]


async def test_a_websocket_lives_through_the_drain_of_its_task(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend("one") as one, backend("two") as two:
        await envoy_at.apply(table(cluster(one), routes=(route(),)))
        await envoy_at.healthy(1)
        async with client.ws_connect(envoy_at.url("/socket"), headers={"host": "shop.test"}) as channel:
            await channel.send_str("a")
            assert await channel.receive_str() == "one: a"
            draining = cluster(one.endpoint(state=EndpointState.DRAINING), two)
            await envoy_at.apply(table(draining, routes=(route(),), version=2))
            await asyncio.sleep(1.0)
            await channel.send_str("b")
            assert await channel.receive_str() == "one: b"
            assert (await host(envoy_at, one.port)).active_requests == 1


async def test_nothing_that_a_task_may_have_seen_is_sent_twice_unless_it_is_safe(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend("one") as one, backend("two") as two:
        await envoy_at.apply(table(cluster(one, two), routes=(route(),)))
        await envoy_at.healthy(2)
        assert await status(client, envoy_at, "POST", "/cut") == 503
        assert len(one.requests) + len(two.requests) == 1
        assert await status(client, envoy_at, "GET", "/cut") == 503
        seen = [*one.requests, *two.requests]
        assert seen.count("POST /cut") == 1
        assert seen.count("GET /cut") > 2


async def host(at: Gateway, port: int) -> Host:
    return next(each for each in (await at.admin.clusters()).hosts if each.port == port)
