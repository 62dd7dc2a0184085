"""The table that this node's gateway works by: control's last one, with this agent's own drain marks over it.

Both lie on disk, so an agent that starts while control is away serves by what it had. The gateway gets a number of our
own instead of control's version, since a mark changes what it serves without control; reports are translated back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hunqi.agent.ports import Gateway
from hunqi.errors import HunqiError
from hunqi.gateway.model import Endpoint, EndpointState, GatewayReport, RouteTable
from hunqi.kit.codec import dumps, loads
from hunqi.kit.files import write_atomic

_RETRY_S: Final = 0.5
_RETRY_MOST_S: Final = 10.0
_REMEMBERED: Final = 256
"""Numbers of which we still know control's version."""
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTable:
    """The file: control's table, and the number under which the gateway last got one."""

    number: int
    table: RouteTable


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMarks:
    """The file of marks: task → seconds since 1970 until which it takes nothing new."""

    until: Mapping[str, float] = field(default_factory=dict[str, float])


def merge(table: RouteTable, marked: Iterable[str], *, number: int) -> RouteTable:
    """Return ``table`` under ``number`` with the endpoints of the marked tasks draining."""
    tasks = frozenset(marked)

    def mark(endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, state=EndpointState.DRAINING) if endpoint.task in tasks else endpoint

    touched = {
        name: replace(cluster, endpoints=tuple(mark(each) for each in cluster.endpoints))
        for name, cluster in table.clusters.items()
        if any(each.task in tasks for each in cluster.endpoints)
    }
    return replace(table, version=number, clusters={**table.clusters, **touched})


class Tables:
    """What the gateway is to do, and whether it does. :meth:`run` brings it there; everything else returns soon."""

    def __init__(self, gateway: Gateway, directory: Path, *, clock: Callable[[], float]) -> None:
        """Keep files in ``directory``; ``clock`` tells seconds since 1970."""
        self._gateway = gateway
        self._table_file = directory / "table.json"
        self._marks_file = directory / "marks.json"
        self._clock = clock
        self._table: RouteTable | None = None
        self._marks: dict[str, float] = {}
        self._number = 0
        self._versions: dict[int, int] = {}
        self._dirty = asyncio.Event()
        self._files = asyncio.Lock()
        self.problem = ""
        """Why the last try to have the gateway work by the table failed; empty if it did not."""

    @property
    def version(self) -> int:
        """Control's version of the table that was taken last, 0 without one."""
        return self._table.version if self._table else 0

    @property
    def number(self) -> int:
        """Our own number of what the gateway is to work by now."""
        return self._number

    @property
    def marked(self) -> frozenset[str]:
        """Tasks that take nothing new by this agent's own marks."""
        now = self._clock()
        return frozenset(task for task, until in self._marks.items() if until > now)

    def load(self) -> None:
        """Take up what an earlier agent left; what cannot be read is left alone, and control asked for it anew."""
        try:
            self._marks = dict(loads(KeptMarks, self._marks_file.read_bytes()).until)
        except (OSError, HunqiError) as error:
            _note(error, self._marks_file)
        try:
            kept = loads(KeptTable, self._table_file.read_bytes())
        except (OSError, HunqiError) as error:
            _note(error, self._table_file)
            return
        self._table, self._number = kept.table, kept.number
        self._changed()

    async def take(self, text: bytes) -> int:
        """Work by the table that is ``text`` from now on; return its version once it is on disk.

        Raises ``CodecError`` and ``OSError``.
        """
        table = loads(RouteTable, text)
        async with self._files:
            if self._table == table:
                return table.version
            self._table = table
            self._changed()
            # As it came: to encode it again would take as long as to read it.
            kept = b'{"number":%d,"table":%b}' % (self._number, text)
            await asyncio.to_thread(write_atomic, self._table_file, kept, mode=0o600)
        return table.version

    async def mark(self, tasks: Iterable[str], *, for_s: float) -> int:
        """Have the tasks take nothing new for ``for_s``; return the number that the gateway has to reach for it."""
        async with self._files:
            now = self._clock()
            new = dict.fromkeys(tasks, now + for_s)
            is_news = bool(self.addresses(new.keys() - self.marked))
            self._marks = {task: until for task, until in {**self._marks, **new}.items() if until > now}
            if is_news:
                self._changed()
            await asyncio.to_thread(_write, self._marks_file, KeptMarks(until=self._marks))
        return self._number

    def addresses(self, tasks: Iterable[str]) -> frozenset[tuple[str, str, int]]:
        """Return (cluster, address, port) of the endpoints of ``tasks``."""
        wanted = frozenset(tasks)
        clusters = self._table.clusters.values() if self._table else ()
        return frozenset(
            (cluster.name, each.address, each.port)
            for cluster in clusters
            for each in cluster.endpoints
            if each.task in wanted
        )

    def draining(self) -> frozenset[tuple[str, str, int]]:
        """Return (cluster, address, port) of all that takes nothing new, by control or by us."""
        marked = self.marked
        clusters = self._table.clusters.values() if self._table else ()
        return frozenset(
            (cluster.name, each.address, each.port)
            for cluster in clusters
            for each in cluster.endpoints
            if each.task in marked or each.state is EndpointState.DRAINING
        )

    def leaves_none(self, tasks: Collection[str], healthy: frozenset[tuple[str, str, int]]) -> bool:
        """Whether ``tasks`` are the last ``healthy`` ones of some cluster that gets traffic."""
        leaving = frozenset(tasks) | self.marked
        routed = _targets(self._table) if self._table else frozenset[str]()
        for cluster in self._table.clusters.values() if self._table else ():
            up = [each for each in cluster.endpoints if (cluster.name, each.address, each.port) in healthy]
            if cluster.name not in routed or not any(each.task in tasks for each in up):
                continue
            if not any(each.task not in leaving and each.state is EndpointState.SERVING for each in up):
                return True
        return False

    def translate(self, report: GatewayReport) -> GatewayReport:
        """Return the gateway's report with control's version in place of our number (0 if it is none of ours)."""
        return replace(report, version=self._versions.get(report.version, 0), problem=report.problem or self.problem)

    async def run(self) -> None:
        """Have the gateway work by the latest, until cancelled; tries again after a failure."""
        delay_s = _RETRY_S
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if self._table is None:
                continue
            try:
                await self._gateway.apply(merge(self._table, self.marked, number=self._number))
                self.problem, delay_s = "", _RETRY_S
            except (HunqiError, OSError) as error:
                self.problem = str(error)
                _log.warning("the gateway did not take the table: %s", error)
                await asyncio.sleep(delay_s)
                delay_s = min(_RETRY_MOST_S, delay_s * 2)
                self._dirty.set()

    def _changed(self) -> None:
        # Grows over restarts too, marks included, which do not write the number.
        self._number = max(self._number + 1, int(self._clock() * 1000))
        self._versions[self._number] = self.version
        for old in list(self._versions)[:-_REMEMBERED]:
            del self._versions[old]
        self._dirty.set()


def _targets(table: RouteTable) -> frozenset[str]:
    """Return the clusters that some route sends traffic to."""
    routes = (*table.routes, *table.internal)
    return frozenset(target.cluster for route in routes for target in route.targets if target.weight)


def _write(path: Path, value: object) -> None:
    write_atomic(path, dumps(value).encode(), mode=0o600)


def _note(error: Exception, path: Path) -> None:
    if not isinstance(error, FileNotFoundError):
        _log.warning("%s cannot be read and is left alone: %s", path, error)
