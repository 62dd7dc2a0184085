"""One Envoy: brings its files from what it has to what a table asks, in the order in which nothing is lost.

Clusters and endpoints are written first, beside those that are going; routes once Envoy has the clusters, or at once
with those that are not ready yet left out (their requests are held meanwhile); what is not used any more goes last,
when the routes are in force. Each step is taken from what is found, so it can be begun again anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from hunqi.gateway.admin import Admin, AdminUnreachableError, Clusters, Host
from hunqi.gateway.files import ResourceFiles
from hunqi.gateway.limits import make_room
from hunqi.gateway.model import (
    EndpointHealth,
    EndpointState,
    GatewayReport,
    InternalRoute,
    Place,
    Route,
    RouteTable,
    Target,
)
from hunqi.gateway.render import CLUSTERS, LISTENERS, Renderer

_FIRST: Final = ("eds/", "sds/")
_LAST: Final = ("rds/", LISTENERS)
"""In this order: a listener names route configurations, whose files must be there."""
_WARM_S: Final = 0.2
"""How long routes wait for new clusters before they are written without them."""
_PROGRESS: Final = r"(total_listeners_warming|update_rejected)$"


class Envoy:
    """The files and the admin interface of one Envoy. For one event loop; calls may come at the same time."""

    def __init__(self, folder: Path, place: Place, admin: Admin) -> None:
        """``folder`` is the place's folder as we see it."""
        self._place = place
        self._admin = admin
        self._files = ResourceFiles(folder)
        self._lock = asyncio.Lock()
        self._wanted: RouteTable | None = None
        self._renderer = Renderer(place)
        self._rendered: dict[str, tuple[str, ...]] = {}
        self._clusters: tuple[str, ...] | None = None
        """The clusters that were written last; unknown until read."""
        self._cold: frozenset[str] = frozenset()
        self._warm: frozenset[str] = frozenset()
        """Clusters that Envoy was once seen to have and that are still asked for."""
        self._settled = False
        self._to_ask = True
        """Whether something was written of which the versions in force do not tell everything."""
        self._in_force = 0
        self._rejections: dict[str, int] | None = None
        """How often what was refused before this table; unknown until asked."""
        self._counts: dict[str, int] = {}
        self._problem = ""

    @property
    def settled(self) -> bool:
        """Whether Envoy works by the last table, wholly, and nothing of the ones before is left."""
        return self._settled

    async def apply(self, table: RouteTable) -> None:
        """Write what ``table`` asks for. Returns before Envoy has all of it.

        Raises ``OSError``, ``TooManyFilesError``.
        """
        async with self._lock:
            rendered = await asyncio.to_thread(self._renderer.render, table)
            # Those that are going are watched until they have gone.
            await asyncio.to_thread(make_room, len(rendered.keys() | self._files.versions.keys()))
            self._settled = False
            self._wanted, self._rendered = table, rendered
            self._problem = ""
            await self._note_rejections()
            await asyncio.to_thread(self._write_clusters)
            fresh = frozenset(table.clusters) - self._warm
            self._cold = await self._wait_warm(fresh, _WARM_S) if fresh else frozenset()
            self._warm = frozenset(table.clusters) - self._cold
            await asyncio.to_thread(self._write_routes)

    async def observe(self) -> GatewayReport:
        """Ask Envoy what it has, and take the next step where one was left. Raises ``OSError``."""
        async with self._lock:
            try:
                clusters = await self._admin.clusters()
                if not self._settled:
                    await self._settle(clusters)
            except AdminUnreachableError as error:
                # It may come back as another process, which has nothing yet.
                self._settled, self._in_force = False, 0
                self._warm, self._rejections, self._to_ask = frozenset(), None, True
                return GatewayReport(node=self._place.node, version=0, running=False, endpoints=(), problem=str(error))
            return GatewayReport(
                node=self._place.node,
                version=self._in_force,
                running=True,
                endpoints=tuple(_endpoint(each) for each in clusters.hosts),
                problem=self._problem,
            )

    async def _settle(self, clusters: Clusters) -> None:
        if self._wanted is None:
            return
        if self._cold:
            cold = self._cold - clusters.names
            if cold != self._cold:
                self._warm |= self._cold - cold
                self._cold = cold
                await asyncio.to_thread(self._write_routes)
        missing, rejected, warming = await self._progress()
        if rejected:
            self._problem = f"Envoy refused a part of the table: {', '.join(sorted(rejected))}"
        if missing or warming or self._cold:
            return
        self._in_force = self._wanted.version
        if await asyncio.to_thread(self._tidy):
            return
        self._settled = True

    def _write_clusters(self) -> None:
        for path, resources in self._rendered.items():
            if path.startswith(_FIRST) and self._files.write(path, resources) and path.startswith("sds/"):
                self._to_ask = True
        self._files.write(CLUSTERS, self._with_leaving(self._rendered[CLUSTERS]))

    def _with_leaving(self, clusters: tuple[str, ...]) -> tuple[str, ...]:
        """Clusters that routes in force may still name stay until those routes have gone."""
        if self._clusters is None:
            self._clusters = tuple(json.dumps(each, separators=(",", ":")) for each in self._files.read(CLUSTERS))
        news, before = frozenset(clusters).difference(self._clusters), self._clusters
        if gone := frozenset(before).difference(clusters):
            named = {json.loads(each)["name"] for each in news}
            leaving = [each for each in before if each in gone and json.loads(each)["name"] not in named]
            clusters = (*clusters, *leaving) if leaving else clusters
        self._clusters = clusters
        return clusters

    def _write_routes(self) -> None:
        rendered = self._rendered
        if self._cold and self._wanted:
            rendered = self._renderer.render(without(self._wanted, self._cold))
        for stage in _LAST:
            for path, resources in rendered.items():
                if path.startswith(stage) and self._files.write(path, resources) and path == LISTENERS:
                    self._to_ask = True

    def _tidy(self) -> bool:
        """Remove what the routes in force do not name; return whether there was anything."""
        self._clusters = self._rendered[CLUSTERS]
        changed = self._files.write(CLUSTERS, self._clusters)
        gone = self._files.keep(self._rendered.keys())
        return changed or bool(gone)

    async def _wait_warm(self, wanted: frozenset[str], wait_s: float) -> frozenset[str]:
        """Wait until the clusters ``wanted`` are ready; return those that are not after ``wait_s``."""
        deadline = time.monotonic() + wait_s
        pause_s = 0.005
        while True:
            try:
                cold = wanted - (await self._admin.clusters()).names
            except AdminUnreachableError:
                # A starting Envoy takes requests only when all clusters of its first files are ready.
                return frozenset()
            if not cold or time.monotonic() > deadline:
                return cold
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)

    async def _progress(self) -> tuple[set[str], set[str], bool]:
        """Return the files not in force, the statistics that tell of a refusal, and whether listeners warm up."""
        texts = await self._admin.versions()
        # A certificate's version has no statistic: its file is there before any listener that names it.
        missing = {
            path
            for path, version in self._files.versions.items()
            if version not in texts and path in self._rendered and not path.startswith("sds/")
        }
        if not missing and not self._to_ask:
            return missing, set(), False
        said = await self._admin.stats(_PROGRESS)
        counts = _rejections(said)
        known = self._rejections or {}
        rejected = {name for name, count in counts.items() if count > known.get(name, 0)}
        self._counts = counts
        warming = bool(said.get("listener_manager.total_listeners_warming"))
        self._to_ask = bool(missing) or warming
        return missing, rejected, warming

    async def _note_rejections(self) -> None:
        """What was refused before is no news. Asked for once; after that the last answer will do."""
        if self._rejections is not None:
            self._rejections = self._counts
            return
        with contextlib.suppress(AdminUnreachableError):
            self._counts = self._rejections = _rejections(await self._admin.stats(r"update_rejected$"))


def without(table: RouteTable, clusters: Collection[str]) -> RouteTable:
    """Return ``table`` with routes that send nothing to ``clusters``; a route without any other holds its requests."""

    def rest(targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return tuple(each for each in targets if each.cluster not in clusters)

    def outer(route: Route) -> Route:
        mirror = replace(route.mirror, targets=rest(route.mirror.targets)) if route.mirror else None
        return replace(route, targets=rest(route.targets), mirror=mirror)

    def inner(route: InternalRoute) -> InternalRoute:
        return replace(route, targets=rest(route.targets))

    return replace(
        table,
        routes=tuple(outer(each) for each in table.routes),
        internal=tuple(inner(each) for each in table.internal),
    )


def _rejections(said: Mapping[str, int | str]) -> dict[str, int]:
    return {name: int(value) for name, value in said.items() if name.endswith("update_rejected") and value}


def _endpoint(host: Host) -> EndpointHealth:
    return EndpointHealth(
        cluster=host.cluster,
        address=host.address,
        port=host.port,
        healthy=host.healthy,
        active_requests=host.active_requests,
        failure=host.failure,
        state=EndpointState.DRAINING if host.draining else EndpointState.SERVING,
    )
