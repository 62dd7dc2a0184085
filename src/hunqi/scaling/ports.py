"""What elastic scaling needs of others beside ``hunqi.apps.sizing`` and ``hunqi.telemetry.model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hunqi.engine.model import Snapshot
from hunqi.telemetry.model import Point, Subject


class Cluster(Protocol):
    """The machines, as they were observed last."""

    @property
    def snapshot(self) -> Snapshot | None:
        """All of the Swarm; None before it was seen."""
        ...


class Querying(Protocol):
    """Prometheus-compatible servers that were made known."""

    async def value(self, name: str, query: str) -> float:
        """Return the one value of a query now. Raises ``HunqiError`` where there is none."""
        ...


class Past(Protocol):
    """Load by the minute, as far back as it is kept."""

    async def load(self, subject: Subject, measure: str, *, start: float, end: float) -> Sequence[Point]:
        """Return the service's total of ``measure`` (``rps``, ``concurrency``, ``cpu`` in cores), a point a minute.

        Minutes that were not measured are left out. Raises ``HunqiError`` where it cannot be read.
        """
        ...


class Attending(Protocol):
    """Who can measure more often."""

    def attend(self, app: str) -> None:
        """Measure the app as often as can be for the next while."""
        ...
