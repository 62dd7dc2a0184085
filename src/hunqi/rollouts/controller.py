"""The loop over rollouts, on the manager that leads: observe, do what is kept and not done, look, plan, keep.

Level-triggered: each round begins from what is kept and what is there, so that it can be killed between any two lines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from hunqi.apps.asked import Change, LogQuery, Run, RunRequest
from hunqi.apps.errors import DeployEndedError, DeployNotFoundError, RunNotFoundError
from hunqi.apps.operations import AppOperations
from hunqi.apps.rollout_spec import Step, StepKind
from hunqi.apps.shifting import Shifting, Shifts
from hunqi.apps.transitions import OvertakenError
from hunqi.errors import DependencyError, HunqiError, UserError
from hunqi.rollouts.beginning import begun
from hunqi.rollouts.errors import RolloutOvertakenError
from hunqi.rollouts.model import Look, Phase, Rollout, World
from hunqi.rollouts.plan import Decide, StartRun, due, plan
from hunqi.rollouts.ports import Analyst
from hunqi.rollouts.states import State
from hunqi.rollouts.store import ACTOR, RolloutStore

ROUND_S: Final = 0.5
LOOK_S: Final = 20.0
"""How long a look may take."""
_LINES_S: Final = 5.0
LINES: Final = 20
_LINE_CHARACTERS: Final = 2000
_RUN_S: Final = 3600.0
_MOST_MOVES: Final = 20
"""In one round: more would be a circle."""
_LOOKING: Final = frozenset({State.STEPPING, State.PAUSED, State.APPROVING})
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the controller works with; ``clock`` gives seconds since the epoch."""

    store: RolloutStore
    shifts: Shifts
    apps: AppOperations
    analyst: Analyst
    clock: Callable[[], float]


