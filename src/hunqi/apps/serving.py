"""What the gateways are to do for an app, and the port by which the reconciler asks it of them.

The reconciler *offers* the whole of what an app is to serve (latest wins) and then *waits* for facts: found healthy by
every live gateway, in force in every live gateway, drained. Offers are made of persisted intent, so after a crash the
same offer is made again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hunqi.apps.lanes import LaneKey, LaneMatch
from hunqi.apps.model import AppSpec, RouteSpec, ServiceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A Swarm service (``shop_web-r7``) whose tasks the gateways know and check."""

    name: str
    service: str
    revision: int
    spec: ServiceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a service's traffic; the weights of a service sum to 100."""

    backend: str
    weight: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The way through the app of the users that are assigned to a revision under way.

    A request is in the lane if one of ``matches`` holds, or its user's number (a hash of ``salt`` and the key, below
    10,000) is below ``weight``; inside the app, if ``x-hunqi-lane`` says ``name``.
    """

    name: str
    """``r8``."""
    salt: str
    spec: AppSpec
    """Has the routes that hold in the lane."""
    shares: Mapping[str, tuple[Share, ...]]
    """Service → who gets the lane's traffic: its own tasks, or those that serve both."""
    weight: int = 0
    matches: tuple[LaneMatch, ...] = ()
    mirror: int = 0
    key: LaneKey = field(default_factory=LaneKey)
    number: int = 0
    """Of the shift that it is made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """All that the gateways do for one app. ``spec`` has the routes that are in force."""

    app: str
    spec: AppSpec
    networks: Mapping[str, str]
    """Key of the spec's networks → name in the engine."""
    backends: tuple[Backend, ...]
    shares: Mapping[str, tuple[Share, ...]]
    """Service → who gets its traffic; a routed service without shares has its requests held."""
    draining: frozenset[str] = frozenset()
    """Names of backends whose endpoints take nothing new."""
    maintenance: str | None = None
    lane: Lane | None = None
    problems: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surge:
    """What the emptying of nodes asks of apps meanwhile: the reconciler takes it for wanted, and adds it itself too."""

    extra: Mapping[str, int] = field(default_factory=dict[str, int])
    """Swarm service → replicas that it is to have beyond what its app asks for."""


class Waited(StrEnum):
    """How a wait on the gateways ended."""

    REACHED = "reached"
    TIMED_OUT = "timed-out"
    STOPPED = "stopped"
    """The caller gave up (cancelled or superseded)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What the live gateways find of a backend: ``healthy`` are ids of tasks that *all* of them find healthy."""

    backend: str
    gateways: int
    healthy: frozenset[str]
    failures: Mapping[str, str]
    """Task id → what a gateway's check of it said."""


class Judging(Protocol):
    """What the gateways say of routes; implemented by ``hunqi.gateway.publisher``."""

    def faults(self, route: RouteSpec) -> tuple[str, ...]:
        """Return what keeps the route from being served wherever it is, each a sentence with what to do."""
        ...

    def problems(self, app: str) -> tuple[str, ...]:
        """Return sentences on routes of the app that are not served now; none where this process does not lead."""
        ...


class Routing(Protocol):
    """The gateways, as the reconciler uses them; implemented by ``hunqi.gateway.publisher``."""

    def offer(self, serving: Serving) -> None:
        """Take in what ``serving.app`` is to serve from now on; latest wins; returns at once."""
        ...

    def withdraw(self, app: str) -> None:
        """Forget the app: its routes, clusters and networks go."""
        ...

    def health(self, backend: str) -> HealthReport:
        """Return what is known now, from memory."""
        ...

    async def wait_in_force(self, app: str, *, timeout_s: float) -> Waited:
        """Wait until every live gateway works by the last offer of ``app``."""
        ...

    async def wait_healthy(self, backend: str, tasks: Collection[str], *, timeout_s: float) -> Waited:
        """Wait until every live gateway finds each of ``tasks`` healthy."""
        ...

    async def wait_drained(self, backend: str, tasks: Collection[str] | None = None, *, timeout_s: float) -> Waited:
        """Wait until no gateway has a request open to the backend (or to these tasks of it)."""
        ...
