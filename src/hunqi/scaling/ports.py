"""What elastic scaling needs of others: how services stand and can be sized, what is measured, what has been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hunqi.apps.model import AppSpec, ServiceSpec
from hunqi.engine.model import Snapshot
from hunqi.scaling.hpa import TaskSeen
from hunqi.telemetry.model import Point, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A service of a live revision, as it is sized now."""

    app: str
    service: str
    spec: ServiceSpec
    app_spec: AppSpec
    revision: int
    wanted: int
    tasks: tuple[TaskSeen, ...] = ()
    """Those that are to go on; one that is ready has passed every check, that of the gateways too."""
    by_hand: int | None = None
    """What it would be without elastic scaling: of a user, or of the file."""
    deploying: bool = False
    """Whether a deploy or a rollout of the service is under way."""
    running: bool = True
    """False for an app that a user has stopped or that is being removed."""

    @property
    def ready(self) -> int:
        """How many tasks are ready."""
        return sum(each.ready and not each.pending for each in self.tasks)


class Sizes(Protocol):
    """The sizes of services; what is asked for is persisted before anything is done."""

    async def services(self) -> Sequence[Sized]:
        """Return every replicated service of every app that has a live revision."""
        ...

    async def set(self, app: str, service: str, replicas: int, *, sentence: str, actor: str) -> None:
        """Ask for so many, until the next call or ``clear``.

        Raises ``AppNotFoundError``, ``ServiceNotFoundError``, ``ScaleError`` and, where the app is being changed at the
        same moment, ``OvertakenError``.
        """
        ...

    async def clear(self, app: str, service: str, *, sentence: str, actor: str) -> None:
        """Give the size back to the file and to users."""
        ...


class Cluster(Protocol):
    """The machines, as they were observed last."""

    @property
    def snapshot(self) -> Snapshot | None:
        """All of the Swarm; None before it was seen."""
        ...


class Querying(Protocol):
    """Prometheus-compatible servers that were made known."""

    async def value(self, source: str, query: str, *, timeout_s: float) -> float:
        """Return the sum of what a query answers now. Raises ``NotMeasuredError``."""
        ...


class Past(Protocol):
    """Load by the minute, as far back as it is kept."""

    async def load(self, subject: Subject, measure: str, *, start: float, end: float) -> Sequence[Point]:
        """Return the service's total of ``measure`` (``rps``, ``concurrency``, ``cpu`` in cores), a point a minute.

        Minutes that were not measured are left out. Raises ``NotMeasuredError`` where nothing was.
        """
        ...


class Attending(Protocol):
    """Who can measure more often."""

    def attend(self, app: str) -> None:
        """Measure the app as often as can be for the next while."""
        ...
