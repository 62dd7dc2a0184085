"""What the gateway adds to a request's time: the same requests straight to a task and through Envoy, in turns.

The gateway is the pinned Envoy with the files that the platform renders, its access log and its health checks on. It,
the task and the load are processes of one machine over loopback, so that nothing but the gateway is added.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tools.bench.model import BenchError, Row, Samples, spread_text
from tools.bench_cluster.session import Session

from hunqi.apps.model import HealthSpec
from testbed.app import binary
from testbed.gateway import Gateway, cluster, gateway, route, table
from testbed.load import Load, Report, load
from testbed.programs import Daemon, accepts, free_port

_RATE: Final = 1000.0
_SECONDS: Final = 10.0
_P50_MS: Final = 0.5
_P99_MS: Final = 3.0
_HOST: Final = "shop.test"


def measure(session: Session) -> Iterator[Row]:
    """Yield the rows of added latency."""
    found = Samples()
    with _task(session.folder("added")) as port:
        asyncio.run(_through(session, port, found))
    for percent, bar in ((50, _P50_MS), (99, _P99_MS)):
        direct, through = found.of(f"direct {percent}"), found.of(f"gateway {percent}")
        added = [mine - theirs for mine, theirs in zip(through, direct, strict=True)]
        yield Row(
            name=f"the gateway's added latency at 1,000 requests/s, {'p50' if percent == 50 else 'p99'}",
            value=statistics.median(added),
            bar=bar,
            unit="ms",
            figures=(
                f"{spread_text(added)}: {found.text(f'gateway {percent}')} through it, "
                f"{found.text(f'direct {percent}')} straight to the task"
            ),
        )


async def _through(session: Session, port: int, found: Samples) -> None:
    folder = session.folder("added") / "envoy"
    async with gateway(folder) as running:
        await _route(running, port)
        ways = {"direct": port, "gateway": running.place.http_port}
        for number in range(session.rounds):
            names = list(ways) if number % 2 == 0 else list(reversed(ways))
            for name in names:
                session.say(f"added latency: round {number + 1} of {session.rounds}, {name}")
                report = await asyncio.to_thread(_load, ways[name])
                found.add(f"{name} 50", report.latency_ms(50))
                found.add(f"{name} 99", report.latency_ms(99))


async def _route(running: Gateway, port: int) -> None:
    from hunqi.gateway.model import Endpoint

    task = Endpoint(address="127.0.0.1", port=port, task="t1", node="n1")
    wanted = table(cluster(task, health=HealthSpec(path="/health")), routes=(route(_HOST),))
    await running.apply(wanted)
    await running.healthy(1)


def _load(port: int) -> Report:
    spec = Load(targets=(("127.0.0.1", port),), host=_HOST, rate=_RATE, duration_s=_SECONDS, fresh=0.1)
    with load(spec) as running:
        report = running.wait(timeout_s=_SECONDS + 30.0)
    if report.failures:
        raise BenchError(f"requests failed: {report.summary()}\n{report.listed()}")
    return report


@contextmanager
def _task(folder: Path) -> Generator[int]:
    port = free_port()
    daemon = Daemon([str(binary())], log=folder / "task.log", env={"PORT": str(port), "TASK": "t1"})
    try:
        daemon.wait_until(lambda: accepts("127.0.0.1", port), timeout_s=5.0)
        yield port
    finally:
        daemon.stop()
