"""What the gateways are to do for an app: which routes are in force, and who gets the traffic of each service."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from hunqi.apps.batches import Batches
from hunqi.apps.model import AppSpec, Mode, NetworkSpec, Revision, ServiceSpec
from hunqi.apps.retiring import Retiring
from hunqi.apps.serving import Backend, Lane, Serving, Share
from hunqi.apps.situation import Situation
from hunqi.apps.state import Desired
from hunqi.apps.swarm import network_name

STOPPED_PAGE = "This app is stopped."


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Whose routes are in force, and what comes up beside it."""

    spec_of: Revision | None
    coming: Revision | None


def serving_of(situation: Situation, traffic: Traffic, retiring: Retiring) -> Serving | None:
    """Return the offer for the gateways; None if the app has nothing for them."""
    spec = _spec_in_force(traffic) or _spec_of_leaving(situation, retiring)
    if spec is None:
        return None
    stopped = situation.app.desired is Desired.STOPPED
    backends = _backends(situation)
    names = {each.name for each in backends}
    batches = Batches(situation)
    shares: dict[str, tuple[Share, ...]] = {}
    free = names - retiring.leaving
    for name, service in spec.services.items():
        if not _has_traffic(service):
            continue
        backend = _preferred(situation, (traffic.spec_of, traffic.coming), name, free)
        if several := batches.shares(traffic.spec_of, name):
            shares[name] = several
        elif backend:
            shares[name] = (Share(backend=backend),)
    return Serving(
        app=situation.app.name,
        spec=spec,
        networks={key: network_name(situation.app.name, network) for key, network in spec.networks.items()},
        backends=backends,
        shares=shares,
        draining=frozenset(retiring.leaving & names),
        maintenance=situation.app.intent.maintenance or (STOPPED_PAGE if stopped else None),
        lane=_lane(situation, traffic.coming, shares, free) if traffic.coming is not None else None,
    )


def _lane(
    situation: Situation, coming: Revision, stable: Mapping[str, tuple[Share, ...]], free: Collection[str]
) -> Lane | None:
    """Return the way of those who are assigned to the revision under way, while a rollout decides of it.

    A service that is postponed, and one of which nothing is there, is what it is for everybody else.
    """
    shift, deploy, base = situation.shift, situation.deploy, situation.live
    if shift is None or deploy is None or base is None or not situation.shifting:
        return None
    services = {
        name: base.spec.services[name] if name in situation.split.postponed else service
        for name, service in coming.spec.services.items()
    }
    shares: dict[str, tuple[Share, ...]] = {}
    for name, service in services.items():
        if not _has_traffic(service):
            continue
        own = _preferred(situation, (coming,), name, free) if name in situation.split.own else None
        if own is not None:
            shares[name] = (Share(backend=own),)
        elif name in stable:
            shares[name] = stable[name]
    return Lane(
        name=f"r{coming.number}",
        salt=deploy.id,
        spec=dataclasses.replace(coming.spec, services=services),
        shares=shares,
        weight=shift.weight,
        matches=shift.matches,
        mirror=shift.mirror,
        key=shift.key,
        number=shift.number,
    )


def unrouted(revision: Revision) -> Revision:
    """Return the revision without a way to any of its services."""
    services = {
        name: dataclasses.replace(each, routes=(), internal="tasks") for name, each in revision.spec.services.items()
    }
    return dataclasses.replace(revision, spec=dataclasses.replace(revision.spec, services=services))


def _spec_of_leaving(situation: Situation, retiring: Retiring) -> AppSpec | None:
    """Return what the gateways go on knowing while what never came to be live is drained of its requests."""
    newest = max(situation.revisions.values(), key=lambda each: each.number, default=None)
    return unrouted(newest).spec if newest and retiring.draining else None


def _spec_in_force(traffic: Traffic) -> AppSpec | None:
    """Return the spec whose routes hold: what comes up adds its new services, inside the app only."""
    base, coming = traffic.spec_of, traffic.coming
    if coming is None:
        return base.spec if base else None
    known: dict[str, ServiceSpec] = dict(base.spec.services) if base else {}
    networks: dict[str, NetworkSpec] = dict(base.spec.networks) if base else {}
    for name, service in coming.spec.services.items():
        known.setdefault(name, dataclasses.replace(service, routes=()))
    for key, network in coming.spec.networks.items():
        networks.setdefault(key, network)
    return dataclasses.replace(base.spec if base else coming.spec, services=known, networks=networks)


def _backends(situation: Situation) -> tuple[Backend, ...]:
    found: list[Backend] = []
    for name, standing in sorted(situation.standings.items()):
        spec = situation.spec_of(standing)
        if spec is None or not spec.routed or standing.stopped or not _has_traffic(spec):
            continue
        found.append(Backend(name=name, service=standing.key, revision=standing.revision, spec=spec))
    return tuple(found)


def _has_traffic(spec: ServiceSpec) -> bool:
    return spec.routed and spec.mode in {Mode.REPLICATED, Mode.GLOBAL}


def _preferred(
    situation: Situation, revisions: Iterable[Revision | None], service: str, names: Collection[str]
) -> str | None:
    for revision in revisions:
        if revision is not None and service in revision.spec.services:
            name = situation.name(revision, service)
            if name in names:
                return name
    return None
