"""Measure what telemetry costs control: 50 services of 3 tasks behind 3 gateways, an hour in memory, with the history.

The hour is replayed as fast as it goes, and the CPU time that it took is set against an hour. ``python -m
tools.bench_telemetry`` prints what ``docs/benchmarks.md`` has; options: ``--services``, ``--minutes``, ``--interval``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import resource
import tempfile
import time
from pathlib import Path

from hunqi.kit.memory import give_back, keep_one_arena
from hunqi.telemetry.histogram import Histogram, bucket_of
from hunqi.telemetry.history import History
from hunqi.telemetry.live import Live
from hunqi.telemetry.model import Subject
from hunqi.telemetry.operations import MetricQuery
from hunqi.telemetry.queries import Queries
from hunqi.telemetry.wire import ClusterCounts, CustomValue, HeldCounts, NodeSample, TaskCounts

NODES = ("a", "b", "c")
TASKS = 3


class Load:
    """Counts of the nodes, which grow."""

    def __init__(self, services: int) -> None:
        self._random = random.Random(7)
        self._counts = {(node, number): [0, {}] for node in NODES for number in range(services)}
        self._services = services
        self._buckets = [bucket_of(self._random.lognormvariate(3, 0.7)) for _ in range(10_000)]

    def sample(self, node: str, at: float, elapsed_s: float) -> NodeSample:
        """Return a node's sample: 20 requests/s to each service at each gateway, latencies log-normal about 20 ms."""
        clusters = tuple(self._cluster(node, number, elapsed_s) for number in range(self._services))
        tasks = tuple(
            TaskCounts(
                task=f"{number:03}{node}" + "x" * 21, app=f"app{number // 5}", service=f"s{number % 5}", revision=1,
                cpu_s=at / 10, memory_bytes=100_000_000 + int(at) % 1000, cpu_limit_cores=1.0,
            )
            for number in range(self._services)
        )  # fmt: skip
        custom = tuple(
            CustomValue(
                task=f"{number:03}{node}" + "x" * 21, app=f"app{number // 5}", service=f"s{number % 5}", revision=1,
                metric="jobs_total", value=at, grows=True,
            )
            for number in range(0, self._services, 5)
        )  # fmt: skip
        held = tuple(HeldCounts(app=each.app, service=each.service, waiting=0) for each in clusters)
        return NodeSample(
            node=node, at=at, boot="1", gateway=True, clusters=clusters, tasks=tasks, custom=custom, held=held
        )

    def _cluster(self, node: str, number: int, elapsed_s: float) -> ClusterCounts:
        counts = self._counts[node, number]
        for bucket in self._random.choices(self._buckets, k=round(20 * elapsed_s)):
            counts[0] += 1
            counts[1][bucket] = counts[1].get(bucket, 0) + 1
        app, service = f"app{number // 5}", f"s{number % 5}"
        return ClusterCounts(
            backend=f"{app}_{service}-r1", app=app, service=service, revision=1, port=80, requests=counts[0],
            classes={2: counts[0]}, latency=Histogram(dict(counts[1])), active=3,
        )  # fmt: skip


def memory_mb() -> float:
    """Return this process' own memory, in MB: its anonymous pages."""
    gc.collect()
    give_back()
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    """Return CPU time that was used."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


async def measure(services: int, minutes: int, interval_s: float) -> None:
    """Replay and print."""
    clock = [time.time() - minutes * 60]
    live, load = Live(lambda: NODES, clock=lambda: clock[0]), Load(services)
    with tempfile.TemporaryDirectory() as directory:
        history = History(Path(directory), live, clock=lambda: clock[0])
        await history.begin()
        before, took, wrote, tidied, slowest = memory_mb(), 0.0, 0.0, cpu_s(resource.RUSAGE_CHILDREN), 0.0
        for turn in range(round(minutes * 60 / interval_s)):
            clock[0] += interval_s
            for node in NODES:
                sample = load.sample(node, clock[0], interval_s)
                started = time.process_time()
                live.record(sample)
                took += time.process_time() - started
            if turn % round(20 / interval_s) == 0:
                started = cpu_s()
                await history.write()
                wrote += cpu_s() - started
                began = time.monotonic()
                await history.tidy()
                slowest = max(slowest, time.monotonic() - began)
        tidied = cpu_s(resource.RUSAGE_CHILDREN) - tidied
        load = Load(1)
        held = memory_mb() - before
        size = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        seconds = minutes * 60
        print(f"{services} services x {TASKS} tasks, {len(NODES)} gateways, every {interval_s:g} s, {minutes} min")
        print(f"memory of control for it         {held:8.1f} MB")
        print(f"memory of DuckDB's process, peak {peak:8.1f} MB, at most {slowest:.1f} s long")
        for name, used in (("taking samples in", took), ("writing", wrote), ("DuckDB's process", tidied)):
            print(f"{name:32} {100 * used / seconds:8.2f} % of a core")
        print(f"on disk                          {size / 2**20:8.1f} MB")
        read_live(live, clock[0], services)
        await ask(live, history, clock)


def read_live(live: Live, now: float, services: int) -> None:
    """Time what scaling and analysis ask for."""
    started = time.perf_counter()
    for number in range(services):
        subject = Subject(app=f"app{number // 5}", service=f"s{number % 5}")
        live.traffic(subject, start=now - 60, end=now)
        live.usage(subject, start=now - 60, end=now)
    print(f"a minute's traffic and usage     {(time.perf_counter() - started) * 1000:8.1f} ms for all services")


async def ask(live: Live, history: History, clock: list[float]) -> None:
    """Time questions of people."""
    asked = Queries(live, history, clock=lambda: clock[0])
    began = (live.rounds.began or 0.0) + 60
    empty = Queries(Live(lambda: NODES), history, clock=lambda: clock[0])
    for name, queries in (("memory", asked), ("disk", empty)):
        started = time.perf_counter()
        await queries.query("app1", MetricQuery(measure="p99", since=began, by="service"))
        print(f"p99 of an app, all of it, {name:6} {(time.perf_counter() - started) * 1000:8.1f} ms")
    started = cpu_s()
    again = Live(lambda: NODES, clock=lambda: clock[0])
    wall = time.perf_counter()
    await History(history.root, again, clock=lambda: clock[0]).begin()
    spent, wall = cpu_s() - started, time.perf_counter() - wall
    print(f"reading it back at a start       {spent:8.1f} s of CPU in control, {wall:.1f} s in all")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--services", type=int, default=50)
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--interval", type=float, default=5.0)
    given = parser.parse_args()
    keep_one_arena()
    asyncio.run(measure(given.services, given.minutes, given.interval))


if __name__ == "__main__":
    main()
