"""Telemetry of a control process: what is measured, in memory and on disk, while this process leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hunqi.apps.serving import Serving
from hunqi.control.measuring import Measurements, MeasuringAgents
from hunqi.control.metric_sources import MetricSources
from hunqi.engine.model import Snapshot
from hunqi.state.database import Database
from hunqi.state.sealing import Sealer
from hunqi.telemetry.history import History
from hunqi.telemetry.live import Live
from hunqi.telemetry.operations import TelemetryOperations
from hunqi.telemetry.queries import Queries
from hunqi.telemetry.settings import TelemetrySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All of it. ``measurements`` and ``history`` run where this process leads."""

    live: Live
    measurements: Measurements
    history: History
    sources: MetricSources
    operations: TelemetryOperations


def build_telemetry(
    directory: Path,
    database: Database,
    sealer: Sealer,
    session: aiohttp.ClientSession,
    *,
    agents: MeasuringAgents,
    servings: Callable[[], Mapping[str, Serving]],
    snapshot: Callable[[], Snapshot | None],
    settings: TelemetrySettings,
) -> Measured:
    """Make it; nothing runs yet. ``database`` is fenced; ``servings`` and ``snapshot`` are as of now."""
    live = Live(lambda: agents.nodes, limits=settings.live)
    measurements = Measurements(agents, live.record, servings=servings, snapshot=snapshot)
    history = History(directory, live, limits=settings.history)
    sources = MetricSources(database, sealer, lambda: session)
    operations = TelemetryOperations(metrics=Queries(live, history), sources=sources)
    return Measured(live=live, measurements=measurements, history=history, sources=sources, operations=operations)
