"""Keeps a snapshot of what is ours in the Swarm: events say what to look at again, a slow round looks at the rest.

Docker tells a manager of services, nodes, networks, secrets and configs, and of containers on its own machine; of a
task elsewhere it tells nothing. So tasks of services that are on their way somewhere are asked for several times a
second, and all others in turn, a few services at a time, for a bounded share of the time. Whoever knows more (an
agent) says so by :meth:`Observer.touch`. A complete look comes at the start, after a lost connection, and every few
minutes. While Docker is away the last snapshot stays, and ``problem`` says so.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final

from hunqi.engine.errors import EngineUnreachableError
from hunqi.engine.looking import SERVICES_AT_ONCE, Looking
from hunqi.engine.model import LABEL_APP, Event, Snapshot
from hunqi.engine.observed import Dirty, Observed
from hunqi.engine.ports import WatchedEngine
from hunqi.errors import DependencyError, UserError

_KINDS: Final = ("service", "node", "network", "secret", "config", "container")
_SERVICE: Final = "com.docker.swarm.service.id"
_TOLD: Final = frozenset({"create", "start", "die", "destroy", "kill", "stop", "oom"})
"""What of a container's events is of interest, and any change of its health; an exec is none."""
_MOST_REST_S: Final = 5.0
"""However long one look took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """In seconds."""

    debounce_s: float = 0.01
    """From the first sign of a change to the look."""
    settling_s: float = 0.1
    """Between looks at tasks that are on their way, at first; a twentieth of the time without change, later."""
    settling_most_s: float = 5.0
    round_s: float = 1.0
    """No settled service's tasks are asked for more often."""
    round_share: float = 0.04
    """The share of the time that looking at settled services' tasks may take."""
    look_s: float = 10.0
    """For one look: a manager without a leader lets its callers wait for 20 s, but one may be elected sooner."""
    resync_s: float = 300.0
    """Between complete looks, a fifth more or less."""
    first_retry_s: float = 0.1
    last_retry_s: float = 5.0


