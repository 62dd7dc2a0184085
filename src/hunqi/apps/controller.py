"""The reconciler: for each app, again and again, observe → plan → do the steps → say what was done and why.

Level-triggered: events, users and timers only mark an app to be looked at, and every look begins from what is persisted
and observed. An app is at work once at a time; apps are at work side by side. Steps of a plan are done in order; the
first that fails ends the look, and the app is looked at again, later each time while nothing gets better.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from hunqi.apps.acts import EngineActs
from hunqi.apps.building import GroundMissingError
from hunqi.apps.diagnose import Diagnosing
from hunqi.apps.drift import DriftWatch
from hunqi.apps.errors import AppNotFoundError
from hunqi.apps.logkeeping import LogKeeper
from hunqi.apps.model import DeployState
from hunqi.apps.observing import Watched
from hunqi.apps.operations import Problem
from hunqi.apps.plan import plan
from hunqi.apps.ports import Images
from hunqi.apps.serving import Routing, Surge
from hunqi.apps.sights import Sights
from hunqi.apps.situation import Facts, Situation
from hunqi.apps.standing import SETTLE_S
from hunqi.apps.steps import (
    Advance,
    CreateNetwork,
    CreatePayload,
    Fail,
    Forget,
    NoteStarted,
    PinVolumes,
    Plan,
    PutService,
    RemoveService,
    ScaleService,
    Step,
)
from hunqi.apps.store import AppStore, Kept
from hunqi.apps.telling import event_of
from hunqi.apps.transitions import OvertakenError, Transitions
from hunqi.apps.waits import Waits
from hunqi.engine.errors import ConflictError, EngineRefusedError, InUseError, NotFoundError
from hunqi.engine.model import Snapshot
from hunqi.errors import HunqiError, InvariantError
from hunqi.kit.queue import KeyedQueue

WORKERS: Final = 8
RESYNC_S: Final = 120.0
"""How often every app is looked at though nothing happened, give or take a fifth."""
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_STEP_TIMEOUT_S: Final = 60.0
_PIN_PAUSE_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a look at an app, in a sentence."""

    plan: Plan
    sentence: str
    done: tuple[str, ...] = ()
    problem: HunqiError | None = None


