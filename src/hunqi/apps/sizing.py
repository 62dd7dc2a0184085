"""The size of services, for the room that scales them by their load: what there is, and what it asks for.

What is asked is persisted (``Intent.auto``), stands before the numbers of files and users, and the planner brings the
app to it: up at once, down by way of a drain, to none with the routes in place, so that requests wait at the gateways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from hunqi.apps.errors import AppBusyError, ScaleError, ServiceNotFoundError
from hunqi.apps.limits import Limits
from hunqi.apps.model import AppSpec, DeployState, Mode, Revision, ServiceSpec
from hunqi.apps.observing import Watched
from hunqi.apps.sights import Sights
from hunqi.apps.situation import Facts, Situation
from hunqi.apps.standing import Standing, since
from hunqi.apps.state import MAX_REPLICAS, Desired, Intent
from hunqi.apps.store import AppStore, Kept
from hunqi.apps.transitions import OvertakenError
from hunqi.engine.model import Snapshot
from hunqi.state.events import append


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedTask:
    """A task that is to go on; ``name`` is its Swarm service."""

    id: str
    name: str
    node: str
    pending: bool
    """Whether it does not run yet."""
    since: float
    """Since when it runs, or is in the state before; seconds since the epoch."""
    ready: bool
    """Running and, if it is routed, found healthy by every live gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A replicated service of the revision that serves."""

    service: str
    spec: ServiceSpec
    name: str
    """Its Swarm service."""
    coming: str | None
    """That of the revision under way, which takes its place or runs beside it; None where it is not replaced."""
    wanted: int
    auto: int | None
    """What was asked here last; None leaves it to the file and to users."""
    given: int
    """What the file or a user says."""
    ready: int
    tasks: tuple[SizedTask, ...]
    """Those of both Swarm services."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedApp:
    """An app that has a revision that serves. ``generation`` changes with everything asked of it."""

    name: str
    team: str
    generation: int
    spec: AppSpec
    revision: int
    running: bool
    """False of one that a user has stopped, or that is being removed."""
    deploy: str | None
    """The id of the deploy under way."""
    state: DeployState | None
    """Its state; ``SHIFTING`` while a rollout decides of it."""
    shifting: bool
    """Whether it moves by decisions."""
    services: tuple[Sized, ...]


class Sizes(Protocol):
    """The sizes of services; implemented by ``AppSizes``."""

    async def apps(self) -> Sequence[SizedApp]:
        """Return every app that has a revision that serves."""
        ...

    async def find(self, app: str) -> SizedApp | None:
        """Return one, None if nothing of it serves yet. Raises ``AppNotFoundError``."""
        ...

    async def set(
        self,
        app: str,
        service: str,
        replicas: int,
        *,
        sentence: str,
        actor: str = "hunqi",
        generation: int | None = None,
    ) -> None:
        """Ask for so many replicas, none for sleep; asking for what is asked already changes nothing.

        Raises ``OvertakenError`` if the app has changed since it had ``generation``, ``QuotaError`` (only for more than
        there are to be now), ``ServiceNotFoundError``, ``ScaleError``, ``AppBusyError``.
        """
        ...

    async def clear(self, app: str, service: str, *, sentence: str = "", actor: str = "hunqi") -> None:
        """Leave the number to the file and to users again."""
        ...


