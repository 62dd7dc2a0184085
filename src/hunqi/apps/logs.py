"""Logs of an app: the lines of all its tasks, live, with service and node. Implements ``operations.Logs``.

Old lines are read first and put in order of time; a follower then follows every Swarm service from there, those that
come later too. Lines wait for a slow reader in a bounded queue; when it is full the sources wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Final

from hunqi.apps.logkeeping import LogKeeper
from hunqi.apps.observing import Watched
from hunqi.apps.operations import LogLine, LogQuery
from hunqi.apps.standing import Standing
from hunqi.apps.store import AppStore
from hunqi.engine.model import LogLine as EngineLine
from hunqi.engine.ports import Engine
from hunqi.errors import HunqiError

QUEUE_LINES: Final = 1000
RESCAN_S: Final = 1.0
"""How often a follower looks for Swarm services that are new."""
_OLD_S: Final = 20.0
"""Longest wait for the old lines of all services."""
_OLD_LINES: Final = 20_000

_log = logging.getLogger(__name__)


class AppLogs:
    """Opens logs."""

    def __init__(self, store: AppStore, watched: Watched, engine: Engine, keeper: LogKeeper) -> None:
        self._store = store
        self._watched = watched
        self._engine = engine
        self._keeper = keeper

    @asynccontextmanager
    async def open(self, app: str, query: LogQuery) -> AsyncGenerator[AsyncIterator[LogLine]]:
        """Open a stream of lines; see ``operations.Logs``."""
        await self._store.find(app)
        reading = _Reading(self._engine, query)
        kept: list[LogLine] = []
        if query.removed:
            kept = await asyncio.to_thread(self._keeper.read, app, services=query.services, tail=query.tail)
        nodes, standings = await self._standings(app, query)
        old = [*kept, *await reading.old(standings, nodes)]
        if not query.follow:
            async with aclosing(_given(old)) as lines:
                yield lines
            return
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow(app, query, reading))
            try:
                async with aclosing(reading.lines(old)) as lines:
                    yield lines
            finally:
                following.cancel()

    async def _follow(self, app: str, query: LogQuery, reading: _Reading) -> None:
        """Follow each Swarm service of the app, those that are new too."""
        followed: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                nodes, standings = await self._standings(app, query)
                for standing in standings:
                    if standing.name not in followed:
                        followed.add(standing.name)
                        group.create_task(reading.follow(standing, nodes))
                await asyncio.sleep(RESCAN_S)

    async def _standings(self, app: str, query: LogQuery) -> tuple[dict[str, str], list[Standing]]:
        snapshot = await self._watched.snapshot()
        nodes = {node.id: node.hostname for node in snapshot.nodes.values()}
        found = self._watched.standings(app, snapshot).values()
        return nodes, [each for each in found if not query.services or each.key in query.services]


class _Reading:
    """The lines of several services on their way to one reader."""

    def __init__(self, engine: Engine, query: LogQuery) -> None:
        self._engine = engine
        self._query = query
        self._queue: asyncio.Queue[LogLine] = asyncio.Queue(QUEUE_LINES)
        self._last: dict[str, str] = {}
        """Task → the time of the last line that was given."""

    async def old(self, standings: Sequence[Standing], nodes: dict[str, str]) -> list[LogLine]:
        """Return the lines there are, in order of time."""
        found: list[LogLine] = []

        async def read(standing: Standing) -> None:
            try:
                async with self._engine.services.logs(
                    standing.name, tail=self._query.tail, since_s=_seconds(self._query.since)
                ) as lines:
                    async for line in lines:
                        if len(found) < _OLD_LINES:
                            found.append(_shown(line, standing, nodes))
            except HunqiError as error:
                _log.info("service=%s: its log cannot be read: %s", standing.name, error)

        try:
            async with asyncio.timeout(_OLD_S), asyncio.TaskGroup() as group:
                for standing in standings:
                    group.create_task(read(standing))
        except TimeoutError:
            _log.info("not all old lines could be read in %s s", _OLD_S)
        found.sort(key=lambda line: line.at)
        for line in found:
            self._last[line.task] = line.at
        return found

    async def follow(self, standing: Standing, nodes: dict[str, str]) -> None:
        """Put the lines of a service after those that were given into the queue, until it is gone."""
        since = min((self._last[task.id] for task in standing.tasks if task.id in self._last), default=None)
        try:
            async with self._engine.services.logs(
                standing.name, follow=True, since_s=_seconds(since or self._query.since)
            ) as lines:
                async for line in lines:
                    if line.time > self._last.get(line.task, ""):
                        await self._queue.put(_shown(line, standing, nodes))
        except HunqiError as error:
            _log.info("service=%s: its log cannot be followed: %s", standing.name, error)

    async def lines(self, old: Sequence[LogLine]) -> AsyncGenerator[LogLine]:
        """Yield old lines, then new ones as they come."""
        for line in old:
            yield line
        while True:
            yield await self._queue.get()


async def _given(lines: Sequence[LogLine]) -> AsyncGenerator[LogLine]:
    for line in lines:
        yield line


def _shown(line: EngineLine, standing: Standing, nodes: dict[str, str]) -> LogLine:
    return LogLine(
        service=standing.key,
        revision=standing.revision,
        task=line.task,
        node=nodes.get(line.node, line.node),
        stream=line.stream,
        at=line.time,
        text=line.text,
    )


def _seconds(moment: str | None) -> int | None:
    """Return the second of an RFC 3339 time, which may have nanoseconds."""
    if moment is None:
        return None
    whole, _, fraction = moment.partition(".")
    zone = "+00:00" if fraction or moment.endswith("Z") else ""
    return int(datetime.fromisoformat(whole.removesuffix("Z") + zone).timestamp())
