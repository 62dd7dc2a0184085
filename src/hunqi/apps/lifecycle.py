"""Changes of a running app: scale, restart, stop, start, remove, maintenance. Implements ``operations.Lifecycle``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from hunqi.apps.errors import AppBusyError, ScaleError, ServiceNotFoundError
from hunqi.apps.limits import Limits
from hunqi.apps.model import DeployState, Mode, Revision
from hunqi.apps.operations import AppView, Change
from hunqi.apps.releasing import Release, Releasing
from hunqi.apps.state import MAX_REPLICAS, Desired, Intent
from hunqi.apps.store import AppStore, Kept
from hunqi.apps.views import AppViews
from hunqi.state.events import append

MAX_TEXT: Final = 4000


class AppLifecycle:
    """Changes that make no revision, but for a restart, which makes one with the same spec."""

    def __init__(
        self,
        store: AppStore,
        releasing: Releasing,
        limits: Limits,
        views: AppViews,
        *,
        mark: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._releasing = releasing
        self._limits = limits
        self._views = views
        self._mark = mark
        self._clock = clock

    async def scale(self, app: str, replicas: Mapping[str, int], change: Change) -> AppView:
        """Set replicas of services, until a file says another number. Raises ``ScaleError``, ``QuotaError``."""
        kept = await self._store.find(app)
        live = await self._live(kept)
        for name, number in replicas.items():
            service = live.spec.services.get(name)
            if service is None:
                raise ServiceNotFoundError.among(app, name, live.spec.services)
            if service.mode is not Mode.REPLICATED:
                raise ScaleError(f"{name} runs as {service.mode} and has no replicas to set")
            if not 0 <= number <= MAX_REPLICAS:
                raise ScaleError(f"{name} can have 0 to {MAX_REPLICAS} replicas, not {number}")
            if name in kept.app.intent.auto:
                raise ScaleError(
                    f"{name} is scaled by its load: x-hunqi.scale in its file, or hunqi app autoscale, say its min and "
                    "max; switch that off to set a number yourself"
                )
        scale = {**kept.app.intent.replicas, **replicas}
        await self._limits.check_quota(kept.app.team, app, live.spec, scale)
        return await self._change(
            app,
            change,
            "app.scaled",
            lambda intent: replace(intent, scale={**intent.scale, **replicas}),
            dict(replicas),
        )

    async def restart(self, app: str, services: Sequence[str], change: Change) -> AppView:
        """Replace every task of ``services`` (all if empty) as a deploy does. Raises ``ServiceNotFoundError``."""
        kept = await self._store.find(app)
        live = await self._live(kept)
        for name in services:
            if name not in live.spec.services:
                raise ServiceNotFoundError.among(app, name, live.spec.services)
        async with self._store.database.read() as connection:
            stored = await self._store.stored_in(connection, app, live.number)
        anew = frozenset(services or live.spec.services)
        why = change.reason or f"restart of {', '.join(sorted(anew))}"
        release = Release(app=app, spec=stored.spec, anew=anew, kind="restart", direct=True)
        await self._releasing.release(release, replace(change, reason=why))
        return await self._views.show(app)

    async def stop(self, app: str, change: Change) -> AppView:
        """Drain and stop all tasks; a deploy under way is cancelled."""
        return await self._desire(app, Desired.STOPPED, change, "app.stopped")

    async def start(self, app: str, change: Change) -> AppView:
        """Start a stopped app again."""
        return await self._desire(app, Desired.RUNNING, change, "app.started")

    async def remove(self, app: str, change: Change, *, volumes: bool = False) -> None:
        """Drain and remove everything of the app, with ``volumes`` its data too."""
        async with self._store.database.begin() as connection:
            kept = await self._store.find_in(connection, app)
            await self._releasing.end(connection, kept, DeployState.CANCELLED, "the app is being removed", change)
            intent = replace(kept.app.intent, remove_volumes=volumes, actor=change.actor)
            await self._store.change(connection, kept.app, at=self._now(), intent=intent, desired=Desired.REMOVED)
            await append(
                connection,
                "app.removing",
                app=app,
                actor=change.actor,
                reason=change.reason,
                data={"volumes": volumes},
            )
        self._mark(app)

    async def maintenance(self, app: str, text: str | None, change: Change) -> AppView:
        """Answer every route with ``text``, or with the app again if None."""
        kind = "app.maintenance" if text is not None else "app.maintenance-ended"
        held = text[:MAX_TEXT] if text is not None else None
        return await self._change(app, change, kind, lambda intent: replace(intent, maintenance=held), {})

    async def _desire(self, app: str, desired: Desired, change: Change, kind: str) -> AppView:
        async with self._store.database.begin() as connection:
            kept = await self._store.find_in(connection, app)
            _not_removed(kept)
            if kept.app.desired is not desired:
                if desired is Desired.STOPPED:
                    sentence = "the app was stopped"
                    await self._releasing.end(connection, kept, DeployState.CANCELLED, sentence, change)
                intent = replace(kept.app.intent, actor=change.actor)
                await self._store.change(connection, kept.app, at=self._now(), intent=intent, desired=desired)
                await append(connection, kind, app=app, actor=change.actor, reason=change.reason)
        self._mark(app)
        return await self._views.show(app)

    async def _change(
        self, app: str, change: Change, kind: str, make: Callable[[Intent], Intent], data: dict[str, Any]
    ) -> AppView:
        async with self._store.database.begin() as connection:
            kept = await self._store.find_in(connection, app)
            _not_removed(kept)
            intent = replace(make(kept.app.intent), actor=change.actor)
            await self._store.change(connection, kept.app, at=self._now(), intent=intent)
            await append(connection, kind, app=app, actor=change.actor, reason=change.reason, data=data)
        self._mark(app)
        return await self._views.show(app)

    async def _live(self, kept: Kept) -> Revision:
        number = kept.app.live or (kept.deploy.revision if kept.deploy else None)
        if number is None:
            raise ServiceNotFoundError(f"no revision of {kept.app.name} has been deployed yet")
        return await self._store.revision(kept.app.name, number)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _not_removed(kept: Kept) -> None:
    if kept.app.desired is Desired.REMOVED:
        raise AppBusyError(f"{kept.app.name} is being removed")
