"""The loop: look at every service that load moves, decide, remember, ask for another size.

It looks every two seconds (the HPA every 15): rates are bounded by the policies in seconds whatever the period is, so
looking more often only shortens the time until a burst is answered. A request that waits for a service at zero is heard
of through ``wake`` and answered at once. What is decided is written before it is asked for, with what must survive a
restart of control; asked-for sizes are persisted by ``Sizes.set`` before anything is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from hunqi.apps.model import ServiceSpec
from hunqi.apps.scale_faults import alone_on, basis
from hunqi.apps.scale_spec import ScaleSpec
from hunqi.apps.sizing import Sized, SizedApp, Sizes
from hunqi.apps.transitions import OvertakenError
from hunqi.errors import HunqiError
from hunqi.scaling.clock import bounds_at
from hunqi.scaling.decide import Look, decide
from hunqi.scaling.foresight import Foresight, sizing_of
from hunqi.scaling.measures import Measures, queue_length
from hunqi.scaling.model import Decision, Remembered
from hunqi.scaling.ports import Attending, Cluster, Querying
from hunqi.scaling.room import room_for
from hunqi.scaling.store import Given, Key, ScalingStore
from hunqi.scaling.tasks import TaskWatch
from hunqi.telemetry.errors import NotMeasuredError
from hunqi.telemetry.model import Subject, Telemetry

SYNC_S: Final = 2.0
WAITS_S: Final = 6.0
"""So long a waiting request is believed to wait after its gateway last said so; gateways say so every 2.5 s."""
WRITE_S: Final = 60.0
"""How often what is remembered, and other reasons for the same size, are written."""
ACTOR: Final = "autoscaler"
_MOST_WAITING: Final = 10_000
_QUERY_S: Final = 5.0
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the loop works with. ``clock`` gives seconds since the epoch."""

    sizes: Sizes
    store: ScalingStore
    telemetry: Telemetry
    querying: Querying
    foresight: Foresight
    attending: Attending
    cluster: Cluster
    clock: Callable[[], float]


@dataclass(slots=True)
class _Held:
    """A service in memory: what is remembered, the last decision, and when which was written."""

    memory: Remembered
    last: Decision | None = None
    written: Decision | None = None
    written_at: float = 0.0


