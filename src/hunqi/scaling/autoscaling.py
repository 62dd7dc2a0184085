"""What can be asked of elastic scaling. Implements ``operations.Autoscaling``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hunqi.apps.errors import ServiceNotFoundError
from hunqi.apps.operations import Change
from hunqi.apps.sizing import Sized, SizedApp, Sizes
from hunqi.scaling.controller import is_paused, spec_of
from hunqi.scaling.errors import NotScaledError
from hunqi.scaling.model import Decision, Scaled
from hunqi.scaling.parsing import scale_of
from hunqi.scaling.store import Given, Key, ScalingStore

MOST_SHOWN: Final = 500


class AppAutoscaling:
    """What users set, and what has been decided. ``last`` and ``tests`` know it where this process leads."""

    def __init__(
        self,
        sizes: Sizes,
        store: ScalingStore,
        *,
        last: Callable[[str, str], Decision | None],
        tests: Callable[[str, str], Sequence[str]],
    ) -> None:
        self._sizes = sizes
        self._store = store
        self._last = last
        self._tests = tests

    async def scaled(self, app: str) -> Sequence[Scaled]:
        """Return the services of the app that load moves. Raises ``AppNotFoundError``."""
        found, given = await self._sizes.find(app), await self._store.given(app)
        shown = [await self._shown(found, sized, given) for sized in found.services] if found else []
        return [each for each in shown if each is not None]

    async def find(self, app: str, service: str) -> Scaled:
        """Return one. Raises ``NotScaledError``, ``ServiceNotFoundError``, ``AppNotFoundError``."""
        found, sized = await self._service(app, service)
        shown = await self._shown(found, sized, await self._store.given(app))
        if shown is None:
            raise NotScaledError(
                f"load does not move {service}: write x-hunqi.scale, or hunqi app autoscale {app} {service} --max 5 …"
            )
        return shown

    async def set(self, app: str, service: str, given: Mapping[str, Any], change: Change) -> Scaled:
        """Have load move it so. Raises ``AutoscaleError`` and what ``find`` raises."""
        found, _ = await self._service(app, service)
        spec = scale_of(given, found.spec, service)
        await self._store.give(app, service, Given(spec=spec), "service.autoscale-set", change)
        return await self.find(app, service)

    async def off(self, app: str, service: str, change: Change) -> None:
        """Have load not move it. Raises ``ServiceNotFoundError``, ``AppNotFoundError``."""
        await self._service(app, service)
        await self._store.give(app, service, Given(off=True), "service.autoscale-off", change)

    async def forget(self, app: str, service: str, change: Change) -> None:
        """Have the file say it again. Raises ``ServiceNotFoundError``, ``AppNotFoundError``."""
        await self._service(app, service)
        await self._store.give(app, service, None, "service.autoscale-unset", change)

    async def decisions(self, app: str, *, service: str | None, limit: int) -> Sequence[Decision]:
        """Return the last decisions that are kept, newest first. Raises ``AppNotFoundError``."""
        await self._sizes.find(app)
        return await self._store.decisions(app, service=service, limit=min(limit, MOST_SHOWN))

    async def _service(self, app: str, service: str) -> tuple[SizedApp, Sized]:
        found = await self._sizes.find(app)
        if found is None:
            raise ServiceNotFoundError(f"nothing of {app} serves now: deploy or start it first")
        for sized in found.services:
            if sized.service == service:
                return found, sized
        raise ServiceNotFoundError.among(app, service, [each.service for each in found.services])

    async def _shown(self, app: SizedApp, sized: Sized, given: Mapping[Key, Given]) -> Scaled | None:
        own = given.get((app.name, sized.service))
        spec = spec_of(sized.spec, own)
        if spec is None:
            return None
        last = self._last(app.name, sized.service)
        if last is None:
            kept = await self._store.decisions(app.name, service=sized.service, limit=1)
            last = kept[0] if kept else None
        sentence = last.sentence if last else "it has not been looked at yet"
        if is_paused(sized, spec):
            sentence = "it was set to no task by hand: that turns scaling off until it has one again"
        return Scaled(
            app=app.name,
            service=sized.service,
            spec=spec,
            origin="set" if own else "file",
            current=sized.wanted,
            ready=sized.ready,
            sentence=sentence,
            last=last,
            foretold=tuple(self._tests(app.name, sized.service)),
        )
