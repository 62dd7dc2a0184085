"""Containers that the engine stops: drained everywhere first, then given the app's own stop signal.

A drained service's containers have a stop signal that processes ignore, and a grace of drain + the app's own. So the
engine's ``kill`` event says that a task is to go while it still serves. What was begun is on disk before anything is
done: an agent that was restarted goes on where it was, and asks the engine for the events that it missed. All of it
works without control.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hunqi.agent.drains import Drains
from hunqi.agent.errors import BadRequestError, GoneError
from hunqi.agent.ports import Container, Containers, Images, Peers, System
from hunqi.agent.processes import parse_signal, send_signal
from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import DRAIN_SIGNAL, JSON, LABEL_CLUSTER, LABEL_DRAIN, LABEL_STOP_SIGNAL, Event
from hunqi.errors import HunqiError
from hunqi.kit.codec import dumps, loads
from hunqi.kit.files import write_atomic
from hunqi.nodes.errors import AgentUnreachableError
from hunqi.nodes.model import Roster

TASK_LABEL: Final = "com.docker.swarm.task.id"
LOOK_BACK_S: Final = 3600.0
"""Events that an agent asks for at its start; no drain takes longer."""
REFUSED_S: Final = 5.0
"""So long an agent that is being restarted is waited for; a node that is silent is not waited for twice."""
_RETRY_S: Final = 0.3
_RECONNECT_S: Final = 0.5
_MOST_STOPS: Final = 512
_KILL: Final = str(int(signal.Signals[DRAIN_SIGNAL]))
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A container that is to stop. Times in seconds; ``began_at`` since 1970."""

    container: str
    task: str
    signal: str
    """The app's own stop signal; empty for the image's."""
    drain_s: float
    began_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStops:
    """The file: stops whose signal has not been sent, and containers (ids) that had theirs."""

    stops: tuple[Stop, ...] = ()
    sent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWorld:
    """What stopping needs of others."""

    system: System
    containers: Containers
    images: Images
    drains: Drains
    peers: Peers
    roster: Callable[[], Roster]
    clock: Callable[[], float]
    """Seconds since 1970: the engine's events are in these."""
    send: Callable[[int, str, int], None] = send_signal


def read_stop(labels: Mapping[str, str], container: str, *, began_at: float) -> Stop | None:
    """Return the stop that the labels of a container ask for, None if it is not drained."""
    task, drain = labels.get(TASK_LABEL), labels.get(LABEL_DRAIN)
    if not task or drain is None:
        return None
    try:
        drain_s = max(0.0, min(LOOK_BACK_S, float(drain)))
    except ValueError:
        drain_s = 0.0
    own = labels.get(LABEL_STOP_SIGNAL, "")
    return Stop(container=container, task=task, signal=own, drain_s=drain_s, began_at=began_at)


@dataclass(slots=True)
class _Known:
    stops: dict[str, Stop] = field(default_factory=dict[str, Stop])
    sent: dict[str, None] = field(default_factory=dict[str, None])


