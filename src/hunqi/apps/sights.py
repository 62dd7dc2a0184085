"""An app as a plan sees it: what is persisted of it, and its part of the snapshot and of what the gateways find."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from hunqi.apps.errors import RevisionNotFoundError
from hunqi.apps.model import Revision
from hunqi.apps.observing import Watched
from hunqi.apps.serving import Routing
from hunqi.apps.situation import Facts, Situation
from hunqi.apps.store import AppStore, Kept
from hunqi.engine.model import Snapshot

_log = logging.getLogger(__name__)


class Sights:
    """Puts situations together. ``clock`` gives seconds since the epoch."""

    def __init__(self, store: AppStore, watched: Watched, routing: Routing, *, clock: Callable[[], float]) -> None:
        self._store: Final = store
        self._watched = watched
        self._routing = routing
        self._clock = clock

    async def of(self, kept: Kept, snapshot: Snapshot, facts: Facts) -> Situation:
        """Return the situation of an app; ``facts`` are what was waited for, the others are added here."""
        app = kept.app.name
        standings = self._watched.standings(app, snapshot)
        numbers = {each.revision for each in standings.values()}
        numbers |= {number for number in (kept.app.live, kept.deploy and kept.deploy.revision) if number}
        revisions = await self._revisions(app, numbers)
        return Situation(
            app=kept.app,
            revisions=revisions,
            deploy=kept.deploy,
            snapshot=snapshot,
            standings=standings,
            facts=replace(
                facts,
                in_batches=await self._in_batches(kept, numbers),
                health={name: self._routing.health(name) for name in standings},
            ),
            now=self._clock(),
            networks_in_use=self._watched.networks_in_use(snapshot),
        )

    async def _revisions(self, app: str, numbers: set[int]) -> Mapping[int, Revision]:
        found: dict[int, Revision] = {}
        for number in numbers:
            try:
                found[number] = await self._store.revision(app, number)
            except RevisionNotFoundError:
                _log.warning("app=%s revision=%d: a service of it is there, but not the revision", app, number)
        return found

    async def _in_batches(self, kept: Kept, numbers: set[int]) -> frozenset[int]:
        """Return which of the revisions that services are left of went by batches; most looks need not ask."""
        known = {kept.app.live, kept.deploy.revision if kept.deploy else None}
        left = numbers - known
        return await self._store.in_batches(kept.app.name, left) if left else frozenset()
