"""Asks every agent of the roster for its sample, again and again, each on its own.

Every few seconds, and every second for a while after somebody has said that it matters (``attend``). With the question
goes what the node's tasks are to be asked for themselves; to the answer is added what only control knows, the
reservations. An agent that does not answer has no sample: what was not measured is nowhere a zero.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final, Protocol

from hunqi.apps.metrics_spec import MetricsSpec
from hunqi.apps.serving import Serving
from hunqi.engine.model import LABEL_APP, LABEL_REVISION, LABEL_SERVICE, Snapshot, TaskState
from hunqi.engine.parse import part
from hunqi.errors import HunqiError
from hunqi.nodes.wire import ScrapeOrder, ScrapeTarget
from hunqi.telemetry.wire import NodeSample, TaskCounts

INTERVAL_S: Final = 5.0
ATTENDED_S: Final = 1.0
ATTEND_S: Final = 60.0
ROSTER_S: Final = 1.0
_NANO: Final = 1e9
_log: Final = logging.getLogger(__name__)
Record = Callable[[NodeSample], None]


class MeasuringAgents(Protocol):
    """The agents."""

    @property
    def nodes(self) -> Collection[str]:
        """Ids of the nodes that have one."""
        ...

    async def measure(self, node: str, order: ScrapeOrder) -> NodeSample:
        """Return what the node has measured."""
        ...


class Measurements:
    """The loop. For one event loop; ``run`` where this process leads."""

    def __init__(
        self,
        agents: MeasuringAgents,
        record: Record,
        *,
        servings: Callable[[], Mapping[str, Serving]],
        snapshot: Callable[[], Snapshot | None],
        monotonic: Callable[[], float] = time.monotonic,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """``record`` is given each sample as it comes; ``servings`` say which tasks count by themselves."""
        self._agents = agents
        self._record = record
        self._servings = servings
        self._snapshot = snapshot
        self._monotonic = monotonic
        self._interval_s = interval_s
        self._attended: dict[str, float] = {}
        self._woken = asyncio.Event()
        self._reserved: tuple[Snapshot | None, dict[tuple[str, str, int], tuple[float | None, int | None]]] = None, {}
        self.problems: dict[str, str] = {}
        """Node → why its last sample is missing, in a sentence; none for those that were heard."""

    def attend(self, app: str, *, for_s: float = ATTEND_S) -> None:
        """Measure every second for the next ``for_s``: something of ``app`` is decided by it."""
        self._attended[app] = max(self._attended.get(app, 0.0), self._monotonic() + for_s)
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        asked: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                nodes = set(self._agents.nodes)
                for node in nodes - asked.keys():
                    asked[node] = group.create_task(self._ask_forever(node), name=f"measuring {node}")
                for node in asked.keys() - nodes:
                    asked.pop(node).cancel()
                    self.problems.pop(node, None)
                await asyncio.sleep(ROSTER_S)

    async def _ask_forever(self, node: str) -> None:
        while True:
            began = self._monotonic()
            await self._ask(node)
            while (left := began + self._every_s() - self._monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._woken.wait()

    async def _ask(self, node: str) -> None:
        try:
            sample = await self._agents.measure(node, self._order(node))
        except HunqiError as error:
            if node not in self.problems:
                _log.warning("node %s is not measured: %s", node, error)
            self.problems[node] = str(error)
            return
        if self.problems.pop(node, None):
            _log.info("node %s is measured again", node)
        self._record(self._with_reservations(sample))

    def _every_s(self) -> float:
        now = self._monotonic()
        self._attended = {app: until for app, until in self._attended.items() if until > now}
        return min(ATTENDED_S, self._interval_s) if self._attended else self._interval_s

    def _order(self, node: str) -> ScrapeOrder:
        snapshot = self._snapshot()
        wanted = _scraped(self._servings())
        if snapshot is None or not wanted:
            return ScrapeOrder()
        targets = [
            ScrapeTarget(task=task.id, port=spec.port, path=spec.path, names=spec.names)
            for service in snapshot.services.values()
            if (spec := wanted.get((service.labels.get(LABEL_APP, ""), service.labels.get(LABEL_SERVICE, ""))))
            for task in snapshot.tasks.get(service.id, ())
            if task.node_id == node and task.state is TaskState.RUNNING
        ]
        return ScrapeOrder(targets=tuple(targets))

    def _with_reservations(self, sample: NodeSample) -> NodeSample:
        snapshot = self._snapshot()
        if self._reserved[0] is not snapshot:
            self._reserved = snapshot, _reservations(snapshot) if snapshot else {}
        reserved = self._reserved[1]
        if not reserved:
            return sample

        def add(task: TaskCounts) -> TaskCounts:
            cpu, memory = reserved.get((task.app, task.service, task.revision), (None, None))
            if cpu is None and memory is None:
                return task
            return replace(task, cpu_request_cores=cpu, memory_request_bytes=memory or task.memory_request_bytes)

        return replace(sample, tasks=tuple(add(each) for each in sample.tasks))


def _scraped(servings: Mapping[str, Serving]) -> dict[tuple[str, str], MetricsSpec]:
    """Return the services that count by themselves: by the spec in force, else by that of the lane."""
    found: dict[tuple[str, str], MetricsSpec] = {}
    for app, serving in servings.items():
        specs = (serving.lane.spec, serving.spec) if serving.lane else (serving.spec,)
        for spec in specs:
            found.update({(app, name): each.metrics for name, each in spec.services.items() if each.metrics})
    return found


def _reservations(snapshot: Snapshot) -> dict[tuple[str, str, int], tuple[float | None, int | None]]:
    found: dict[tuple[str, str, int], tuple[float | None, int | None]] = {}
    for service in snapshot.services.values():
        asked = part(part(part(service.spec, "TaskTemplate"), "Resources"), "Reservations")
        revision = service.labels.get(LABEL_REVISION, "")
        if asked and revision.isdecimal():
            key = service.labels.get(LABEL_APP, ""), service.labels.get(LABEL_SERVICE, ""), int(revision)
            found[key] = ((asked.get("NanoCPUs") or 0) / _NANO or None, asked.get("MemoryBytes") or None)
    return found
