"""Gives every agent the table and hears back from it; the ``Routing`` of the reconciler.

One task pair per agent: one sends the latest table (those in between are skipped), one waits for reports. A gateway
counts as *live* while it runs and was heard of in the last seconds, so that a node that is gone delays nobody. All
waits are woken by reports and offers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from hunqi.apps.model import RouteSpec
from hunqi.apps.serving import HealthReport, Serving, Waited
from hunqi.engine.model import Snapshot
from hunqi.errors import HunqiError
from hunqi.gateway.faults import route_faults
from hunqi.gateway.model import Certificate, Edge, GatewayReport, RouteTable
from hunqi.gateway.standing import Standing, Standings
from hunqi.gateway.table import Part, as_served, assemble, build_part, tls_hosts

LIVE_S: Final = 5.0
POLL_S: Final = 2.5
"""How long an agent may keep a report to itself when nothing changes: half of what makes a gateway live."""
_RETRY_S: Final = 0.25
_RETRY_MOST_S: Final = 3.0
_ROSTER_S: Final = 1.0
_CHALLENGE_S: Final = 10.0
_SETTLE_S: Final = 0.1
"""Envoy's workers work by new endpoints a moment after it has said so."""
_log: Final = logging.getLogger(__name__)


class Reported(Protocol):
    """A report and the token with which to ask for the next change."""

    @property
    def seq(self) -> str:
        """Names the state reported."""
        ...

    @property
    def report(self) -> GatewayReport:
        """What the gateway has."""
        ...


class Agents(Protocol):
    """The agents, as ``hunqi.nodes.agent_client.AgentClient`` reaches them. Errors are ``HunqiError``."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ids of the nodes that have an agent."""
        ...

    async def push_table(self, node: str, table: RouteTable) -> int:
        """Give the node's gateway a table; return the version it is to work by."""
        ...

    async def report(self, node: str, *, after: str = "", wait_s: float = 30.0) -> Reported:
        """Return what the gateway has as soon as it differs from ``after``, or after ``wait_s``."""
        ...


