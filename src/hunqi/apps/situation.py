"""What a plan is made from: intent and progress as persisted, the app as observed, and what the gateways say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from hunqi.apps.model import DeployState, Mode, Revision, ServiceSpec
from hunqi.apps.serving import HealthReport, Serving
from hunqi.apps.shifting import Shift, Verdict
from hunqi.apps.split import Split, split
from hunqi.apps.standing import SETTLE_S, Judged, Standing, judge
from hunqi.apps.state import AppRecord, DeployRecord, Desired
from hunqi.apps.swarm import service_name
from hunqi.engine.model import Snapshot

_BEFORE_SWITCH = frozenset({DeployState.PENDING, DeployState.STARTING, DeployState.SHIFTING})
GATEWAYS_GRACE_S = 20.0
"""How long the reconciler waits for a first gateway after it began, before it goes by Docker's word alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was waited for and came true, or is known from memory."""

    health: Mapping[str, HealthReport] = field(default_factory=dict[str, HealthReport])
    in_force: Serving | None = None
    """The last offer that every live gateway is known to work by."""
    drained: frozenset[str] = frozenset()
    """Backends without open requests since they take nothing new."""
    spread: bool = True
    """Whether enough nodes hold the images of the deploy's revision."""
    spread_sentence: str = ""
    drifted: Mapping[str, str] = field(default_factory=dict[str, str])
    """Swarm service → in a sentence, what somebody else changed of it."""
    in_batches: frozenset[int] = frozenset()
    """Revisions beside those at hand whose deploys went by batches: what is left of them may still serve a part."""
    observing_since: float = 0.0
    settle_s: float = SETTLE_S
    """How long a task that nobody checks must have run to count."""
    surge: Mapping[str, int] = field(default_factory=dict[str, int])
    """Swarm service → replicas beyond what is wanted, while a node is emptied."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything that decides what is to be done for an app."""

    app: AppRecord
    revisions: Mapping[int, Revision]
    """Those that serve, are deployed, or have a Swarm service."""
    deploy: DeployRecord | None
    """The one under way."""
    snapshot: Snapshot
    standings: Mapping[str, Standing]
    facts: Facts
    now: float
    """Seconds since the epoch."""
    networks_in_use: Collection[str] = ()
    """Ids of networks that services of any app are on."""

    @cached_property
    def live(self) -> Revision | None:
        """The revision that serves."""
        return self.revisions.get(self.app.live) if self.app.live is not None else None

    @cached_property
    def target(self) -> Revision | None:
        """The revision under way, until it serves."""
        if self.deploy is None or self.deploy.revision == self.app.live:
            return None
        return self.revisions.get(self.deploy.revision)

    @cached_property
    def shift(self) -> Shift | None:
        """What a rollout has decided of the deploy, until that switches; None of one that moves all at once."""
        if self.deploy is None or self.target is None or self.live is None or self.deploy.state not in _BEFORE_SWITCH:
            return None
        return self.deploy.progress.shift

    @cached_property
    def split(self) -> Split:
        """Which services run beside the old ones for the shift, and which are postponed."""
        if self.shift is None or self.live is None or self.target is None:
            return Split()
        return split(self.live, self.target)

    @property
    def shifting(self) -> bool:
        """Whether both revisions serve, by lanes."""
        return self.shift is not None and self.deploy is not None and self.deploy.state is DeployState.SHIFTING

    @property
    def promoting(self) -> bool:
        """Whether all of the new revision is being brought up, for it to serve alone."""
        return self.shifting and self.shift is not None and self.shift.verdict is Verdict.PROMOTE

    @property
    def aborting(self) -> bool:
        """Whether everybody is to be at the old revision again."""
        return self.shift is not None and self.shift.verdict is Verdict.ABORT

    @property
    def deciding(self) -> bool:
        """Whether a rollout judges the new revision, so that its failing is no end of the deploy."""
        return self.shifting and not self.promoting

    @cached_property
    def gateways(self) -> bool:
        """Whether the gateways' word is asked for: there is one, or there may soon be."""
        if any(report.gateways for report in self.facts.health.values()):
            return True
        return self.now - self.facts.observing_since < GATEWAYS_GRACE_S

    def name(self, revision: Revision, service: str) -> str:
        """Return the Swarm service that ``revision`` has for ``service``."""
        return service_name(self.app.name, service, revision.origin[service])

    def wanted(self, spec: ServiceSpec) -> int:
        """Return how many replicas the service is to have."""
        if self.app.desired is not Desired.RUNNING:
            return 0
        return self.app.intent.replicas.get(spec.name, spec.replicas)

    def aim(self, revision: Revision, service: str) -> int:
        """Return how many replicas ``service`` of ``revision`` is to have now.

        Of a revision under way it has at least one, though it sleep, so that its health is shown; and while a rollout
        says so, fewer than at the end.
        """
        spec = revision.spec.services[service]
        wanted = self.wanted(spec)
        live = self.live
        shared = live is not None and live.origin.get(service) == revision.origin[service]
        if revision is not self.target or shared:
            return wanted
        wanted = 1 if self.app.asleep(service) else wanted
        if self.shift is None or self.promoting:
            return wanted
        return min(wanted, max(1, self.shift.replicas.get(service, wanted)))

    def begun(self, service: str) -> float:
        """Return since when the new one of ``service`` has its time to become ready, in seconds since the epoch."""
        if self.deploy is None:
            return 0.0
        started = self.deploy.progress.started.get(service, 0.0)
        return max(started, self.shift.decided_at) if self.promoting and self.shift is not None else started

    def spec_of(self, standing: Standing) -> ServiceSpec | None:
        """Return the spec of a Swarm service, as the revisions at hand have it; None if its own is not known any more.

        What a service's hash leaves out (routes, checks) may differ between them: ports of all are taken together.
        """
        specs = [
            revision.spec.services[standing.key]
            for revision in (self.target, self.live)
            if revision is not None
            and standing.key in revision.spec.services
            and self.name(revision, standing.key) == standing.name
        ]
        if not specs:
            revision = self.revisions.get(standing.revision)
            return revision.spec.services.get(standing.key) if revision else None
        if len(specs) == 2 and specs[0] != specs[1]:
            routes = (*specs[1].routes, *(each for each in specs[0].routes if each not in specs[1].routes))
            ports = tuple(dict.fromkeys((*specs[1].internal_ports, *specs[0].internal_ports)))
            return replace(specs[0], routes=routes, internal_ports=ports)
        return specs[0]

    def others(self, service: str, name: str) -> tuple[Standing, ...]:
        """Return the Swarm services of ``service`` but the one called ``name``."""
        return tuple(each for each in self.standings.values() if each.key == service and each.name != name)

    def judge(self, revision: Revision, service: str) -> Judged:
        """Say how ``service`` of ``revision`` stands."""
        name = self.name(revision, service)
        spec = revision.spec.services[service]
        return judge(
            spec,
            self.standings.get(name),
            self.aim(revision, service),
            self.facts.health.get(name),
            gateways=self.gateways,
            settled_before=self.now - self.facts.settle_s,
            begun=self.begun(service),
        )


def in_order(revision: Revision) -> list[str]:
    """Return the services that run all the time, dependencies first, else in the order of the file."""
    services = revision.spec.services
    ordered: dict[str, None] = {}
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in ordered or name in visiting or name not in services:
            return
        visiting.add(name)
        for each in services[name].depends_on:
            visit(each.service)
        ordered[name] = None

    for name in services:
        visit(name)
    return [name for name in ordered if services[name].schedule is None]


def scalable(spec: ServiceSpec) -> bool:
    """Whether the service has a number of replicas."""
    return spec.mode is Mode.REPLICATED
