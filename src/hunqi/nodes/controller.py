"""Keeps nodes as they are meant to be: observe, plan, one step, a sentence.

What is meant is written down before anything is done (``store``), so control may die anywhere and go on. The gateways'
word on health comes from ``Routing``; the engine's from the observer's snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol, assert_never

from hunqi.apps.serving import HealthReport, Surge
from hunqi.engine.errors import ConflictError, NotFoundError
from hunqi.engine.model import JSON, Node, Snapshot
from hunqi.errors import HunqiError
from hunqi.nodes.errors import NodeNotFoundError, NodeRefusedError
from hunqi.nodes.fit import keeps_quorum_without
from hunqi.nodes.model import SURGING, DrainProgress, DrainStep, Intent, NodeRecord
from hunqi.nodes.plan import Forget, Mark, Outlook, Scale, SetAvailability, Step, Wait, plan
from hunqi.nodes.store import NodeStore

_BUSY_S: Final = 0.5
_IDLE_S: Final = 15.0
_PAUSE_S: Final = 0.1
"""Between two looks at least, however often it is woken."""
_MOST_STEPS: Final = 64
"""Steps for one node in one round."""
_log: Final = logging.getLogger(__name__)


class Observer(Protocol):
    """A snapshot of our part of the Swarm."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The last one, kept fresh by events; None before the first."""
        ...

    async def refresh(self) -> Snapshot:
        """Observe now and return what is there."""
        ...


class Services(Protocol):
    """Services of the engine."""

    async def update(self, service: str, version: int, spec: JSON, /) -> None:
        """Replace the spec. Raises ``ConflictError``."""
        ...


class Nodes(Protocol):
    """Nodes of the engine."""

    async def update(self, node: Node, /, *, availability: str | None = None) -> None:
        """Change what is given. Raises ``ConflictError``."""
        ...

    async def remove(self, node: str, /, *, force: bool = False) -> None:
        """Forget a node. Raises ``NotFoundError``."""
        ...


