"""An agent with its real gateway on a real Docker: scaling loses nothing, and apps end in their own time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from hunqi.engine.client import Docker
from hunqi.nodes.wire import RequestQuery, ScrapeOrder, ScrapeTarget
from hunqi.telemetry.histogram import Histogram, upper_ms
from hunqi.telemetry.wire import ClusterCounts, NodeSample, TaskCounts
from support_agent import running, until
from support_agents import HOST, Load, World, world
from testbed.swarm import ONE_NODE, Bed

pytestmark = [pytest.mark.real, pytest.mark.slow, ONE_NODE]


async def test_scaling_up_and_down_under_load_loses_no_request(one_node: Bed, tmp_path: Path) -> None:
    async with world(one_node, tmp_path, app="load", replicas=2) as it:
        load = Load(urls=it.urls)
        async with running(load.run()):
            for replicas in (4, 1, 3, 2):
                await it.scale(replicas)
                await asyncio.sleep(1.0)
            # The drained ones need a second to stop; requests go on meanwhile.
            await asyncio.sleep(2.0)
        assert load.failures == []
        assert set(load.answers) == {200}
        assert len(load.answers) > 500


async def test_a_node_is_measured_and_its_app_gets_its_signal_with_its_sockets_open(
    one_node: Bed, tmp_path: Path
) -> None:
    async with world(one_node, tmp_path, app="sock", replicas=1) as it:
        await check_measured(it)
        await check_signal(it)


async def check_signal(it: World) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{it.urls[0]}/ws", headers={"Host": HOST}) as socket,
    ):
        await socket.send_str("hello")
        assert (await socket.receive(timeout=5)).data == "hello"
        (task,) = await it.docker.tasks.list(services=[it.backend])
        container = task.container_id or ""
        service = await it.docker.services.inspect(it.backend)
        spec = {**service.spec, "Mode": {"Replicated": {"Replicas": 0}}}
        await it.docker.services.update(service.id, service.version, spec)

        def log() -> str:
            return it.bed.first.docker("logs", container, check=False).stdout

        await until(lambda: "signal SIGURG" in log(), timeout_s=20)
        began = time.monotonic()
        await socket.send_str("still")
        assert (await socket.receive(timeout=5)).data == "still"
        closed = await socket.receive(timeout=40)
        assert closed.type is aiohttp.WSMsgType.CLOSE, "the app itself says goodbye"
        assert closed.data == 1001
        assert "signal SIGTERM sockets=1" in log()
        assert 10 < time.monotonic() - began < 25, "it had its drain time"


EXPOSED = """\
import asyncio
TEXT = b'# TYPE jobs counter\\njobs_total{queue="mail"} 7\\n# TYPE depth gauge\\ndepth 3\\nother 1\\n'
async def serve(reader, writer):
    await reader.readuntil(b'\\r\\n\\r\\n')
    writer.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s' % (len(TEXT), TEXT))
    await writer.drain()
    writer.close()
async def run():
    async with await asyncio.start_server(serve, '0.0.0.0', 9100) as server:
        await server.serve_forever()
asyncio.run(run())
"""
HELD_BYTES = 200_000_000
BURN = "while :; do :; done"
HOLD = f"held = b'x' * {HELD_BYTES}; import time; time.sleep(60)"


async def check_measured(it: World) -> None:
    """Whether what the node measures is what happens on it: requests, CPU, memory, what the app counts itself."""
    (node,) = it.client.nodes
    (task,) = await it.docker.tasks.list(services=[it.backend])
    container = task.container_id or ""
    order = ScrapeOrder(targets=(ScrapeTarget(task=task.id, port=9100, names=("jobs*", "depth")),))
    before = await it.client.measure(node, order)
    assert before.gateway
    assert [each for each in before.problems if "nothing takes connections at port 9100" in each]
    assert before.custom == ()
    idle = used(before, task.id)
    assert (idle.app, idle.service, idle.revision) == (it.app, "web", 1)

    for command in (("sh", "-c", BURN), ("python3", "-S", "-E", "-c", EXPOSED)):
        it.bed.first.docker("exec", "-d", container, *command)
    async with aiohttp.ClientSession() as session:
        sent = {"/": 30, "/status?code=404": 7, "/status?code=500": 3, "/wait?s=0.3": 5}
        for path, count in sent.items():
            for _ in range(count):
                async with session.get(f"{it.urls[0]}{path}", headers={"Host": HOST}) as answer:
                    await answer.read()

    async def once(wanted: Callable[[NodeSample], object]) -> NodeSample:
        async with asyncio.timeout(20):
            while not wanted(sample := await it.client.measure(node, order)):
                await asyncio.sleep(0.2)
            return sample

    sample = await once(lambda each: counts(each).latency.total == 45 and each.custom)
    assert counts(before).requests == 0
    told = counts(sample)
    assert (told.backend, told.port, told.revision) == (it.backend, 8080, 1)
    assert (told.requests, dict(told.classes)) == (45, {2: 35, 4: 7, 5: 3})
    slow = Histogram({bucket: count for bucket, count in told.latency.counts.items() if upper_ms(bucket) > 290})
    assert slow.total >= 5, "those that waited 300 ms"
    assert told.latency.quantile_ms(0.999) is not None
    assert {(each.metric, each.labels, each.value, each.grows) for each in sample.custom} == {
        ("jobs_total", 'queue="mail"', 7.0, True),
        ("depth", "", 3.0, False),
    }
    logged = await it.client.requests(node, RequestQuery(app=it.app, status="5xx", limit=10))
    assert [(each.status, each.service, each.task, each.path) for each in logged.lines] == [
        (500, "web", task.id, "/status?code=***")
    ] * 3
    before_bytes = used(sample, task.id).memory_bytes
    it.bed.first.docker("exec", "-d", container, "python3", "-S", "-E", "-c", HOLD)
    sample = await once(lambda each: used(each, task.id).memory_bytes > before_bytes + 0.9 * HELD_BYTES)
    assert used(sample, task.id).memory_bytes < before_bytes + 1.1 * HELD_BYTES
    first = await engine_cpu_s(it.docker, container)
    begun, one = time.monotonic(), used(await it.client.measure(node, ScrapeOrder()), task.id)
    await asyncio.sleep(1.5)
    two, spent_s = used(await it.client.measure(node, ScrapeOrder()), task.id), time.monotonic() - begun
    last = await engine_cpu_s(it.docker, container)
    assert first <= one.cpu_s <= two.cpu_s <= last, "as Docker itself reads it"
    assert 0.2 < (two.cpu_s - one.cpu_s) / spent_s < 1.3, "one that burns all it gets"
    it.bed.first.docker("exec", container, "sh", "-c", "kill -9 -1", check=False)


def counts(sample: NodeSample) -> ClusterCounts:
    (only,) = sample.clusters
    return only


def used(sample: NodeSample, task: str) -> TaskCounts:
    return next(each for each in sample.tasks if each.task == task)


async def engine_cpu_s(docker: Docker, container: str) -> float:
    stats = await docker.containers.stats(container)
    return stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