class Observer:
    """Observes by :meth:`run`; everything else may be called from any task of the same loop."""

    def __init__(
        self,
        engine: WatchedEngine,
        *,
        cluster: str,
        timings: Timings | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """``cluster``: the label's value by which objects are ours."""
        self._engine: Final = engine
        self._observed: Final = Observed()
        self._looking: Final = Looking(engine, self._observed, cluster=cluster)
        self._timings: Final = timings or Timings()
        self._clock: Final = clock
        self._uniform: Final = uniform
        self._lock: Final = asyncio.Lock()
        self._dirty = Dirty()
        self._wake: Final = asyncio.Event()
        self._changed = asyncio.Event()
        self._published: Snapshot | None = None
        self._asked_at: dict[str, float] = {}
        """When the tasks of each service were last asked for, in that order."""
        self._moved_at: dict[str, float] = {}
        self.version = 0
        """Grows with each new snapshot and each change of ``problem``."""
        self.problem = "Docker has not been looked at yet"
        """Why the snapshot may be stale; empty while it is kept fresh."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The last snapshot; None before the first."""
        return self._published

    @property
    def stale(self) -> bool:
        """Whether Docker is away, so that the snapshot may be old."""
        return bool(self.problem)

    async def changed(self, after: int) -> int:
        """Wait until ``version`` is above ``after`` and return it."""
        while self.version <= after:
            await self._changed.wait()
        return self.version

    def follow(self) -> Following:
        """Return an iterator over new snapshots, the last one first; a slow reader misses those between."""
        return Following(self)

    def touch(self, services: Iterable[str]) -> None:
        """Have the tasks of these services (ids) looked at: somebody saw a change."""
        self._mark(Dirty(tasks=set(services)))

    async def refresh(self, *, app: str | None = None) -> Snapshot:
        """Look now and return a snapshot begun after this call; with ``app`` only its objects are looked at.

        Raises the engine's errors.
        """
        async with self._lock:
            whole = self._published is None or app is None
            if whole:
                self._dirty = Dirty()
                await self._looking.everything()
            else:
                await self._looking.everything({LABEL_APP: app or ""})
            snapshot = self._publish()
            if whole:
                self._note(self._observed.services)
                self._say("")
            return snapshot

    async def run(self) -> None:
        """Observe until cancelled. Only a bug ends it otherwise."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._work())
            group.create_task(self._settle())
            group.create_task(self._go_round())
            group.create_task(self._resync())

    # --- events

    async def _watch(self) -> None:
        retry_s = self._timings.first_retry_s
        while True:
            try:
                async with self._engine.system.events(kinds=_KINDS) as events:
                    self._mark(Dirty(everything=True))
                    retry_s = self._timings.first_retry_s
                    async for event in events:
                        self._hear(event)
                why = "Docker ended the stream of events"
            except (DependencyError, UserError) as error:
                why = str(error)
            self._say(why)
            await asyncio.sleep(self._uniform(0.5, 1.0) * retry_s)
            retry_s = min(retry_s * 2, self._timings.last_retry_s)

    def _hear(self, event: Event) -> None:
        match event.kind:
            case "service":
                self._mark(Dirty(services={event.id}))
            case "node":
                # Its tasks are replaced, or get room: the services that it bears are looked at, too.
                on_it = {
                    id_ for id_, tasks in self._observed.tasks.items() if any(t.node_id == event.id for t in tasks)
                }
                self._mark(Dirty(nodes=True, tasks=on_it))
            case "network" if event.scope == "swarm" and event.action in {"create", "remove", "destroy"}:
                self._mark(Dirty(networks={event.id}))
            case "secret":
                self._mark(Dirty(secrets={event.id}))
            case "config":
                self._mark(Dirty(configs={event.id}))
            case "container":
                service = event.attributes.get(_SERVICE)
                told = event.action in _TOLD or event.action.startswith("health_status")
                if service in self._observed.services and told:
                    self._mark(Dirty(tasks={service}))
            case _:
                return

    def _mark(self, dirty: Dirty) -> None:
        self._dirty.add(dirty)
        self._wake.set()

    # --- looking

    async def _work(self) -> None:
        retry_s = self._timings.first_retry_s
        while True:
            await self._wake.wait()
            await asyncio.sleep(self._timings.debounce_s)
            self._wake.clear()
            try:
                await self._look()
            except (DependencyError, UserError) as error:
                self._say(str(error))
                await asyncio.sleep(self._uniform(0.5, 1.0) * retry_s)
                retry_s = min(retry_s * 2, self._timings.last_retry_s)
                self._mark(Dirty(everything=True))
            else:
                retry_s = self._timings.first_retry_s

    async def _look(self) -> None:
        async with self._lock:
            dirty, self._dirty = self._dirty, Dirty()
            if not dirty:
                return
            async with self._within():
                await self._looking.dirty(dirty)
            self._note(self._observed.services if dirty.everything else dirty.tasks | dirty.services)
            self._publish()
            if dirty.everything:
                self._say("")

    @asynccontextmanager
    async def _within(self) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(self._timings.look_s):
                yield
        except TimeoutError as error:
            raise EngineUnreachableError(f"Docker did not answer within {self._timings.look_s:g} s") from error

    async def _settle(self) -> None:
        """Have tasks that are on their way looked at again and again."""
        while True:
            await asyncio.sleep(self._timings.settling_s / 2)
            now, moving = self._clock(), self._observed.moving
            due = {id_ for id_ in moving if now - self._asked_at.get(id_, 0.0) >= self._patience(id_, now)}
            if (due or self._observed.unallocated) and not self.problem:
                self._mark(Dirty(tasks=due, networks=self._observed.unallocated))

    async def _go_round(self) -> None:
        """Look at the tasks of settled services in turn."""
        rest_s = 0.0
        while True:
            await asyncio.sleep(max(self._timings.settling_s / 2, min(rest_s, _MOST_REST_S)))
            began, rest_s = time.perf_counter(), 0.0
            piece = self._longest_not_asked(self._clock())
            if self.problem or not (piece or self._observed.orphans):
                continue
            try:
                async with self._lock, self._within():
                    await self._looking.tasks(piece)
                    await self._looking.orphans()
                    self._publish()
            except (DependencyError, UserError) as error:
                self._say(str(error))
                self._mark(Dirty(everything=True))
            self._note(piece)
            rest_s = (time.perf_counter() - began) * (1 / self._timings.round_share - 1)

    def _longest_not_asked(self, now: float) -> list[str]:
        found: list[str] = []
        for id_, asked_at in list(islice(self._asked_at.items(), 4 * SERVICES_AT_ONCE)):
            if now - asked_at < self._timings.round_s or len(found) == SERVICES_AT_ONCE:
                break
            if id_ not in self._observed.services:
                del self._asked_at[id_]
                self._moved_at.pop(id_, None)
            elif id_ not in self._observed.moving:
                found.append(id_)
        return found

    def _note(self, services: Iterable[str]) -> None:
        """Note who was asked for: at the end of ``_asked_at``, which is in the order of asking."""
        now = self._clock()
        for id_ in services:
            self._asked_at.pop(id_, None)
            self._asked_at[id_] = now

    def _patience(self, service: str, now: float) -> float:
        quiet_s = now - self._moved_at.get(service, now)
        return min(self._timings.settling_most_s, max(self._timings.settling_s, quiet_s / 20))

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._timings.resync_s * self._uniform(0.8, 1.2))
            self._mark(Dirty(everything=True))

    # --- telling

    def _publish(self) -> Snapshot:
        snapshot = self._observed.snapshot(self._clock())
        if snapshot is not self._published:
            now, before = self._clock(), self._published
            for id_, tasks in snapshot.tasks.items():
                if before is None or before.tasks.get(id_) is not tasks:
                    self._moved_at[id_] = now
            self._published = snapshot
            self._notify()
        return snapshot

    def _say(self, problem: str) -> None:
        if self.problem != problem:
            self.problem = problem
            self._notify()

    def _notify(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()


class Following:
    """New snapshots, pulled."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._seen: Snapshot | None = None
        self._version = -1

    def __aiter__(self) -> Following:
        """Iterate over snapshots as they come."""
        return self

    async def __anext__(self) -> Snapshot:
        """Return the next snapshot that is another than the last; never ends."""
        while True:
            self._version = await self._observer.changed(self._version)
            snapshot = self._observer.snapshot
            if snapshot is not None and snapshot is not self._seen:
                self._seen = snapshot
                return snapshot