class RolloutController:
    """Moves rollouts while ``run`` runs."""

    def __init__(self, around: Around) -> None:
        self._around: Final = around
        self._wake: Final = asyncio.Event()

    def wake(self) -> None:
        """Have all looked at now: somebody has said something."""
        self._wake.set()

    async def run(self) -> None:
        """Look at all rollouts until cancelled."""
        while True:
            try:
                await self.look()
            except HunqiError as error:
                _log.warning("rollouts could not be looked at: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND_S):
                    await self._wake.wait()
            self._wake.clear()

    async def begin(self, app: str) -> None:
        """Begin the rollout of an app's deploy, if there is one that no round has seen yet."""
        shifting = await self._around.shifts.find(app)
        if shifting is not None and not await self._around.store.known((shifting.deploy,)):
            await self._begin(shifting)

    async def look(self) -> None:
        """Do one round: begin those of new deploys, and move each as far as it comes."""
        around = self._around
        shiftings = {each.deploy: each for each in await around.shifts.under_way()}
        known = await around.store.known(tuple(shiftings))
        for deploy, shifting in shiftings.items():
            if deploy not in known:
                await self._begin(shifting)
        async with asyncio.TaskGroup() as group:
            for rollout in await around.store.open():
                group.create_task(self._guarded(rollout, shiftings))

    async def _begin(self, shifting: Shifting) -> None:
        around = self._around
        try:
            rollout = await begun(shifting, around.apps, now=around.clock())
        except HunqiError as error:
            _log.warning("app=%s: its rollout could not be begun: %s", shifting.app, error)
            return
        await around.store.add(rollout)
        _log.info("app=%s revision=%d: %s", rollout.app, rollout.revision, rollout.course.sentence)

    async def _guarded(self, rollout: Rollout, shiftings: Mapping[str, Shifting]) -> None:
        try:
            await self._advance(rollout, shiftings.get(rollout.deploy))
        except (RolloutOvertakenError, OvertakenError, DeployEndedError):
            pass  # somebody has changed it meanwhile: the next round sees what it has come to
        except HunqiError as error:
            _log.warning("app=%s revision=%d: %s", rollout.app, rollout.revision, error)

    async def _advance(self, rollout: Rollout, shifting: Shifting | None) -> None:
        for _ in range(_MOST_MOVES):
            world = await self._world(rollout, shifting)
            act = due(rollout, world)
            if act is not None:
                shifting = await self._do(rollout, world, act)
                continue
            after = plan(rollout, world, self._around.clock())
            if after == rollout:
                after, look = await self._looked(rollout, world)
                if look is None:
                    after = await self._with_lines(rollout, world)
                if after == rollout:
                    return
                await self._save(rollout, after, look)
            else:
                await self._save(rollout, after)
            rollout = after
            if rollout.state.ended:
                return
        _log.error("app=%s revision=%d: the rollout moves in a circle", rollout.app, rollout.revision)

    async def _save(self, before: Rollout, after: Rollout, look: Look | None = None) -> None:
        await self._around.store.save(before, after, look)
        if before.course.sentence != after.course.sentence:
            _log.info("app=%s revision=%d: %s", after.app, after.revision, after.course.sentence)

    async def _world(self, rollout: Rollout, shifting: Shifting | None) -> World:
        apps = self._around.apps
        if shifting is None:
            try:
                return World(shifting=None, ended=await apps.deploys.find(rollout.app, rollout.deploy))
            except DeployNotFoundError:
                return World(shifting=None)
        run: Run | None = None
        lines: tuple[str, ...] = ()
        if rollout.course.run:
            with suppress(RunNotFoundError):
                run = await apps.runs.find(rollout.app, rollout.course.run)
            if run is not None and run.finished_at is not None and run.state != "succeeded":
                lines = await self._run_lines(run)
        return World(shifting=shifting, run=run, run_lines=lines, run_problem=rollout.course.run_problem)

    async def _do(self, rollout: Rollout, world: World, act: Decide | StartRun) -> Shifting | None:
        around = self._around
        match act:
            case Decide(shift, sentence):
                await around.shifts.decide(rollout.app, rollout.deploy, shift, sentence=sentence, actor=ACTOR)
            case StartRun(id_, step):
                await self._start(rollout, id_, step)
        found = await around.shifts.find(rollout.app)
        return found if found is not None and found.deploy == rollout.deploy else None

    async def _start(self, rollout: Rollout, id_: str, step: Step) -> None:
        request = RunRequest(
            service=step.service,
            command=step.command or None,
            timeout_s=step.for_s or _RUN_S,
            revision=rollout.revision,
            id=id_,
        )
        change = Change(actor=ACTOR, reason=f"a step of the rollout of revision {rollout.revision}")
        try:
            await self._around.apps.runs.run(rollout.app, request, change)
        except UserError as error:  # it will never start
            course = replace(rollout.course, run_problem=str(error))
            await self._around.store.save(rollout, replace(rollout, course=course))
            raise RolloutOvertakenError("its run cannot be started") from error

    async def _run_lines(self, run: Run) -> tuple[str, ...]:
        found: list[str] = []
        with suppress(HunqiError, TimeoutError):
            async with (
                asyncio.timeout(_LINES_S),
                self._around.apps.runs.logs(run.app, run.id, follow=False) as lines,
            ):
                found = [line.text[:_LINE_CHARACTERS] async for line in lines]
        return tuple(found[-LINES:])

    async def _looked(self, rollout: Rollout, world: World) -> tuple[Rollout, Look | None]:
        """Have the measures looked at, if it is time."""
        course, now = rollout.course, self._around.clock()
        since = _looks_since(rollout)
        if world.shifting is None or since is None or now < course.looked_at + rollout.spec.interval_s:
            return rollout, None
        try:
            async with asyncio.timeout(LOOK_S):
                looked = await self._around.analyst.look(
                    world.shifting, rollout.spec.measures, course.memory, since=since, now=now
                )
        except (DependencyError, TimeoutError) as error:
            said = str(error) or f"it took longer than {LOOK_S:.0f} s"
            course = replace(course, looked_at=now, look_failures=course.look_failures + 1, look_problem=said)
        else:
            findings = tuple(looked.findings)
            course = replace(course, looked_at=now, findings=findings, memory=looked.memory)
            course = replace(course, look_failures=0, look_problem="")
        look = Look(
            seq=0,
            at=now,
            state=rollout.state,
            step=course.step,
            weight=course.shift.weight,
            mirror=course.shift.mirror,
            findings=course.findings if not course.look_problem else (),
            problem=course.look_problem,
        )
        return replace(rollout, course=course), look

    async def _with_lines(self, rollout: Rollout, world: World) -> Rollout:
        """Add to why it was aborted what the new revision's tasks wrote last; the decision does not wait for it."""
        problem = rollout.problem
        if rollout.state is not State.ABORTING or rollout.course.told or problem is None or world.shifting is None:
            return rollout
        course = replace(rollout.course, told=True)
        if problem.log or problem.code == "rollout.aborted":
            return replace(rollout, course=course)
        services = (problem.service,) if problem.service in world.shifting.changed else world.shifting.changed
        lines = await self._task_lines(rollout, world.shifting, services)
        return replace(rollout, course=course, problem=replace(problem, log=lines))

    async def _task_lines(self, rollout: Rollout, shifting: Shifting, services: tuple[str, ...]) -> tuple[str, ...]:
        origin = shifting.target.origin
        found: list[str] = []
        with suppress(HunqiError, TimeoutError):
            async with (
                asyncio.timeout(_LINES_S),
                self._around.apps.logs.open(rollout.app, LogQuery(services=services, tail=LINES)) as lines,
            ):
                found = [line.text[:_LINE_CHARACTERS] async for line in lines if line.revision == origin[line.service]]
        return tuple(found[-LINES:])


def _looks_since(rollout: Rollout) -> float | None:
    """Return since when there is something to look at, None while there is nothing."""
    course, step = rollout.course, rollout.step
    if rollout.state not in _LOOKING or course.full or course.direct:
        return None
    if course.traffic_since is not None:
        return course.traffic_since
    unseen = step is not None and step.kind is StepKind.ANALYSIS and course.phase is Phase.WAITING
    return course.since if unseen else None