@dataclass(slots=True)
class _Memory:
    """What the controller remembers of an app; nothing that cannot be found out again."""

    stale: bool = False
    failures: int = 0
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a controller works with."""

    store: AppStore
    watched: Watched
    routing: Routing
    images: Images
    sights: Sights
    acts: EngineActs
    diagnosing: Diagnosing
    logs: LogKeeper
    clock: Callable[[], float]
    """Seconds since the epoch."""
    settle_s: float = SETTLE_S
    surge: Callable[[], Surge] = Surge
    """What the emptying of nodes asks for meanwhile."""


class Controller:
    """Reconciles all apps while ``run`` runs."""

    def __init__(self, parts: Parts, *, resync_s: float = RESYNC_S) -> None:
        self._parts: Final = parts
        self._store: Final = parts.store
        self._transitions: Final = Transitions(parts.store, parts.clock)
        self._queue: Final = KeyedQueue()
        self._memory: Final[dict[str, _Memory]] = {}
        self._resync_s = resync_s
        self._began = parts.clock()
        self._waits: Waits | None = None
        self._drift: Final = DriftWatch()
        self._unoffered: set[str] | None = None
        self._offered_all = asyncio.Event()
        self._unpinned: Final = asyncio.Event()

    # for others
    def mark(self, app: str) -> None:
        """Have ``app`` looked at soon."""
        self._queue.mark(app)

    def outcome(self, app: str) -> Outcome | None:
        """Return what came of the last look at ``app``."""
        memory = self._memory.get(app)
        return memory.outcome if memory else None

    def now(self) -> float:
        """Return seconds since the epoch, by the controller's clock."""
        return self._parts.clock()

    @property
    def idle(self) -> bool:
        """Whether no app waits to be looked at."""
        return self._queue.idle

    async def offered_all(self) -> None:
        """Wait until every app there was when ``run`` began has been looked at and offered."""
        await self._offered_all.wait()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        self._began = self._parts.clock()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._parts.logs.run())
                self._waits = Waits(group, self._parts.routing, self._parts.images, self._queue.mark)
                group.create_task(self._resync())
                group.create_task(self._watch())
                group.create_task(self._pin())
                for _ in range(WORKERS):
                    group.create_task(self._work())
        finally:
            self._queue.close()
            self._unoffered = None
            self._offered_all.clear()

    # loops
    async def _resync(self) -> None:
        while True:
            try:
                names = await self._store.names()
                if self._unoffered is None:
                    self._unoffered = set(names)
                    self._note_offered("")
                for name in names:
                    self._queue.mark(name)
            except HunqiError as error:
                _log.warning("apps could not be listed: %s", error)
            await asyncio.sleep(self._resync_s * random.uniform(0.8, 1.2))  # noqa: S311

    async def _watch(self) -> None:
        async for apps in self._parts.watched.changes():
            for app in apps:
                self._queue.mark(app)

    async def _pin(self) -> None:
        """Have the accelerators keep what retained revisions use, whenever deploys have begun or ended."""
        while True:
            self._unpinned.clear()
            try:
                await self._parts.images.pin(await self._store.retained_images())
            except HunqiError as error:
                _log.warning("images could not be pinned: %s", error)
            await asyncio.sleep(_PIN_PAUSE_S)
            await self._unpinned.wait()

    async def _work(self) -> None:
        while True:
            async with self._queue.take() as app:
                await self._look_safely(app)

    async def _look_safely(self, app: str) -> None:
        try:
            await self.look(app)
            self._note_offered(app)
        except AppNotFoundError:
            self._forget(app)
            self._note_offered(app)
        except HunqiError as error:
            self._retry(app, error)
        except Exception:
            _log.exception("app=%s: a look at it failed in a way that nobody foresaw", app)
            self._retry(app, None)

    def _note_offered(self, app: str) -> None:
        if self._unoffered is not None:
            self._unoffered.discard(app)
            if not self._unoffered:
                self._offered_all.set()

    # one look
    async def look(self, app: str) -> Outcome:
        """Look at ``app`` once. Raises ``AppNotFoundError`` and what the database and the observer raise."""
        memory = self._memory.setdefault(app, _Memory())
        kept = await self._store.find(app)
        stale, memory.stale = memory.stale, False
        snapshot = await self._parts.watched.snapshot(fresh=app if stale else None)
        situation = await self._situation(kept, snapshot)
        if drifted := await self._drift.of(situation, self._parts.acts):
            situation = replace(situation, facts=replace(situation.facts, drifted=drifted))
        made = plan(situation)
        self._offer(app, made)
        await self._transitions.note(kept, made)
        outcome = await self._do(made, situation, kept, memory)
        memory.outcome = outcome
        self._follow(app, outcome, situation, memory)
        return outcome

    async def observe(self, app: str) -> Situation:
        """Return all that a plan would be made from now, but for what others changed. Raises as ``look`` does."""
        kept = await self._store.find(app)
        return await self._situation(kept, await self._parts.watched.snapshot())

    async def _situation(self, kept: Kept, snapshot: Snapshot) -> Situation:
        waits = self._waits
        spread = waits.spread(kept.deploy) if kept.deploy and waits else ""
        facts = Facts(
            in_force=waits.in_force(kept.app.name) if waits else None,
            drained=waits.drained(kept.app.name) if waits else frozenset(),
            spread=not spread,
            spread_sentence=spread,
            observing_since=self._began,
            settle_s=self._parts.settle_s,
            surge=self._parts.surge().extra,
        )
        return await self._parts.sights.of(kept, snapshot, facts)

    def _offer(self, app: str, made: Plan) -> None:
        if made.serving is None:
            self._parts.routing.withdraw(app)
        else:
            self._parts.routing.offer(made.serving)

    # the steps of a plan
    async def _do(self, made: Plan, situation: Situation, kept: Kept, memory: _Memory) -> Outcome:
        done: list[str] = []
        for step in made.steps:
            try:
                async with asyncio.timeout(_STEP_TIMEOUT_S):
                    await self._step(step, situation, kept)
            except OvertakenError:
                return Outcome(plan=made, sentence="the app was changed meanwhile", done=tuple(done))
            except (ConflictError, NotFoundError, GroundMissingError, InUseError) as error:
                memory.stale = True
                return Outcome(plan=made, sentence=str(error), done=tuple(done), problem=error)
            except EngineRefusedError as error:
                memory.stale = True
                return await self._refused(made, step, error, situation, tuple(done))
            memory.stale = True
            done.append(step.sentence)
            _log.info("app=%s: %s", kept.app.name, step.sentence)
        return Outcome(plan=made, sentence=made.sentence, done=tuple(done))

    async def _step(self, step: Step, situation: Situation, kept: Kept) -> None:
        match step:
            case Fail():
                problem = await self._parts.diagnosing.problem(step, situation)
                await self._transitions.do(step, kept, problem)
            case Advance() | Forget():
                await self._transitions.do(step, kept)
                self._unpinned.set()
            case PinVolumes() | NoteStarted():
                await self._transitions.do(step, kept)
            case _:
                if isinstance(step, (RemoveService, ScaleService)):
                    self._parts.logs.keep(step.name, situation)
                await self._parts.acts.do(step, situation)
                await self._transitions.event(*event_of(step, kept))

    async def _refused(
        self, made: Plan, step: Step, error: EngineRefusedError, situation: Situation, done: tuple[str, ...]
    ) -> Outcome:
        """End a deploy that cannot be had as it is; otherwise it is a problem that is told."""
        deploy = situation.deploy
        if (
            deploy is None
            or not isinstance(step, (PutService, CreateNetwork, CreatePayload))
            or step.revision != deploy.revision
            or not (deploy.state is DeployState.STARTING or situation.promoting)
        ):
            return Outcome(plan=made, sentence=str(error), done=done, problem=error)
        service = step.service if isinstance(step, PutService) else ""
        problem = Problem(
            code="deploy.refused" if type(error) is EngineRefusedError else error.code,
            message=f"{step.name} cannot be made: {error}",
            remedy="change what is refused and deploy again",
            service=service,
        )
        fail = Fail(service=service, code=problem.code, sentence=problem.message, remedy=problem.remedy)
        with suppress(OvertakenError):
            await self._transitions.do(fail, Kept(app=situation.app, deploy=deploy), problem)
        self._queue.mark(situation.app.name)
        return Outcome(plan=made, sentence=fail.sentence, done=(*done, fail.sentence))

    # what comes next
    def _follow(self, app: str, outcome: Outcome, situation: Situation, memory: _Memory) -> None:
        made = outcome.plan
        waits = self._waiting()
        if any(isinstance(step, Forget) for step in made.steps) and outcome.problem is None:
            self._forget(app)
            return
        if outcome.problem is not None:
            self._retry(app, outcome.problem)
            return
        memory.failures = 0
        if made.steps:
            self._queue.mark(app)
            return
        if made.serving is not None:
            if made.awaits_force:
                waits.expect_force(app, made.serving)
            waits.expect_drained(app, made.serving, made.awaits_drained)
            for backend in made.serving.backends:
                self._expect_healthy(app, backend.name, situation)
        if made.awaits_spread is not None and situation.deploy is not None:
            waits.expect_spread(situation.deploy, made.awaits_spread)
        if made.wake_in_s is not None:
            self._queue.mark_later(app, made.wake_in_s)

    def _expect_healthy(self, app: str, backend: str, situation: Situation) -> None:
        standing = situation.standings.get(backend)
        report = situation.facts.health.get(backend)
        if standing is None or report is None:
            return
        ids = frozenset(task.id for task in standing.running)
        if ids and not ids <= report.healthy:
            self._waiting().expect_healthy(app, backend, ids)

    def _retry(self, app: str, error: HunqiError | None) -> None:
        memory = self._memory.setdefault(app, _Memory())
        delay_s = _BACKOFF_S[min(memory.failures, len(_BACKOFF_S) - 1)]
        memory.failures += 1
        memory.stale = True
        if error is not None:
            _log.log(logging.INFO if memory.failures < 3 else logging.WARNING, "app=%s: %s", app, error)
        self._queue.mark_later(app, delay_s)

    def _forget(self, app: str) -> None:
        self._memory.pop(app, None)
        self._waiting().forget(app)
        self._queue.forget(app)
        self._parts.routing.withdraw(app)
        self._parts.logs.forget(app)

    def _waiting(self) -> Waits:
        if self._waits is None:
            raise InvariantError("a controller looks at apps only while it runs")
        return self._waits
