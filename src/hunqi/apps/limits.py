"""What one app may not do because of others: a team's quota, and the hosts, paths and ports that another app has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from hunqi.apps.errors import QuotaError, RouteFaultError, RouteTakenError
from hunqi.apps.fitting import reserved
from hunqi.apps.model import AppSpec, Mode, RouteSpec, ServiceSpec
from hunqi.apps.serving import Judging
from hunqi.apps.store import AppStore, Kept
from hunqi.engine.model import JSON
from hunqi.state.tables import APPS, TEAMS

_GIB: Final = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a team may have in all; None means as much as there is."""

    apps: int | None = None
    replicas: int | None = None
    cpus: float | None = None
    memory_bytes: int | None = None

    @classmethod
    def parse(cls, text: str) -> Quota:
        """Parse the JSON of a team; keys that are not known are let be."""
        data: Mapping[str, float] = json.loads(text or "{}")
        memory, cpus = data.get("memory_bytes"), data.get("cpus")
        apps, replicas = data.get("apps"), data.get("replicas")
        return cls(
            apps=int(apps) if apps is not None else None,
            replicas=int(replicas) if replicas is not None else None,
            cpus=float(cpus) if cpus is not None else None,
            memory_bytes=int(memory) if memory is not None else None,
        )


@dataclass(slots=True)
class _Use:
    apps: int = 0
    replicas: int = 0
    nano_cpus: int = 0
    memory_bytes: int = 0

    def add(self, spec: AppSpec, scale: Mapping[str, int]) -> None:
        """Count an app."""
        self.apps += 1
        for name, service in spec.services.items():
            if service.mode not in {Mode.REPLICATED, Mode.GLOBAL} or service.schedule is not None:
                continue
            replicas = scale.get(name, service.replicas)
            cpus, memory = _claim(service)
            self.replicas += replicas
            self.nano_cpus += replicas * cpus
            self.memory_bytes += replicas * memory

    def add_larger(self, either: Sequence[_Use]) -> None:
        """Count an app that may end as any of ``either``: in each respect by the largest."""
        self.apps += max((use.apps for use in either), default=0)
        self.replicas += max((use.replicas for use in either), default=0)
        self.nano_cpus += max((use.nano_cpus for use in either), default=0)
        self.memory_bytes += max((use.memory_bytes for use in either), default=0)


class Limits:
    """Looks at all apps."""

    def __init__(self, store: AppStore, judging: Judging) -> None:
        self._store = store
        self._judging = judging

    async def check_quota(self, team: str, app: str, spec: AppSpec, scale: Mapping[str, int]) -> None:
        """Raise ``QuotaError`` if the team would have more than its quota with ``app`` as ``spec`` says."""
        async with self._store.database.read() as connection:
            text = await connection.scalar(select(TEAMS.c.quota).where(TEAMS.c.id == team))
        quota = Quota.parse(text or "{}")
        if quota == Quota():
            return
        memory = None if quota.memory_bytes is None else quota.memory_bytes / _GIB
        use = _Use()
        use.add(spec, scale)
        for kept in await self._store.all():
            if kept.app.team == team and kept.app.name != app:
                use.add_larger([await self._use_of(kept, number) for number in _revisions_of(kept)])
        over = [
            f"{used} of {allowed} {what}"
            for what, used, allowed in (
                ("apps", use.apps, quota.apps),
                ("replicas", use.replicas, quota.replicas),
                ("CPUs", use.nano_cpus / 1e9, quota.cpus),
                ("GiB of memory", use.memory_bytes / _GIB, memory),
            )
            if allowed is not None and used > allowed
        ]
        if over:
            raise QuotaError(f"the team would have {', '.join(over)}: scale something down, or ask for a larger quota")

    async def _use_of(self, kept: Kept, number: int) -> _Use:
        use = _Use()
        use.add((await self._store.revision(kept.app.name, number)).spec, kept.app.intent.replicas)
        return use

    async def readable(self, team: str) -> set[str]:
        """Return the prefixes of the repositories whose images a team's apps may run, beside public ones."""
        async with self._store.database.read() as connection:
            names = await connection.execute(select(APPS.c.name).where(APPS.c.team_id == team))
            granted = await connection.scalar(select(TEAMS.c.images).where(TEAMS.c.id == team))
            return {*names.scalars(), *json.loads(granted or "[]")}

    async def check_routes(self, app: str, spec: AppSpec) -> None:
        """Raise ``RouteFaultError`` if a route of ``spec`` cannot be served, ``RouteTakenError`` if another has it."""
        said = [
            f"the route of {service.name} to its port {route.port} cannot be served: {fault}"
            for service in spec.services.values()
            for route in service.routes
            for fault in self._judging.faults(route)
        ]
        if said:
            raise RouteFaultError("\n".join(said))
        wanted = {claim: service for service, claim in _claims(spec)}
        if not wanted:
            return
        for kept in await self._store.all():
            if kept.app.name == app:
                continue
            for number in _revisions_of(kept):
                there = (await self._store.revision(kept.app.name, number)).spec
                for _, claim in _claims(there):
                    if claim in wanted:
                        raise RouteTakenError(
                            f"{_shown(claim)}, a route of {wanted[claim]}, is taken by the app {kept.app.name}: "
                            "choose another host, path or port"
                        )


def _revisions_of(kept: Kept) -> set[int]:
    """Return what an app has and, while a deploy is under way, may have."""
    numbers = (kept.app.live, kept.deploy.revision if kept.deploy else None)
    return {number for number in numbers if number is not None}


def _claim(service: ServiceSpec) -> tuple[int, int]:
    """Return what counts against a quota: what a service reserves, or else its limit."""
    resources: JSON = service.template.get("Resources") or {}
    limits: JSON = resources.get("Limits") or {}
    cpus, memory = reserved(service.template)
    return cpus or int(limits.get("NanoCPUs") or 0), memory or int(limits.get("MemoryBytes") or 0)


def _claims(spec: AppSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    for service in spec.services.values():
        for route in service.routes:
            for claim in _claims_of(route):
                yield service.name, claim


def _claims_of(route: RouteSpec) -> Iterator[tuple[str, ...]]:
    if route.tcp_port is not None and not route.hosts:
        kind = "udp" if route.protocol.value == "udp" else "tcp"
        yield (kind, str(route.tcp_port))
        return
    headers = sorted(f"{each.name.lower()}:{each.kind}:{each.value}" for each in route.headers)
    for host in route.hosts:
        yield ("host", host.lower(), route.path, str(route.tcp_port or ""), *headers)


def _shown(claim: tuple[str, ...]) -> str:
    return f"{claim[1]}{claim[2]}" if claim[0] == "host" else f"port {claim[1]}/{claim[0]}"
