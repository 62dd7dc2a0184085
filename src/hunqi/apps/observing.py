"""The observer as the reconciler uses it: the snapshot by app, and which apps changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from hunqi.apps.ports import Observer
from hunqi.apps.standing import Standing, standings
from hunqi.engine.model import LABEL_APP, Service, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    snapshot: Snapshot
    services: Mapping[str, tuple[Service, ...]]
    """By app."""
    networks: frozenset[str]


class Watched:
    """A view of the Swarm by app."""

    def __init__(self, observer: Observer) -> None:
        self._observer: Final = observer
        self._index: _Index | None = None

    async def snapshot(self, *, fresh: str | None = None) -> Snapshot:
        """Return the last snapshot; with ``fresh``, an app, one in which that app is seen as it is after this call.

        Raises the engine's errors.
        """
        held = self._observer.snapshot
        if held is None:
            return await self._observer.refresh()
        return held if fresh is None else await self._observer.refresh(app=fresh)

    def standings(self, app: str, snapshot: Snapshot) -> dict[str, Standing]:
        """Return the Swarm services of ``app``, by name."""
        return standings(app, self._indexed(snapshot).services.get(app, ()), snapshot)

    def networks_in_use(self, snapshot: Snapshot) -> frozenset[str]:
        """Return the ids of the networks that services are on."""
        return self._indexed(snapshot).networks

    async def changes(self) -> AsyncIterator[set[str]]:
        """Yield the apps whose services, tasks or ground changed, whenever any did."""
        before: dict[str, int] = {}
        async for snapshot in self._observer.follow():
            now = _marks(self._indexed(snapshot))
            changed = {app for app in before.keys() | now.keys() if before.get(app) != now.get(app)}
            before = now
            if changed:
                yield changed

    def _indexed(self, snapshot: Snapshot) -> _Index:
        if self._index is None or self._index.snapshot is not snapshot:
            by_app: dict[str, list[Service]] = {}
            networks: set[str] = set()
            for service in snapshot.services.values():
                by_app.setdefault(service.labels.get(LABEL_APP, ""), []).append(service)
                networks.update(service.network_ids)
            self._index = _Index(
                snapshot=snapshot,
                services={app: tuple(held) for app, held in by_app.items()},
                networks=frozenset(networks),
            )
        return self._index


def _marks(index: _Index) -> dict[str, int]:
    """Return a number per app that changes with what is seen of it."""
    snapshot = index.snapshot
    nodes = hash(tuple((node.id, node.state, node.availability) for node in snapshot.nodes.values()))
    marks: dict[str, int] = {}
    for app, services in index.services.items():
        seen = [
            (
                service.id,
                service.version,
                tuple((task.id, task.state, task.desired_state) for task in snapshot.tasks.get(service.id, ())),
            )
            for service in services
        ]
        marks[app] = hash((nodes, tuple(seen)))
    for group in (snapshot.networks, snapshot.secrets, snapshot.configs):
        for name, held in group.items():
            app = held.labels.get(LABEL_APP, "")
            marks[app] = hash((marks.get(app, 0), name, held.id))
    return marks
