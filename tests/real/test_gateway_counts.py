"""What the real Envoy counts: each request once, by the answer that its client got, with its latency on our grid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from hunqi.gateway.counting import Counted, Ledger
from hunqi.gateway.model import Mirror, Target
from hunqi.telemetry.histogram import Histogram, bucket_of
from testbed.gateway import Gateway, backend, cluster, gateway, holding, route, table

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("gateway")]
STAT = "shop_web-r1_8080"
LATENCIES_MS = (20, 60, 250)


@pytest.fixture
async def envoy_at(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def ask(client: aiohttp.ClientSession, gateway: Gateway, path: str, host: str = "shop.test") -> int:
    async with client.get(gateway.url(path), headers={"host": host}) as answer:
        await answer.read()
        return answer.status


async def counted(gateway: Gateway, stat: str, requests: int, latencies: int) -> Counted:
    """Return the counts once there are so many; histograms come a flush later."""
    deadline = time.monotonic() + 10
    while True:
        found = (await gateway.admin.counts()).clusters.get(stat, Counted())
        if (found.requests, sum(found.latency.values())) == (requests, latencies):
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{stat}: {found}")
        await asyncio.sleep(0.1)


async def test_requests_are_counted_once_by_their_answer(envoy_at: Gateway, client: aiohttp.ClientSession) -> None:
    async with backend() as task:
        await envoy_at.apply(table(cluster(task), routes=(route(),)))
        await envoy_at.healthy(1)
        for path, count in (("/x", 20), ("/status/404", 3), ("/status/500", 2)):
            for _ in range(count):
                await ask(client, envoy_at, path)
        assert await ask(client, envoy_at, "/cut") == 503, "tried again, in vain"
        async with client.ws_connect(envoy_at.url("/socket"), headers={"host": "shop.test"}) as socket:
            await socket.send_str("x")
            await socket.receive()
        assert await ask(client, envoy_at, "/x", "other.test") == 404, "of no cluster"
        found = await counted(envoy_at, STAT, 27, 25)
        assert found.classes == {1: 1, 2: 20, 4: 3, 5: 3}


async def test_a_request_that_was_held_is_counted_once_with_the_time_that_it_waited(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend(healthy=False) as task, backend("new") as new:
        beside = cluster(new, name="shop_web-r2:8080", hold_s=0.0)
        wanted = table(cluster(task, hold_s=10.0), beside, routes=(route(),))
        await envoy_at.apply(wanted)
        async with holding(envoy_at, wanted) as holds, asyncio.TaskGroup() as group:
            sent = [group.create_task(ask(client, envoy_at, "/x")) for _ in range(3)]
            while holds.held < 3:
                await asyncio.sleep(0.01)
            (told,) = holds.counts()
            assert (told.app, told.service, told.waiting, told.since_start) == ("shop", "web", 3, 3)
            await asyncio.sleep(0.5)
            task.healthy = True
            assert [await each for each in sent] == [200] * 3
        (told,) = holds.counts()
        assert (told.waiting, told.since_start) == (0, 3)
        found = await counted(envoy_at, STAT, 3, 3)
        assert found.classes == {2: 3}
        assert all(bucket_of(400.0) < each < bucket_of(5000.0) for each in found.latency)


async def test_without_a_task_the_gateways_own_503_is_counted(envoy_at: Gateway, client: aiohttp.ClientSession) -> None:
    nobody = route("shop.test", Target(cluster="shop_web-r1:8080"))
    await envoy_at.apply(table(cluster(), routes=(nobody,)))
    assert await ask(client, envoy_at, "/x") == 503
    found = await counted(envoy_at, STAT, 1, 0)
    assert found.classes == {5: 1}


async def test_copies_count_where_they_went_and_silence_as_5xx(
    envoy_at: Gateway, client: aiohttp.ClientSession
) -> None:
    async with backend() as task, backend("new") as new:
        copied = Mirror(lane="r2", share=10_000, targets=(Target(cluster="shop_web-r2:8080"),))
        both = (cluster(task), cluster(new, name="shop_web-r2:8080"))
        await envoy_at.apply(table(*both, routes=(replace(route(timeout_s=0.3, retries=0), mirror=copied),)))
        await envoy_at.healthy(1)
        await envoy_at.healthy(1, name="shop_web-r2:8080")
        for _ in range(10):
            assert await ask(client, envoy_at, "/x") == 200
        assert await ask(client, envoy_at, "/wait") == 504
        task.release.set()
        new.release.set()
        assert (await counted(envoy_at, STAT, 11, 10)).classes == {2: 10, 5: 1}
        copies = await counted(envoy_at, "shop_web-r2_8080", 11, 10)
        assert copies.classes[2] == 10


async def test_latencies_are_known_to_within_a_bucket(envoy_at: Gateway, client: aiohttp.ClientSession) -> None:
    async with backend() as task:
        await envoy_at.apply(table(cluster(task), routes=(route(),)))
        await envoy_at.healthy(1)
        for wait_ms in LATENCIES_MS:
            await asyncio.gather(*(ask(client, envoy_at, f"/sleep/{wait_ms}") for _ in range(4)))
        found = await counted(envoy_at, STAT, 12, 12)
        logged = [float(str(line["duration_ms"])) + 0.5 for line in envoy_at.log() if line["host"] == "shop.test"]
        assert len(logged) == 12, "the access log is the other account of the same"
        ours, theirs = Histogram(found.latency), Histogram.of(logged)
        for quantile in (0.1, 0.5, 0.9):
            mine, other = ours.quantile_bucket(quantile), theirs.quantile_bucket(quantile)
            assert mine is not None
            assert other is not None
            assert abs(mine - other) <= 2


async def test_two_envoys_side_by_side_and_the_end_of_one_lose_no_count(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    ledger = Ledger(time.monotonic)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with backend() as task:
        wanted = table(cluster(task), routes=(route(),))
        ledger.name(wanted)
        async with gateway(tmp_path / "a") as old:
            await old.apply(wanted)
            await old.healthy(1)
            for _ in range(5):
                await ask(client, old, "/x")
            ledger.take("a", await old.admin.counts())
            async with gateway(tmp_path / "b") as new:
                await new.apply(wanted)
                await new.healthy(1)
                for _ in range(3):
                    await ask(client, new, "/x")
                    await ask(client, old, "/x")
                ledger.take("a", await old.admin.counts())
                ledger.take("b", await new.admin.counts())
        (told,) = ledger.counts()
        assert (told.backend, told.port, told.requests, dict(told.classes)) == ("shop_web-r1", 8080, 11, {2: 11})
