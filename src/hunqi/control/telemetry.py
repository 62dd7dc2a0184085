"""Telemetry of a control process: what is measured, in memory and on disk, while this process leads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hunqi.control.metric_sources import MetricSources
from hunqi.state.database import Database
from hunqi.state.sealing import Sealer
from hunqi.telemetry.history import History
from hunqi.telemetry.live import Live
from hunqi.telemetry.operations import TelemetryOperations
from hunqi.telemetry.queries import Queries
from hunqi.telemetry.settings import TelemetrySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All of it. Whoever hears the nodes gives their samples to ``live``."""

    live: Live
    history: History
    sources: MetricSources
    operations: TelemetryOperations


def build_telemetry(
    directory: Path,
    database: Database,
    sealer: Sealer,
    session: aiohttp.ClientSession,
    *,
    expected: Callable[[], Collection[str]],
    settings: TelemetrySettings | None = None,
) -> Measured:
    """Make it; nothing runs yet. ``expected`` says which nodes' agents are to be heard, ``database`` is fenced."""
    chosen = settings or TelemetrySettings()
    live = Live(expected, limits=chosen.live)
    history = History(directory, live, limits=chosen.history)
    sources = MetricSources(database, sealer, lambda: session)
    operations = TelemetryOperations(metrics=Queries(live, history), sources=sources)
    return Measured(live=live, history=history, sources=sources, operations=operations)