class Stops:
    """Watches the engine's events for containers of ``cluster`` that are to stop, and sees them off."""

    def __init__(self, world: StopWorld, directory: Path, *, cluster: str, node: str) -> None:
        self._world = world
        self._file = directory / "stops.json"
        self._cluster = cluster
        self._node = node
        self._known = _Known()
        self._since = 0.0
        self._died: dict[str, asyncio.Event] = {}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that are on their way out here."""
        return tuple(stop.task for stop in self._known.stops.values())

    async def run(self) -> None:
        """Watch and stop until cancelled."""
        self._since = self._world.clock() - LOOK_BACK_S
        async with asyncio.TaskGroup() as group:
            for stop in self._load():
                self._begin(group, stop)
            while True:
                try:
                    await self._watch(group)
                except HunqiError as error:
                    _log.warning("the engine's events are not to be had: %s", error)
                await asyncio.sleep(_RECONNECT_S)

    async def _watch(self, group: asyncio.TaskGroup) -> None:
        since_ns = int(self._since * 1e9)
        async with self._world.system.events(since_ns=since_ns, kinds=["container"]) as events:
            async for event in events:
                self._since = max(self._since, event.time_ns / 1e9)
                self._take(group, event)

    def _take(self, group: asyncio.TaskGroup, event: Event) -> None:
        if event.action == "die":
            died = self._died.get(event.id)
            if died:
                died.set()
            return
        attributes = event.attributes
        if event.action != "kill" or attributes.get("signal") != _KILL or event.id in self._known.sent:
            return
        if attributes.get(LABEL_CLUSTER) != self._cluster:
            return
        stop = read_stop(event.attributes, event.id, began_at=event.time_ns / 1e9)
        if stop is None:
            return
        if len(self._known.stops) >= _MOST_STOPS:
            _log.warning("too many tasks stop at once: %s is left to the engine", stop.task)
            return
        self._begin(group, stop)

    def _begin(self, group: asyncio.TaskGroup, stop: Stop) -> None:
        if stop.container in self._known.stops:
            return
        self._known.stops[stop.container] = stop
        self._died[stop.container] = asyncio.Event()
        group.create_task(self._see_off(stop), name=f"stop {stop.container[:12]}")

    async def _see_off(self, stop: Stop) -> None:
        # Cancelled (the agent is stopping), it stays known: the next agent goes on with it.
        try:
            if await self._running(stop):
                await self._keep()
                left_s = stop.began_at + stop.drain_s - self._world.clock()
                if left_s > 0:
                    _log.info("task %s is to stop: draining for up to %.1f s", stop.task, left_s)
                    await self._until_idle_or_dead(stop, left_s)
                await self._signal(stop)
        except HunqiError as error:
            _log.warning("task %s is left to the engine: %s", stop.task, error)
        self._forget(stop.container)
        await self._keep()

    async def _until_idle_or_dead(self, stop: Stop, left_s: float) -> None:
        died = self._died[stop.container]

        async def watch_death() -> None:
            await died.wait()
            draining.cancel()

        async with asyncio.TaskGroup() as group:
            draining = group.create_task(self._drain_everywhere(stop, left_s))
            death = group.create_task(watch_death())
            draining.add_done_callback(lambda _done: death.cancel())

    async def _drain_everywhere(self, stop: Stop, left_s: float) -> None:
        deadline = asyncio.get_running_loop().time() + left_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s + 1.0), asyncio.TaskGroup() as group:
                group.create_task(self._drain_here(stop, left_s))
                for member in self._world.roster().members:
                    if member.node != self._node:
                        group.create_task(self._drain_there(member.node, stop, deadline))

    async def _drain_here(self, stop: Stop, left_s: float) -> None:
        try:
            await self._world.drains.drain([stop.task], timeout_s=left_s)
        except OSError as error:
            _log.error("the drain of task %s was not written down: %s", stop.task, error)

    async def _drain_there(self, node: str, stop: Stop, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        give_up = min(deadline, loop.time() + REFUSED_S)
        while True:
            try:
                await self._world.peers.drain(node, [stop.task], timeout_s=max(0.1, deadline - loop.time()))
                return
            except AgentUnreachableError as error:
                if not error.is_refused or loop.time() + _RETRY_S > give_up:
                    _log.warning("task %s goes without node %s: %s", stop.task, node, error)
                    return
            except HunqiError as error:
                _log.warning("task %s goes without node %s: %s", stop.task, node, error)
                return
            await asyncio.sleep(_RETRY_S)

    async def _signal(self, stop: Stop) -> None:
        container = await self._running(stop)
        if container is None or container.pid is None:
            return
        number = await self._number(stop, container)
        try:
            self._world.send(container.pid, container.id, number)
            _log.info("task %s is drained; its process got signal %d", stop.task, number)
        except GoneError as error:
            _log.info("task %s had gone by itself: %s", stop.task, error)

    async def _number(self, stop: Stop, container: Container) -> int:
        own = stop.signal
        if not own:
            try:
                image = await self._world.images.detail(str(container.detail.get("Image", "")))
                config: JSON = image.get("Config") or {}
            except NotFoundError:
                config = {}
            own = str(config.get("StopSignal") or "SIGTERM")
        try:
            return parse_signal(own)
        except BadRequestError:
            return int(signal.SIGTERM)

    async def _running(self, stop: Stop) -> Container | None:
        try:
            container = await self._world.containers.inspect(stop.container)
        except NotFoundError:
            return None
        is_ours = container.labels.get(LABEL_CLUSTER) == self._cluster
        return container if is_ours and container.running else None

    def _forget(self, container: str) -> None:
        del self._known.stops[container]
        del self._died[container]
        self._known.sent[container] = None
        for old in list(self._known.sent)[:-_MOST_STOPS]:
            del self._known.sent[old]

    def _load(self) -> tuple[Stop, ...]:
        try:
            kept = loads(KeptStops, self._file.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, HunqiError) as error:
            _log.warning("%s cannot be read and is left alone: %s", self._file, error)
            return ()
        self._known.sent.update(dict.fromkeys(kept.sent))
        return kept.stops

    async def _keep(self) -> None:
        text = dumps(KeptStops(stops=tuple(self._known.stops.values()), sent=tuple(self._known.sent))).encode()
        try:
            await asyncio.to_thread(write_atomic, self._file, text, mode=0o600)
        except OSError as error:
            _log.error("what is being drained was not written down: %s", error)