class Scaler:
    """Scales services while ``run`` runs."""

    def __init__(self, parts: Parts, *, sync_s: float = SYNC_S) -> None:
        self._parts: Final = parts
        self._sync_s = sync_s
        self._held: dict[Key, _Held] = {}
        self._waiting: dict[Key, float] = {}
        self._woken = asyncio.Event()
        self._tasks: Final = TaskWatch()
        self._asleep: set[Key] = set()

    # for others
    def wake(self, app: str, service: str) -> None:
        """Take in that a request waits for the service; one at zero gets a task at once."""
        if len(self._waiting) < _MOST_WAITING:
            self._waiting[app, service] = self._parts.clock()
        if (app, service) in self._asleep:
            self._woken.set()

    def last(self, app: str, service: str) -> Decision | None:
        """Return the last decision, written or not."""
        held = self._held.get((app, service))
        return held.last if held else None

    async def run(self) -> None:
        """Look and decide until cancelled."""
        await self._load()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._round(group)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._sync_s):
                        while True:
                            await self._woken.wait()
                            self._woken.clear()
                            await self._rouse()

    async def look(self) -> None:
        """Look at every service once."""
        async with asyncio.TaskGroup() as group:
            await self._round(group)

    async def _load(self) -> None:
        remembered: Mapping[Key, Remembered] = {}
        while True:
            with suppress(HunqiError):
                remembered = await self._parts.store.remembered()
                break
            await asyncio.sleep(self._sync_s)
        self._held = {key: _Held(memory=memory) for key, memory in remembered.items()}

    async def _round(self, group: asyncio.TaskGroup) -> None:
        try:
            given = await self._parts.store.given()
            apps = await self._parts.sizes.apps()
        except HunqiError as error:
            _log.warning("services could not be looked at: %s", error)
            return
        seen: set[Key] = set()
        for app in apps:
            for sized in app.services:
                spec = spec_of(sized.spec, given.get((app.name, sized.service)))
                if spec is None:
                    await self._release(app, sized)
                    continue
                seen.add((app.name, sized.service))
                if not app.running:
                    continue
                if is_paused(sized, spec):
                    await self._release(app, sized)
                    continue
                await self._look_safely(app, sized, spec, group)
        self._forget_all_but(seen)

    async def _rouse(self) -> None:
        """Look only at those at zero for which somebody waits."""
        for key in [each for each in self._asleep if each in self._waiting]:
            try:
                given = await self._parts.store.given(key[0])
                app = await self._parts.sizes.find(key[0])
            except HunqiError as error:
                _log.warning("app=%s service=%s: somebody waits, but it could not be looked at: %s", *key, error)
                continue
            for sized in app.services if app and app.running else ():
                spec = spec_of(sized.spec, given.get(key))
                if app is not None and sized.service == key[1] and spec is not None and not is_paused(sized, spec):
                    await self._look_safely(app, sized, spec, None)

    async def _look_safely(self, app: SizedApp, sized: Sized, spec: ScaleSpec, group: asyncio.TaskGroup | None) -> None:
        try:
            await self._look_at(app, sized, spec, group)
        except OvertakenError:
            _log.info("app=%s service=%s: it was changed meanwhile: looking again", app.name, sized.service)
        except HunqiError as error:
            _log.warning("app=%s service=%s: not scaled: %s", app.name, sized.service, error)
        except Exception:
            _log.exception("app=%s service=%s: scaling failed in a way that nobody foresaw", app.name, sized.service)

    async def _look_at(self, app: SizedApp, sized: Sized, spec: ScaleSpec, group: asyncio.TaskGroup | None) -> None:
        key = (app.name, sized.service)
        now = self._parts.clock()
        held = self._held.setdefault(key, _Held(memory=Remembered()))
        look = await self._seen(app, sized, spec, held, now)
        if group is not None:
            self._see_ahead(app, sized, spec, held, group, now)
        decision, memory = decide(look, held.memory)
        if _matters(decision, look):
            self._parts.attending.attend(app.name)
        if decision.wanted == 0:
            self._asleep.add(key)
        else:
            self._asleep.discard(key)
        told = ""
        if decision.short and not memory.told_short:
            told = "; ".join(decision.because) or decision.sentence
            memory = replace(memory, told_short=True)
        await self._write(key, held, memory, decision, told)
        held.memory, held.last = memory, decision
        if decision.changes or sized.auto is None:
            await self._parts.sizes.set(
                app.name,
                sized.service,
                decision.wanted,
                sentence=decision.sentence,
                actor=ACTOR,
                generation=app.generation,
            )
            if decision.changes:
                _log.info("app=%s service=%s: %d to %d: %s", *key, decision.current, decision.wanted, decision.sentence)

    async def _seen(self, app: SizedApp, sized: Sized, spec: ScaleSpec, held: _Held, now: float) -> Look:
        parts, key = self._parts, (app.name, sized.service)
        queue = None
        if spec.queue is not None:
            queue = await self._length(app, sized, spec, now)
        tasks = self._tasks.seen(key, sized, now)
        if (took := self._tasks.ready_s(key)) is not None:
            held.memory = replace(held.memory, ready_s=took)
        asked = Measures(parts.telemetry, queue, app.name, sized, spec, now).asked(tasks, held.memory.latency)
        look = Look(
            app=app.name,
            service=sized.service,
            spec=spec,
            now=now,
            current=sized.wanted,
            ready=sum(each.ready and not each.pending for each in tasks),
            proposals=asked.proposals,
            burst=asked.burst,
            latency=asked.latency,
            active=asked.active,
            activity=asked.activity,
            foreseen=parts.foresight.of(*key) if spec.predict else None,
            frozen="a deploy or a rollout of it is under way" if app.deploy and sized.coming else "",
        )
        if now - self._waiting.get(key, 0.0) < WAITS_S:
            look = replace(look, active=True, activity="a request waits for it at a gateway")
        return self._on_ground(look, app, sized)

    async def _length(self, app: SizedApp, sized: Sized, spec: ScaleSpec, now: float) -> float | HunqiError | None:
        if spec.queue is None:
            return None
        parts = self._parts
        try:
            async with asyncio.timeout(_QUERY_S):
                return await queue_length(spec.queue, app.name, sized.service, parts.telemetry, parts.querying, now=now)
        except TimeoutError:
            return NotMeasuredError(f"no answer to {spec.queue.query} within {_QUERY_S:.0f} s")

    def _on_ground(self, look: Look, app: SizedApp, sized: Sized) -> Look:
        """Add what it runs on: volumes that cannot be shared, and room on the machines."""
        if volume := alone_on(sized.spec, app.spec.volumes):
            text = f"it writes to the volume {volume}, which lies on one node: one task at most"
            spec = replace(look.spec, min=1, max=1, schedule=())
            return replace(look, spec=spec, activity=f"{look.activity}; {text}".strip("; "))
        snapshot = self._parts.cluster.snapshot
        if snapshot is None:
            return look
        most = max(bounds_at(look.spec, look.now).high, sized.wanted)
        return replace(look, room=room_for(app.name, sized, snapshot, most=most))

    def _see_ahead(
        self, app: SizedApp, sized: Sized, spec: ScaleSpec, held: _Held, group: asyncio.TaskGroup, now: float
    ) -> None:
        foresight = self._parts.foresight
        if not spec.predict or not foresight.is_due(app.name, sized.service, now=now):
            return
        bounds, cpu = bounds_at(spec, now), basis(sized.spec, "NanoCPUs")
        found = sizing_of(spec, bounds, ready_s=held.memory.ready_s, cpu_of_task=cpu)
        if found is not None:
            subject = Subject(app=app.name, service=sized.service)
            group.create_task(foresight.look(subject, found[0], found[1], now=now), name=f"foresight of {subject}")

    async def _write(self, key: Key, held: _Held, memory: Remembered, decision: Decision, told: str) -> None:
        """Write a decision that is news, and what is remembered with it; else only that, now and then."""
        before, since = held.written, decision.at - held.written_at
        news = before is None or decision.changes or bool(told)
        if before is not None and since >= WRITE_S:
            news = news or (before.sentence, before.because) != (decision.sentence, decision.because)
        if not news and since < WRITE_S:
            return
        await self._parts.store.remember(key, memory, decision if news else None, told=told)
        held.written_at = decision.at
        if news:
            held.written = decision

    async def _release(self, app: SizedApp, sized: Sized) -> None:
        """Give the size back of a service that load does not move any more."""
        if sized.auto is None:
            return
        with suppress(HunqiError):
            await self._parts.sizes.clear(
                app.name, sized.service, sentence="load does not move it any more", actor=ACTOR
            )

    def _forget_all_but(self, seen: set[Key]) -> None:
        for key in self._held.keys() - seen:
            del self._held[key]
        now = self._parts.clock()
        self._waiting = {key: at for key, at in self._waiting.items() if now - at < WAITS_S}
        self._asleep &= seen
        self._tasks.keep(seen)
        self._parts.foresight.keep(seen)


def _matters(decision: Decision, look: Look) -> bool:
    """Whether it is worth to measure more often: more is asked for than is there, or has just been."""
    asked = max(decision.asked or 0, look.burst or 0)
    return decision.panic or decision.changes or decision.ready < decision.current or asked > decision.current


def is_paused(sized: Sized, spec: ScaleSpec) -> bool:
    """Whether somebody set it to no task by hand (or in the file): as in the HPA, that turns scaling off."""
    return sized.given == 0 and spec.zero is None


def spec_of(service: ServiceSpec, given: Given | None) -> ScaleSpec | None:
    """Return how load moves a service: as a user has set, else as its file says; None if it does not."""
    if given is None:
        return service.scale
    return None if given.off else given.spec