class Publisher:
    """The gateways of the cluster. ``run`` does the work; all else returns at once or waits for facts."""

    def __init__(
        self,
        agents: Agents,
        *,
        edge: Edge,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``now`` (seconds since 1970) makes versions grow over restarts and changes of the leader."""
        self._agents = agents
        self._edge = edge
        self._monotonic = monotonic
        self._now = now
        self._certificates: tuple[Certificate, ...] = ()
        self._challenges: dict[str, str] = {}
        self._servings: dict[str, Serving] = {}
        self._snapshot: Snapshot | None = None
        self._parts: dict[str, tuple[Serving, object, Part]] = {}
        self._table: RouteTable | None = None
        self._problems: dict[str, list[str]] = {}
        self._standings = Standings(monotonic, live_s=LIVE_S)
        self._given: dict[str, tuple[int, float]] = {}
        """Node → the version that its agent took last, and when."""
        self._dirty = asyncio.Event()
        self._changed = asyncio.Condition()
        self._held: Callable[[str, str], None] = lambda _app, _service: None
        self._built = 0
        self._asked = 0

    @property
    def table(self) -> RouteTable | None:
        """The table that agents are given now; None before the first snapshot."""
        return self._table

    @property
    def servings(self) -> Mapping[str, Serving]:
        """What each app serves, by its last offer."""
        return self._servings

    def offer(self, serving: Serving) -> None:
        """Take in what ``serving.app`` is to serve from now on; latest wins; returns at once."""
        self._servings[serving.app] = serving
        self._touch()

    def withdraw(self, app: str) -> None:
        """Forget the app: its routes, clusters and networks go."""
        if self._servings.pop(app, None) is not None:
            self._touch()

    def observed(self, snapshot: Snapshot) -> None:
        """Take in the tasks that are there now; latest wins."""
        self._snapshot = snapshot
        down = {each.id for each in snapshot.nodes.values() if each.state == "down"}
        self._standings.set_down(down)
        self._touch()

    def configure(self, *, edge: Edge | None = None, certificates: Iterable[Certificate] | None = None) -> None:
        """Take in other settings of the edge or other certificates."""
        self._edge = edge or self._edge
        if certificates is not None:
            self._certificates = tuple(certificates)
        self._touch()

    async def publish_challenges(self, answers: Mapping[str, str]) -> None:
        """Have every gateway give these answers to an ACME authority and no others; returns when they do.

        Where no gateway can be waited for it returns after some seconds all the same: the authority will say so.
        """
        self._challenges = dict(answers)
        self._touch()
        needed = self._version_with_all()

        def reached() -> bool:
            version = needed()
            return version is not None and self._standings.all_at(version)

        if answers:
            await self._until(reached, _CHALLENGE_S)

    async def tls_hosts(self, *, other_than: frozenset[str] | None, wait_s: float) -> frozenset[str]:
        """Return the hosts that are routed over https, as soon as they are not ``other_than``, or after ``wait_s``."""

        def found() -> frozenset[str]:
            return tls_hosts(self._table) if self._table else frozenset()

        await self._until(lambda: found() != other_than, wait_s)
        return found()

    def problems(self, app: str) -> tuple[str, ...]:
        """Return sentences on routes of the app that cannot be served."""
        return tuple(self._problems.get(app, ()))

    def faults(self, route: RouteSpec) -> tuple[str, ...]:
        """Return what keeps the route from being served here, each a sentence with what to do."""
        return route_faults(as_served(route), self._edge)

    def on_held(self, told: Callable[[str, str], None]) -> None:
        """Have ``told`` called with app and service as long as a gateway says that requests wait for it."""
        self._held = told

    def reports(self) -> dict[str, GatewayReport]:
        """Return the last report of each live gateway, by node."""
        return {node: each.report for node, each in self._standings.live().items()}

    def health(self, backend: str) -> HealthReport:
        """Return what is known now, from memory: of no gateway where this process has no table to judge them by."""
        if self._table is None:
            return HealthReport(backend=backend, gateways=0, healthy=frozenset(), failures={})
        return self._standings.health(backend, self._endpoints(backend))

    async def wait_in_force(self, app: str, *, timeout_s: float) -> Waited:
        """Wait until every live gateway works by the last offer of ``app``; STOPPED once it is withdrawn."""
        needed = self._version_with_all()

        def reached() -> bool:
            version = needed()
            return version is not None and self._standings.all_at(version)

        known = app in self._servings
        return await self._until(reached, timeout_s, stopped=lambda: known and app not in self._servings)

    async def wait_healthy(self, backend: str, tasks: Collection[str], *, timeout_s: float) -> Waited:
        """Wait until every live gateway (there must be one) finds each of ``tasks`` healthy at each port."""
        wanted = frozenset(tasks)

        def reached() -> bool:
            report = self.health(backend)
            return report.gateways > 0 and wanted <= report.healthy

        return await self._until(reached, timeout_s)

    async def wait_drained(self, backend: str, tasks: Collection[str] | None = None, *, timeout_s: float) -> Waited:
        """Wait until no live gateway has a request open to the backend (or to these tasks of it)."""
        needed = self._version_with_all()
        only = None if tasks is None else frozenset(tasks)

        def reached() -> bool:
            version = needed()
            at = {each[1:] for each in self._endpoints(backend) if only is None or each[0] in only}
            return version is not None and self._standings.idle(version, at)

        deadline = self._monotonic() + timeout_s
        while (left := deadline - self._monotonic()) > 0:
            waited = await self._until(reached, left)
            if waited is not Waited.REACHED:
                return waited
            await asyncio.sleep(_SETTLE_S)
            if reached():
                return Waited.REACHED
        return Waited.TIMED_OUT

    async def run(self) -> None:
        """Build tables and speak to the agents until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._build_forever())
            await self._follow_roster(group, self._follow)

    async def listen(self) -> None:
        """Hear the gateways' reports until cancelled, and tell them nothing: for a process that does not lead."""
        async with asyncio.TaskGroup() as group:
            await self._follow_roster(group, self._hear_forever)

    def _touch(self) -> None:
        self._asked += 1
        self._dirty.set()

    async def _build_forever(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            asked = self._asked
            if self._snapshot is None:
                continue
            table = self._build(self._snapshot)
            self._built = asked
            if self._table is None or replace(table, version=self._table.version) != self._table:
                self._table = table
            await self._notify()

    def _build(self, snapshot: Snapshot) -> RouteTable:
        """Only apps whose offer or tasks changed are built anew."""
        parts: dict[str, tuple[Serving, object, Part]] = {}
        for app, serving in sorted(self._servings.items()):
            basis = _basis(serving, snapshot)
            kept = self._parts.get(app)
            if kept is None or kept[0] is not serving or kept[1] != basis:
                kept = (serving, basis, build_part(serving, snapshot))
            parts[app] = kept
        self._parts = parts
        last = self._table.version if self._table else 0
        version = max(last + 1, int(self._now() * 1000))
        every = [each[2] for each in parts.values()]
        table, problems = assemble(every, self._edge, self._certificates, version=version, challenges=self._challenges)
        self._problems = dict(problems)
        return table

    async def _follow_roster(
        self, group: asyncio.TaskGroup, follow: Callable[[str], Coroutine[None, None, None]]
    ) -> None:
        followed: dict[str, asyncio.Task[None]] = {}
        while True:
            nodes = set(self._agents.nodes)
            for node in nodes - followed.keys():
                followed[node] = group.create_task(follow(node))
            for node in followed.keys() - nodes:
                followed.pop(node).cancel()
                self._standings.forget(node)
                self._given.pop(node, None)
                await self._notify()
            await asyncio.sleep(_ROSTER_S)
            # Time alone makes a silent gateway drop out of what is waited for.
            await self._notify()

    async def _follow(self, node: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._push_forever(node))
            group.create_task(self._hear_forever(node))

    async def _push_forever(self, node: str) -> None:
        delay_s = _RETRY_S
        while True:
            async with self._changed:
                while self._table is None or self._table.version == self._given.get(node, (0, 0.0))[0]:
                    await self._changed.wait()
                table = self._table
            try:
                await self._agents.push_table(node, table)
                self._given[node] = (table.version, self._monotonic())
                delay_s = _RETRY_S
            except HunqiError as error:
                _log.warning("the gateway of node %s did not take the table: %s", node, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _RETRY_MOST_S)

    async def _hear_forever(self, node: str) -> None:
        delay_s = _RETRY_S
        after = ""
        while True:
            try:
                heard = await self._agents.report(node, after=after, wait_s=POLL_S)
            except HunqiError as error:
                _log.info("the gateway of node %s is not heard of: %s", node, error)
                after = ""
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _RETRY_MOST_S)
                continue
            delay_s = _RETRY_S
            news = heard.seq != after
            after = heard.seq
            self._standings.hear(node, Standing(heard.report, self._monotonic()))
            for each in heard.report.held:
                self._held(each.app, each.service)
            if self._lost_table(node, heard.report) or news:
                await self._notify()

    def _lost_table(self, node: str, report: GatewayReport) -> bool:
        """Whether the gateway works by an older table long after it was given the last: it is given it once more."""
        version, at = self._given.get(node, (0, 0.0))
        if report.version >= version or self._monotonic() - at < POLL_S:
            return False
        del self._given[node]
        return True

    def _version_with_all(self) -> Callable[[], int | None]:
        """Return what tells the version of the first table with all that has been asked for by now, once it is built.

        Later tables have it too, so that a stream of changes of other apps keeps nobody waiting.
        """
        asked = self._asked
        version: int | None = None

        def needed() -> int | None:
            nonlocal version
            if version is None and self._built >= asked and self._table is not None:
                version = self._table.version
            return version

        return needed

    def _endpoints(self, backend: str) -> list[tuple[str, str, str, int]]:
        """(task, cluster, address, port) of the backend's endpoints, by the table."""
        clusters = self._table.clusters.values() if self._table else ()
        return [
            (each.task, cluster.name, each.address, each.port)
            for cluster in clusters
            if cluster.name.rpartition(":")[0] == backend
            for each in cluster.endpoints
        ]

    async def _until(
        self, reached: Callable[[], bool], timeout_s: float, *, stopped: Callable[[], bool] = lambda: False
    ) -> Waited:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while not reached():
                    if stopped():
                        return Waited.STOPPED
                    await self._changed.wait()
                return Waited.REACHED
        except TimeoutError:
            return Waited.TIMED_OUT

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _basis(serving: Serving, snapshot: Snapshot) -> object:
    """What a part is made of besides the offer; compared by value."""
    tasks = tuple(snapshot.tasks_of(each.name) for each in serving.backends)
    networks = tuple(snapshot.networks.get(name) for name in serving.networks.values())
    return tasks, networks
