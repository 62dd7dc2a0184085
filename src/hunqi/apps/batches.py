"""Replacing a service bit by bit: how many tasks of the new one are started at a time, and how many old ones go for it.

- **Growing** (start-first, with ``parallelism``): the new one comes up a step at a time beside the whole old one.
- **Batches** (start-first, no room for two revisions): a step of new ones, as many old ones away once they are healthy,
  and again. What serves is never less than what is wanted.
- **Rolling** (stop-first, with ``parallelism``): a step of old ones is stopped, as many new ones are started.

A deploy that moves by decisions does so only at its promotion, with what is left to be started or replaced then.
In the last two both revisions serve meanwhile, each with its part of the traffic. Nothing of this is remembered: how
far it is follows from the replicas that are there, so that it goes on after a crash, before any gateway has reported.
What such a deploy leaves behind when it is cut short *lingers*: it goes on serving and goes as the old ones come back.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from hunqi.apps.model import DeployState, Order, Revision, ServiceSpec
from hunqi.apps.operations import Replacing
from hunqi.apps.serving import Share
from hunqi.apps.situation import Situation, scalable
from hunqi.apps.standing import Standing

PARTS: Final = 4
"""A batch is this part of the replicas, where the file does not say how many are started at a time."""


class Way(Enum):
    """How a service is replaced bit by bit."""

    GROWING = auto()
    BATCHES = auto()
    ROLLING = auto()


def step_of(spec: ServiceSpec, wanted: int, replacing: Replacing | None) -> int:
    """Return how many tasks of ``spec`` are started at a time when it is replaced."""
    if spec.parallelism:
        return max(1, min(wanted, spec.parallelism))
    return max(1, wanted // PARTS if replacing is Replacing.BATCHES else wanted)


def ports_of(spec: ServiceSpec) -> frozenset[int]:
    """Return the ports at which the gateway sends to its tasks."""
    return frozenset({route.port for route in spec.routes} | set(spec.internal_ports))


def rolls(before: ServiceSpec, after: ServiceSpec) -> bool:
    """Whether ``after`` takes the place of ``before`` a step at a time, though stop-first: the file asks for it.

    A volume is never written to by two revisions, and tasks that listen at other ports cannot share the traffic.
    """
    return (
        after.order is Order.STOP_FIRST
        and after.parallelism > 0
        and scalable(before)
        and scalable(after)
        and not any(mount.kind == "volume" for mount in (*before.mounts, *after.mounts))
        and ports_of(before) == ports_of(after)
    )


class Batches:
    """The services of an app that are replaced bit by bit now."""

    def __init__(self, situation: Situation) -> None:
        self._at = situation

    def way(self, service: str) -> Way | None:
        """Return how ``service`` is replaced by the deploy under way; None if all at once."""
        pair = self._pair(service)
        if pair is None:
            return None
        before, after = (each.spec.services[service] for each in pair)
        deploy = self._at.deploy
        replacing = deploy.progress.replacing if deploy is not None else None
        if replacing is Replacing.STOP_FIRST or not scalable(after):
            return None
        if after.order is Order.STOP_FIRST:
            return Way.ROLLING if rolls(before, after) else None
        if replacing is Replacing.BATCHES:
            return Way.BATCHES if ports_of(before) == ports_of(after) else None
        return Way.GROWING if after.parallelism else None

    # how many
    def wanted_new(self, spec: ServiceSpec) -> int:
        """Return how many replicas the new Swarm service of ``spec`` is to have now."""
        wanted = self._at.wanted(spec)
        pair, way = self._pair(spec.name), self.way(spec.name)
        if pair is None or way is None:
            return wanted
        goal, there = self._goal(pair[1], spec), self._standing(pair[1], spec.name)
        if way is Way.GROWING or (there is None and way is Way.BATCHES) or self.have_left(spec.name):
            return goal
        return min(goal, there.service.replicas or 0) if there else 0

    def wanted_old(self, service: str) -> int:
        """Return how many replicas the old Swarm service may have now, where it leaves bit by bit."""
        pair, way = self._pair(service), self.way(service)
        if pair is None or way is None:
            return 0
        before = self._at.wanted(pair[0].spec.services[service])
        if way is Way.BATCHES:
            return max(0, before - self._count(self._standing(pair[1], service)))
        left, lingering = self._left(pair[1], service, before), self._allotted(pair[0], service)
        return max(0, left - sum(lingering.values()))

    def have_left(self, service: str) -> bool:
        """Whether as many old ones have gone as the next step needs."""
        pair, way = self._pair(service), self.way(service)
        if pair is None or way in {None, Way.GROWING}:
            return True
        old = self._standing(pair[0], service)
        if way is Way.BATCHES:
            return old is None or len(old.running) <= self.wanted_old(service)
        others = self._at.others(service, self._at.name(pair[1], service))
        before = self._at.wanted(pair[0].spec.services[service])
        return sum(each.still for each in others) <= self._left(pair[1], service, before)

    def rounds(self, spec: ServiceSpec) -> int:
        """Return how many steps there are: each has the whole time of the service."""
        if self.way(spec.name) is None:
            return 1
        wanted = max(1, self._at.wanted(spec))
        return -(-wanted // self._step(spec))

    # what a deploy that was cut short leaves behind
    def lingering(self, serves: Revision | None, service: str) -> tuple[Standing, ...]:
        """Return what still serves a part of ``service`` beside ``serves``, left by a deploy that was cut short."""
        at = self._at
        if serves is None or service not in serves.spec.services:
            return ()
        spec = serves.spec.services[service]
        if not scalable(spec) or at.wanted(spec) <= self._served(serves, service):
            return ()
        known = (serves, at.live, None if at.aborting else at.target)
        names = {at.name(each, service) for each in known if each is not None and service in each.origin}
        return tuple(
            each
            for each in at.standings.values()
            if each.key == service and each.name not in names and each.running and self._lingers(serves, spec, each)
        )

    def wanted_lingering(self, serves: Revision, standing: Standing) -> int:
        """Return how many of what lingers are to go on: those that are missing otherwise."""
        spec = serves.spec.services[standing.key]
        if spec.order is Order.STOP_FIRST:
            return self._allotted(serves, standing.key)[standing.name]
        return max(1, self._at.wanted(spec) - self._served(serves, standing.key))

    def returning(self, serves: Revision, service: str) -> tuple[int, bool] | None:
        """Return how many of ``serves`` there are to be now while others linger that must go first, and if they may.

        None where what serves comes back all at once.
        """
        spec = serves.spec.services[service]
        lingering = self.lingering(serves, service)
        if not lingering or spec.order is not Order.STOP_FIRST or self._pair(service) is not None:
            return None
        others = self._at.others(service, self._at.name(serves, service))
        left = sum(each.still for each in others) <= self._left(serves, service, self._at.wanted(spec))
        there = self._standing(serves, service)
        return (self._goal(serves, spec) if left or there is None else there.service.replicas or 0), left

    # traffic
    def shares(self, serves: Revision | None, service: str) -> tuple[Share, ...]:
        """Return who gets the traffic of ``service``, by healthy tasks; empty if one alone gets it."""
        at = self._at
        lingering, pair = self.lingering(serves, service), self._pair(service)
        if pair is not None and self.way(service) in {Way.BATCHES, Way.ROLLING}:
            revisions: tuple[Revision, ...] = pair
        elif lingering and serves is not None:
            revisions = (serves,)
        else:
            return ()
        names = [at.name(each, service) for each in revisions]
        standings = [*(at.standings[name] for name in names if name in at.standings), *lingering]
        return _weighed({each.name: count for each in standings if (count := self._serving(each, serves))})

    # counts
    def _goal(self, coming: Revision, spec: ServiceSpec) -> int:
        """Return how many of what comes there are to be once those that must go before have gone."""
        wanted = self._at.wanted(spec)
        standing = self._standing(coming, spec.name)
        there = (standing.service.replicas or 0) if standing is not None else 0
        return min(wanted, there + self._step(spec)) if self._count(standing) >= there else min(wanted, there)

    def _left(self, coming: Revision, service: str, before: int) -> int:
        """Return how many of those before there may still be while rolling."""
        spec = coming.spec.services[service]
        goal = self._goal(coming, spec)
        return 0 if goal >= self._at.wanted(spec) else max(0, before - goal)

    def _allotted(self, serves: Revision, service: str) -> dict[str, int]:
        """Return how many of each that lingers may go on while rolling: those that run, beside those of the old one."""
        at, pair = self._at, self._pair(service)
        coming = serves if pair is None else pair[1]
        old = self._standing(serves, service) if pair is not None else None
        room = self._left(coming, service, at.wanted(serves.spec.services[service])) - (len(old.running) if old else 0)
        allotted: dict[str, int] = {}
        for each in self.lingering(serves, service):
            allotted[each.name] = max(0, min(room, len(each.running)))
            room -= allotted[each.name]
        return allotted

    def _served(self, serves: Revision, service: str) -> int:
        """Return how many tasks there are of what serves, and of what takes its place in batches."""
        pair, way = self._pair(service), self.way(service)
        count = self._serving(self._standing(serves, service), serves)
        if pair is not None and way in {Way.BATCHES, Way.ROLLING}:
            count += self._serving(self._standing(pair[1], service), serves)
        return count

    def _count(self, standing: Standing | None) -> int:
        """Return how many tasks are known to be healthy."""
        if standing is None:
            return 0
        spec = self._at.spec_of(standing)
        if spec is None or not spec.routed or not self._at.gateways:
            return len(standing.running)
        report = self._at.facts.health.get(standing.name)
        return len({task.id for task in standing.running} & report.healthy) if report else 0

    def _serving(self, standing: Standing | None, serves: Revision | None) -> int:
        """Return how many tasks are healthy, or must have been, where no gateway has said anything since we began.

        The old one has less than it should only because as many others were healthy.
        """
        if standing is None:
            return 0
        report = self._at.facts.health.get(standing.name)
        if report is not None and report.gateways:
            return self._count(standing)
        if serves is None or standing.key not in serves.origin or self._at.name(serves, standing.key) == standing.name:
            return len(standing.running)
        old = self._standing(serves, standing.key)
        missing = self._at.wanted(serves.spec.services[standing.key]) - (len(old.running) if old else 0)
        return max(0, min(len(standing.running), missing))

    def _lingers(self, serves: Revision, spec: ServiceSpec, standing: Standing) -> bool:
        """Whether a Swarm service of no revision at hand serves a part, since its deploy went by batches or rolled."""
        own = self._at.spec_of(standing)
        if own is None or not self._serving(standing, serves):
            return False
        if spec.order is Order.STOP_FIRST:
            return rolls(spec, own) and rolls(own, spec)
        return standing.revision in self._at.facts.in_batches and ports_of(own) == ports_of(spec)

    def _step(self, spec: ServiceSpec) -> int:
        deploy = self._at.deploy
        return step_of(spec, self._at.wanted(spec), deploy.progress.replacing if deploy else None)

    def _pair(self, service: str) -> tuple[Revision, Revision] | None:
        at = self._at
        deploy, base, target = at.deploy, at.live, at.target
        if (
            deploy is None
            or base is None
            or target is None
            or not (at.promoting or (at.shift is None and deploy.state is DeployState.STARTING))
            or service not in base.spec.services
            or service not in target.spec.services
            or at.name(base, service) == at.name(target, service)
        ):
            return None
        return base, target

    def _standing(self, revision: Revision, service: str) -> Standing | None:
        return self._at.standings.get(self._at.name(revision, service))


def _weighed(counts: dict[str, int]) -> tuple[Share, ...]:
    """Return shares by counts; their weights sum to 100."""
    total, left = sum(counts.values()), 100
    shares: list[Share] = []
    for index, (name, count) in enumerate(counts.items(), 1):
        weight = left if index == len(counts) else min(left, round(100 * count / total))
        left -= weight
        shares.append(Share(backend=name, weight=weight))
    return tuple(share for share in shares if share.weight)
