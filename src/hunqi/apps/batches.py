"""Replacing in batches, where there is no room for two whole revisions: some new, as many old away, and again.

A batch is a quarter of the replicas, one at least. Old tasks leave only for new ones that are healthy, so what serves
is never less than what is wanted; each batch gets its part of the traffic, so both revisions serve meanwhile.
"""

from __future__ import annotations

from typing import Final

from hunqi.apps.model import DeployState, Order, Revision, ServiceSpec
from hunqi.apps.operations import Replacing
from hunqi.apps.serving import Share
from hunqi.apps.situation import Situation, scalable
from hunqi.apps.standing import Standing

PARTS: Final = 4


def batch_of(wanted: int) -> int:
    """Return how many tasks are started at a time."""
    return max(1, wanted // PARTS)


class Batches:
    """The batches of the deploy under way."""

    def __init__(self, situation: Situation) -> None:
        self._at = situation

    def apply(self, service: str) -> bool:
        """Whether ``service`` is being replaced in batches: it serves already, and both its revisions may overlap."""
        return self._pair(service) is not None

    def wanted_new(self, spec: ServiceSpec) -> int:
        """Return how many replicas the new Swarm service of ``spec`` is to have now."""
        wanted = self._at.wanted(spec)
        pair = self._pair(spec.name)
        if pair is None:
            return wanted
        base, target = pair
        step = batch_of(wanted)
        new = self._standing(target, spec.name)
        if new is None:
            return min(wanted, step)
        healthy = self._at.judge(target, spec.name).count
        old = self._standing(base, spec.name)
        there = new.service.replicas or 0
        if healthy < there or (old is not None and len(old.running) > self.wanted_old(spec.name)):
            return there
        return min(wanted, there + step)

    def wanted_old(self, service: str) -> int:
        """Return how many replicas the old Swarm service is to have now: one less for each new one that is healthy."""
        pair = self._pair(service)
        if pair is None:
            return 0
        base, target = pair
        return max(0, self._at.wanted(base.spec.services[service]) - self._at.judge(target, service).count)

    def rounds(self, spec: ServiceSpec) -> int:
        """Return how many batches there are: each has the whole time of the service."""
        if not self.apply(spec.name):
            return 1
        wanted = max(1, self._at.wanted(spec))
        return -(-wanted // batch_of(wanted))

    def shares(self, service: str) -> tuple[Share, ...]:
        """Return who gets the traffic of ``service`` meanwhile, by healthy tasks; empty if one alone gets it."""
        pair = self._pair(service)
        if pair is None:
            return ()
        base, target = pair
        counts = [(self._at.name(each, service), self._at.judge(each, service).count) for each in pair]
        total = sum(count for _, count in counts)
        if self._standing(base, service) is None or self._standing(target, service) is None or not total:
            return ()
        new = round(100 * counts[1][1] / total)
        shares = (Share(backend=counts[0][0], weight=100 - new), Share(backend=counts[1][0], weight=new))
        return tuple(share for share in shares if share.weight)

    def lingering(self, revision: Revision | None, service: str) -> Standing | None:
        """Return what still serves a part of ``service`` after batches that were cut short, beside ``revision``.

        It goes as the tasks of ``revision`` come back, not before.
        """
        at = self._at
        if revision is None or at.facts.in_force is None or service not in revision.spec.services:
            return None
        spec = revision.spec.services[service]
        if spec.order is not Order.START_FIRST or not scalable(spec) or at.judge(revision, service).ready:
            return None
        names = {share.backend for share in at.facts.in_force.shares.get(service, ())}
        names -= {at.name(each, service) for each in (revision, at.target) if each and service in each.origin}
        found = [each for each in at.standings.values() if each.key == service and each.name in names and each.running]
        return found[0] if found else None

    def lingering_shares(self, revision: Revision | None, service: str) -> tuple[Share, ...]:
        """Return who gets the traffic of ``service`` while something lingers; empty if nothing does."""
        lingers = self.lingering(revision, service)
        if lingers is None or revision is None:
            return ()
        there = self._at.judge(revision, service).count
        part = round(100 * there / (there + len(lingers.running)))
        shares = (
            Share(backend=self._at.name(revision, service), weight=part),
            Share(backend=lingers.name, weight=100 - part),
        )
        return tuple(share for share in shares if share.weight)

    def _pair(self, service: str) -> tuple[Revision, Revision] | None:
        at = self._at
        deploy, base, target = at.deploy, at.live, at.target
        if (
            deploy is None
            or base is None
            or target is None
            or deploy.progress.replacing is not Replacing.BATCHES
            or deploy.state is not DeployState.STARTING
            or service not in base.spec.services
            or service not in target.spec.services
            or at.name(base, service) == at.name(target, service)
        ):
            return None
        spec = target.spec.services[service]
        return (base, target) if spec.order is Order.START_FIRST and scalable(spec) else None

    def _standing(self, revision: Revision, service: str) -> Standing | None:
        return self._at.standings.get(self._at.name(revision, service))
