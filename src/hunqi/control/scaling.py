"""Elastic scaling of a control process: its parts, and history as its foresight reads it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hunqi.apps.build import Apps
from hunqi.control.telemetry import Measured
from hunqi.gateway.publisher import Publisher
from hunqi.scaling.autoscaling import AppAutoscaling
from hunqi.scaling.controller import Parts, Scaler
from hunqi.scaling.foresight import Foresight
from hunqi.scaling.ports import Cluster
from hunqi.scaling.store import ScalingStore
from hunqi.state.database import Database
from hunqi.telemetry.errors import NotMeasuredError
from hunqi.telemetry.model import Point, Subject
from hunqi.telemetry.operations import MetricQuery, Metrics

_MINUTE_S: Final = 60
_COARSE_S: Final = 600
_FINE_S: Final = 7 * 86_400
"""So far back there is a value for each minute; older ones are of ten."""
_MOST_STEPS: Final = 1900
"""Of one question; a little less than telemetry answers at once."""
_MOST_SERVICES: Final = 100
_MEASURES: Final = {"rps": "rps", "concurrency": "active", "cpu": "cpu"}


class PastLoads:
    """Load by the minute (the port ``Past``): read once from the history, then only what is new."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._known: dict[tuple[Subject, str], dict[int, float]] = {}

    async def load(self, subject: Subject, measure: str, *, start: float, end: float) -> Sequence[Point]:
        """Return a point a minute. Raises ``NotMeasuredError``, ``HistoryError``."""
        key = (subject, measure)
        if key not in self._known and len(self._known) >= _MOST_SERVICES:
            raise NotMeasuredError(f"the load of at most {_MOST_SERVICES} services is foretold")
        known = self._known.setdefault(key, {})
        first, last = int(start // _MINUTE_S), int(end // _MINUTE_S)
        since = max(max(known, default=first), first)
        fine = max(since, last - _FINE_S // _MINUTE_S)
        if since < fine:
            for point in await self._read(subject, measure, since, fine, _COARSE_S):
                known.update(
                    dict.fromkeys(range(int(point.at // _MINUTE_S), int(point.at // _MINUTE_S) + 10), point.value)
                )
        for point in await self._read(subject, measure, fine, last, _MINUTE_S):
            known[int(point.at // _MINUTE_S)] = point.value
        for minute in [each for each in known if each < first]:
            del known[minute]
        return [Point(at=minute * 60.0, value=known[minute]) for minute in sorted(known) if minute < last]

    async def _read(self, subject: Subject, measure: str, first: int, last: int, step_s: int) -> list[Point]:
        points: list[Point] = []
        at = first * _MINUTE_S
        while at < last * _MINUTE_S:
            until = min(last * _MINUTE_S, at + _MOST_STEPS * step_s)
            query = MetricQuery(
                measure=_MEASURES[measure], service=subject.service, since=at, until=until, step_s=step_s
            )
            for line in (await self._metrics.query(subject.app, query)).lines[:1]:
                points.extend(line.points)
            at = until
        return points


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """All of it. ``scaler`` runs where this process leads."""

    scaler: Scaler
    operations: AppAutoscaling


def build_scaling(
    database: Database, apps: Apps, measured: Measured, cluster: Cluster, publisher: Publisher
) -> Scaling:
    """Make it; nothing runs yet. ``database`` is fenced."""
    store = ScalingStore(database)
    foresight = Foresight(PastLoads(measured.operations.metrics))
    scaler = Scaler(
        Parts(
            sizes=apps.sizes,
            store=store,
            telemetry=measured.live,
            querying=measured.sources,
            foresight=foresight,
            attending=measured.measurements,
            cluster=cluster,
            clock=time.time,
        )
    )
    publisher.on_held(scaler.wake)
    operations = AppAutoscaling(apps.sizes, store, last=scaler.last, tests=foresight.tests)
    return Scaling(scaler=scaler, operations=operations)