class AppSizes:
    """Sizes as persisted and observed. ``mark`` has an app looked at; ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        store: AppStore,
        watched: Watched,
        sights: Sights,
        limits: Limits,
        *,
        mark: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._store: Final = store
        self._watched = watched
        self._sights = sights
        self._limits = limits
        self._mark = mark
        self._clock = clock

    async def apps(self) -> Sequence[SizedApp]:
        """Return every app that has a revision that serves."""
        snapshot = await self._watched.snapshot()
        found = [await self._shown(kept, snapshot) for kept in await self._store.all()]
        return [each for each in found if each is not None]

    async def find(self, app: str) -> SizedApp | None:
        """Return one. See ``Sizes``."""
        return await self._shown(await self._store.find(app), await self._watched.snapshot())

    async def set(
        self,
        app: str,
        service: str,
        replicas: int,
        *,
        sentence: str,
        actor: str = "hunqi",
        generation: int | None = None,
    ) -> None:
        """Ask for so many replicas. See ``Sizes``."""
        kept = await self._store.find(app)
        live = await self._live(kept)
        spec = live.spec.services.get(service)
        if spec is None:
            raise ServiceNotFoundError.among(app, service, live.spec.services)
        if spec.mode is not Mode.REPLICATED or not 0 <= replicas <= MAX_REPLICAS:
            raise ScaleError(f"{service} cannot have {replicas} replicas: 0 to {MAX_REPLICAS}, and none as {spec.mode}")
        if replicas > kept.app.intent.replicas.get(service, spec.replicas):
            asked = {**kept.app.intent.replicas, service: replicas}
            await self._limits.check_quota(kept.app.team, app, live.spec, asked)
        await self._change(app, service, replicas, sentence, actor, generation)

    async def clear(self, app: str, service: str, *, sentence: str = "", actor: str = "hunqi") -> None:
        """Leave the number to the file and to users again."""
        said = sentence or f"{service} is scaled by its file and by users again"
        await self._change(app, service, None, said, actor, None)

    async def _change(
        self, app: str, service: str, replicas: int | None, sentence: str, actor: str, generation: int | None
    ) -> None:
        async with self._store.database.begin() as connection:
            kept = await self._store.find_in(connection, app)
            if generation is not None and kept.app.generation != generation:
                raise OvertakenError
            if kept.app.desired is Desired.REMOVED:
                raise AppBusyError(f"{app} is being removed")
            before = kept.app.intent.auto.get(service)
            if before == replicas:
                return
            intent = replace(kept.app.intent, auto=_with(kept.app.intent, service, replicas))
            at = datetime.fromtimestamp(self._clock(), UTC)
            await self._store.change(connection, kept.app, at=at, intent=intent)
            data = {"service": service, "before": before, "replicas": replicas}
            await append(
                connection, "service.autoscaled", app=app, subject=service, actor=actor, reason=sentence, data=data
            )
        self._mark(app)

    async def _live(self, kept: Kept) -> Revision:
        if kept.app.live is None:
            raise ServiceNotFoundError(f"no revision of {kept.app.name} serves yet")
        return await self._store.revision(kept.app.name, kept.app.live)

    async def _shown(self, kept: Kept, snapshot: Snapshot) -> SizedApp | None:
        if kept.app.live is None:
            return None
        at = await self._sights.of(kept, snapshot, Facts())
        live, deploy = at.live, kept.deploy
        if live is None:
            return None
        return SizedApp(
            name=kept.app.name,
            team=kept.app.team,
            generation=kept.app.generation,
            spec=live.spec,
            revision=live.number,
            running=kept.app.desired is Desired.RUNNING,
            deploy=deploy.id if deploy else None,
            state=deploy.state if deploy else None,
            shifting=at.shift is not None,
            services=tuple(
                _sized(at, live, name)
                for name, spec in live.spec.services.items()
                if spec.mode is Mode.REPLICATED and spec.schedule is None
            ),
        )


def _with(intent: Intent, service: str, replicas: int | None) -> dict[str, int]:
    auto = {name: number for name, number in intent.auto.items() if name != service}
    return auto if replicas is None else {**auto, service: replicas}


def _sized(at: Situation, live: Revision, service: str) -> Sized:
    spec, intent = live.spec.services[service], at.app.intent
    name, target = at.name(live, service), at.target
    coming = at.name(target, service) if target is not None and service in target.origin else None
    standings = [at.standings[each] for each in dict.fromkeys((name, coming or name)) if each in at.standings]
    return Sized(
        service=service,
        spec=spec,
        name=name,
        coming=coming if coming != name else None,
        wanted=at.wanted(spec),
        auto=intent.auto.get(service),
        given=intent.scale.get(service, spec.replicas),
        ready=at.judge(live, service).count,
        tasks=tuple(task for each in standings for task in _tasks(at, each)),
    )


def _tasks(at: Situation, standing: Standing) -> list[SizedTask]:
    report = at.facts.health.get(standing.name)
    spec = at.spec_of(standing)
    checked = spec is not None and spec.routed and report is not None and report.gateways > 0
    return [
        SizedTask(
            id=task.id,
            name=standing.name,
            node=task.node_id or "",
            pending=not task.serving,
            since=since(task),
            ready=task.serving and (not checked or (report is not None and task.id in report.healthy)),
        )
        for task in standing.lasting
    ]