class Gateways(Protocol):
    """What the gateways find healthy (a part of ``Routing``)."""

    def health(self, backend: str) -> HealthReport:
        """Return what is known now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWorld:
    """What the controller works with."""

    store: NodeStore
    observer: Observer
    services: Services
    nodes: Nodes
    gateways: Gateways
    now: Callable[[], datetime]
    tell: Callable[[str, str], Awaitable[None]]
    """Told of each thing done: node (host name), sentence."""


class NodeController:
    """Empties nodes, takes them up again, forgets them. :meth:`run` on the leader only."""

    def __init__(self, world: NodeWorld) -> None:
        self._world = world
        self._wake = asyncio.Event()
        self._surge = Surge()
        self._sentences: dict[str, str] = {}
        self._steps = 0

    def surge(self) -> Surge:
        """Return what apps are to bear with now, from memory: the reconciler of apps asks it at each look."""
        return self._surge

    def sentence(self, node: str) -> str:
        """Return what is going on with a node (by id), empty if nothing is."""
        return self._sentences.get(node, "")

    def wake(self) -> None:
        """Look soon: something has changed."""
        self._wake.set()

    async def drain(self, name: str, *, force: bool = False) -> NodeRecord:
        """Have a node emptied, and kept empty. Raises ``NodeNotFoundError``."""
        return await self._mean(name, Intent.DRAIN, force=force)

    async def activate(self, name: str) -> NodeRecord:
        """Have a node take tasks again. Raises ``NodeNotFoundError``."""
        return await self._mean(name, Intent.ACTIVE, force=False)

    async def remove(self, name: str, *, force: bool = False) -> NodeRecord:
        """Have a node emptied and forgotten. Raises ``NodeNotFoundError``, ``NodeRefusedError``."""
        snapshot = await self._world.observer.refresh()
        node = _find(snapshot, name)
        if node is None:
            raise NodeNotFoundError(name)
        if node.role == "manager" and node.state != "down":
            raise NodeRefusedError(f"{node.hostname} is a manager: hunqi node set {node.hostname} --role worker first")
        if not keeps_quorum_without(snapshot.nodes.values(), node.id) and not force:
            raise NodeRefusedError(f"without {node.hostname} the managers have no majority: add managers first")
        return await self._mean(name, Intent.REMOVE, force=force)

    async def load(self) -> None:
        """Remember what was meant before this process began, so that :meth:`surge` holds from the first look on."""
        self._remember(await self._world.store.records())

    async def run(self) -> None:
        """Keep nodes as they are meant to be, until cancelled."""
        while True:
            self._wake.clear()
            try:
                is_busy = await self.tick()
            except HunqiError as error:
                _log.warning("nodes are looked at again soon: %s", error)
                is_busy = True
            await asyncio.sleep(_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BUSY_S if is_busy else _IDLE_S):
                    await self._wake.wait()

    async def tick(self) -> bool:
        """Do what can be done now for every node; return whether something is still on its way."""
        records = dict(await self._world.store.records())
        self._remember(records)
        under_way = any(each.progress and each.progress.step is not DrainStep.EMPTY for each in records.values())
        kept = None if under_way else self._world.observer.snapshot
        # What is kept will do to find out that nothing is to be done.
        snapshot = kept or await self._world.observer.refresh()
        for node in snapshot.nodes.values():
            records.setdefault(node.id, NodeRecord(node=node.id, name=node.hostname))
        is_busy = False
        for node in list(records):
            steps = self._steps
            is_busy |= await self._bring_on(node, records, snapshot)
            if self._steps != steps:  # what one node's emptying changed counts for the next one's
                snapshot = await self._world.observer.refresh()
        return is_busy

    async def _bring_on(self, node: str, records: dict[str, NodeRecord], snapshot: Snapshot) -> bool:
        for _ in range(_MOST_STEPS):
            step = self._plan(node, records, snapshot)
            if isinstance(step, Wait):
                self._say(node, "" if step.done else step.sentence)
                return not step.done
            self._steps += 1
            try:
                await self._do(records[node], step, snapshot)
            except ConflictError:
                snapshot = await self._world.observer.refresh()
                continue  # it had changed since it was seen
            self._say(node, step.sentence)
            _log.info("node %s: %s", records[node].name, step.sentence)
            await self._world.tell(records[node].name, step.sentence)
            if isinstance(step, Forget):
                del records[node]
                self._remember(records)
                return False
            if isinstance(step, Mark):
                records[node] = replace(records[node], progress=step.progress)
                self._remember(records)
            else:
                snapshot = await self._world.observer.refresh()
        return True

    def _plan(self, node: str, records: Mapping[str, NodeRecord], seen: Snapshot) -> Step:
        record = records[node]
        others = [each for each in records.values() if each.node != node]
        return plan(
            Outlook(
                record=record,
                node=seen.nodes.get(node),
                snapshot=seen,
                healthy=self._healthy,
                now=self._world.now().timestamp(),
                wanted=_extras(others),
            )
        )

    async def _do(self, record: NodeRecord, step: Mark | SetAvailability | Scale | Forget, snapshot: Snapshot) -> None:
        world = self._world
        match step:
            case Mark():
                await world.store.set_intent(record.node, record.name, record.intent, step.progress, now=world.now())
            case SetAvailability():
                await world.nodes.update(snapshot.nodes[record.node], availability=step.availability)
            case Scale():
                service = snapshot.services.get(step.service)
                if service is None:
                    return
                mode = {"Replicated": {"Replicas": step.replicas}}
                await world.services.update(service.id, service.version, {**service.spec, "Mode": mode})
            case Forget():
                try:
                    await world.nodes.remove(record.node, force=True)
                except NotFoundError:
                    _log.debug("node %s had left the Swarm", record.name)
                if record.node in await world.store.records():
                    await world.store.remove(record.node)
            case _:
                assert_never(step)

    async def _mean(self, name: str, intent: Intent, *, force: bool) -> NodeRecord:
        snapshot = await self._world.observer.refresh()
        node = _find(snapshot, name)
        records = await self._world.store.records()
        if node:
            record = records.get(node.id) or NodeRecord(node=node.id, name=node.hostname)
        else:
            found = next((each for each in records.values() if name in {each.name, each.node}), None)
            if found is None:
                raise NodeNotFoundError(name)
            record = found
        record = replace(record, intent=intent, progress=_begin(record, intent, force=force, now=self._world.now()))
        await self._world.store.set_intent(
            record.node, record.name, record.intent, record.progress, now=self._world.now()
        )
        self.wake()
        return record

    def _healthy(self, service: str) -> frozenset[str] | None:
        report = self._world.gateways.health(service)
        return report.healthy if report.gateways else None

    def _remember(self, records: Mapping[str, NodeRecord]) -> None:
        self._surge = Surge(extra=_extras(records.values()))
        self._sentences = {node: text for node, text in self._sentences.items() if node in records}

    def _say(self, node: str, sentence: str) -> None:
        if sentence:
            self._sentences[node] = sentence
        else:
            self._sentences.pop(node, None)


def _begin(record: NodeRecord, intent: Intent, *, force: bool, now: datetime) -> DrainProgress | None:
    at = now.astimezone(UTC).timestamp()
    progress = record.progress
    if intent is Intent.ACTIVE:
        return replace(progress or DrainProgress(), step=DrainStep.ACTIVATE, since=at)
    if progress is None or (record.intent is Intent.ACTIVE and progress.step is DrainStep.ACTIVATE):
        return DrainProgress(since=at, force=force)
    return replace(progress, force=force)


def _extras(records: Iterable[NodeRecord]) -> Mapping[str, int]:
    """Return the replicas that services have on account of nodes that are being emptied."""
    extra: dict[str, int] = {}
    for record in records:
        if record.progress and record.progress.step in SURGING:
            for name, each in record.progress.surge.items():
                extra[name] = extra.get(name, 0) + each.more
    return extra


def _find(snapshot: Snapshot, name: str) -> Node | None:
    return snapshot.nodes.get(name) or next((node for node in snapshot.nodes.values() if node.hostname == name), None)
