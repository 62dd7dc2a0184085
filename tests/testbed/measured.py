"""Telemetry of the API's tests: the real room in memory, fed with samples; nothing on disk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from hunqi.control.metric_sources import MetricSources
from hunqi.state.database import Database
from hunqi.state.sealing import Sealer
from hunqi.telemetry.histogram import Histogram
from hunqi.telemetry.live import Live
from hunqi.telemetry.operations import TelemetryOperations
from hunqi.telemetry.queries import Queries
from hunqi.telemetry.wire import ClusterCounts, HeldCounts, NodeSample, TaskCounts

NODE = "node1"


@dataclass
class MemoryTelemetry:
    """``live`` is what was measured, ``asked`` the questions that went to the history."""

    live: Live = field(default_factory=lambda: Live(lambda: (NODE,)))
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    session: aiohttp.ClientSession | None = None

    def operations(self, database: Database) -> TelemetryOperations:
        """Return the ports."""
        sources = MetricSources(database, Sealer(b"k" * 32), self._opened)
        return TelemetryOperations(metrics=Queries(self.live, self), sources=sources)

    async def bins(self, question: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Answer for the history: it has nothing."""
        self.asked.append(question)
        return []

    def measure(self, *apps: str, rounds: int = 4, requests: int = 50, errors: int = 5) -> None:
        """Have some samples of a node, in which each app's ``web`` got requests."""
        now = time.time()
        clock, self.live._clock = self.live._clock, lambda: now  # the past has to be made
        try:
            for turn in range(rounds):
                now = time.time() - 5 * (rounds - 1 - turn) - 0.5
                self.live.record(_sample(now, apps, turn * requests, turn * errors, turn * 1.0))
        finally:
            self.live._clock = clock

    def _opened(self) -> aiohttp.ClientSession:
        assert self.session is not None
        return self.session


@contextlib.asynccontextmanager
async def open_session() -> AsyncGenerator[aiohttp.ClientSession]:
    """Open a session for sources."""
    async with aiohttp.ClientSession() as session:
        yield session


def _sample(now: float, apps: Sequence[str], requests: int, errors: int, cpu_s: float) -> NodeSample:
    return NodeSample(
        node=NODE,
        at=now,
        boot="envoy-1",
        gateway=True,
        clusters=tuple(
            ClusterCounts(
                backend=f"{app}_web-r1", app=app, service="web", revision=1, port=80, requests=requests,
                classes={2: requests - errors, 5: errors}, latency=Histogram({60: requests}), active=2,
            )
            for app in apps
        ),
        held=tuple(HeldCounts(app=app, service="web", waiting=3) for app in apps),
        tasks=tuple(
            TaskCounts(task=f"{app}-task", app=app, service="web", revision=1, cpu_s=cpu_s, memory_bytes=2**20)
            for app in apps
        ),
    )  # fmt: skip
