"""A world for rollouts: an app whose deploys move by decisions, a clock, an analyst that is told what to find.

Gateways and tasks follow a decision at the next look but one. ``World.to_end`` lets time pass, one second a round;
``World.effects`` counts everything that is kept or done, and ``kill_at`` is where control dies before it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import delete, insert

from hunqi.apps.asked import Change, Deploy, LogLine, LogQuery, Problem, Run, RunRequest, ServiceProgress
from hunqi.apps.errors import DeployEndedError, DeployNotFoundError, RevisionNotFoundError, RunNotFoundError
from hunqi.apps.model import AppSpec, DeployState, Revision
from hunqi.apps.operations import AppOperations
from hunqi.apps.rollout_spec import MeasureSpec, RolloutSpec
from hunqi.apps.shifting import Shift, Shifting, Verdict
from hunqi.apps.transitions import OvertakenError
from hunqi.rollouts.analysis.model import Finding, Looked, Memory, Outcome
from hunqi.rollouts.controller import Around, RolloutController
from hunqi.rollouts.model import Look, Rollout
from hunqi.rollouts.operations import AppRollouts
from hunqi.rollouts.store import RolloutStore
from hunqi.state.database import Database, open_database
from hunqi.state.events import Event, EventLog, now
from hunqi.state.tables import APPS, EVENTS, ROLLOUT_LOOKS, ROLLOUTS, TEAMS
from support_apps import spec, web

APP = "shop"
START = 1_700_000_000.0
THEN = datetime(2026, 1, 1, tzinfo=UTC)
Find = Callable[[Shifting, MeasureSpec], Finding]


class KilledError(Exception):
    """Control was killed."""


def well(shifting: Shifting, measure: MeasureSpec) -> Finding:
    """A finding of a new revision with which nothing is wrong."""
    return finding(shifting, measure, Outcome.SUCCESS)


def finding(
    shifting: Shifting, measure: MeasureSpec, outcome: Outcome, *, samples: int = -1, value: float = 0.99
) -> Finding:
    """A finding of the first changed service; -1 samples are 50 a second since traffic began."""
    return Finding(
        measure=measure.name,
        service=shifting.changed[0],
        outcome=outcome,
        sentence=f"{measure.name} is {outcome}",
        numbers={"new": value, "old": 0.999},
        samples_new=samples,
        samples_old=samples * 10,
    )


@dataclass
class Moving:
    """A deploy."""

    id: str
    revision: int
    base: int
    shift: Shift | None
    state: DeployState = DeployState.STARTING
    in_force: int = -1
    ready: int = -1
    """The number of the shift whose tasks are there."""
    problem: Problem | None = None
    shifts: list[Shift] = field(default_factory=list)


@dataclass
class World:
    """Everything around rollouts; implements ``Shifts``, ``Analyst`` and what is used of ``AppOperations``."""

    database: Database
    now: float = START
    revisions: dict[int, AppSpec] = field(default_factory=dict)
    deploys_: list[Moving] = field(default_factory=list)
    runs_: dict[str, Run] = field(default_factory=dict)
    run_ends: str = "succeeded"
    find_: Find = well
    looked: int = 0
    looks_fail: Exception | None = None
    never_ready: bool = False
    never_up: bool = False
    wanted: dict[str, int] = field(default_factory=dict)
    effects: int = 0
    kill_at: int | None = None

    def __post_init__(self) -> None:
        self.new_control()

    def new_control(self) -> None:
        """Begin anew, as a process that has been killed does."""
        world = self

        class Counted(RolloutStore):
            async def save(self, before: Rollout, after: Rollout, look: Look | None = None) -> None:
                world.effect()
                await super().save(before, after, look)

            async def add(self, rollout: Rollout) -> None:
                world.effect()
                await super().add(rollout)

        self.store = Counted(self.database)
        around = Around(store=self.store, shifts=self, apps=self.apps, analyst=self, clock=lambda: self.now)
        self.controller = RolloutController(around)
        self.rollouts = AppRollouts(self.store, self.apps, self.controller, clock=lambda: self.now)

    async def anew(self) -> World:
        """Return a world of the same database, as it was in the beginning."""
        async with self.database.begin() as connection:
            for table in (ROLLOUT_LOOKS, ROLLOUTS, EVENTS):
                await connection.execute(delete(table))
        world = World(database=self.database)
        await world.serve()
        return world

    def effect(self) -> None:
        """Count something that is about to be kept or done."""
        if self.kill_at is not None and self.effects >= self.kill_at:
            raise KilledError
        self.effects += 1

    @property
    def apps(self) -> AppOperations:
        """The apps' room, as far as it is used."""
        return cast(
            "AppOperations",
            _Apps(deploys=_Deploys(self), revisions=_Revisions(self), runs=_Runs(self), logs=_Logs()),
        )

    # what users do
    async def serve(self, app: AppSpec | None = None) -> None:
        """Have a first revision serve."""
        self.revisions[1] = app or spec(web("web", version=1, replicas=4))
        self.deploys_.append(Moving(id=_id(1), revision=1, base=1, shift=None, state=DeployState.SUCCEEDED))

    def deploy(self, rollout: RolloutSpec | None, app: AppSpec | None = None) -> Moving:
        """Deploy a new revision."""
        number = max(self.revisions) + 1
        made = app or spec(web("web", version=number, replicas=4))
        self.revisions[number] = replace(made, rollout=rollout)
        for each in self.deploys_:
            if not each.state.ended:
                each.state = DeployState.SUPERSEDED
        key = rollout.key if rollout else Shift().key
        first = Shift(replicas=dict.fromkeys(made.services, 1), key=key)
        deploy = Moving(id=_id(number), revision=number, base=self.live, shift=first)
        self.deploys_.append(deploy)
        return deploy

    @property
    def live(self) -> int:
        """The revision that serves."""
        return next(each.revision for each in reversed(self.deploys_) if each.state is DeployState.SUCCEEDED)

    # time
    async def tick(self, seconds: float = 1.0) -> None:
        """Let gateways and tasks follow, then a round of control, then time pass."""
        self._follow()
        await self.controller.look()
        self.now += seconds

    def _follow(self) -> None:
        for each in self.deploys_:
            if each.state.ended or each.shift is None:
                continue
            if each.state is DeployState.STARTING:
                if self.never_up:
                    each.state = DeployState.FAILED
                    each.problem = Problem(code="deploy.not-healthy", message="web was not healthy within 300 s")
                    continue
                each.state = DeployState.SHIFTING
            each.in_force = each.shift.number
            if not self.never_ready or each.shift.number == 0:
                each.ready = each.shift.number
            if each.shift.verdict is Verdict.PROMOTE:
                each.state = DeployState.SUCCEEDED
            over = self.now - each.shift.decided_at > each.shift.keep_s
            if each.shift.verdict is Verdict.ABORT and over:
                each.state, each.problem = DeployState.FAILED, each.shift.problem

    async def to(self, *states: str, within_s: float = 600.0, step_s: float = 2.5) -> Rollout:
        """Let time pass until the newest rollout is in one of ``states``."""
        end = self.now + within_s
        while self.now < end:
            await self.tick(step_s)
            found = await self.newest()
            if found.state in states and found.deploy == self.deploys_[-1].id:
                return found
        raise AssertionError(f"after {within_s} s it is {found.state}: {found.course.sentence}")

    async def newest(self) -> Rollout:
        """Return the newest rollout."""
        return await self.store.newest(APP)

    async def say(self, verb: Any, reason: str = "") -> None:
        """Say something to it."""
        await self.rollouts.say(APP, verb, Change(actor="ann", reason=reason))

    async def events(self) -> Sequence[Event]:
        """Return what was told."""
        return await EventLog(self.database).read(limit=500)

    # Shifts
    async def under_way(self) -> Sequence[Shifting]:
        """See ``Shifts``."""
        return [self._shown(each) for each in self.deploys_ if not each.state.ended and each.shift is not None]

    async def find(self, app: str) -> Shifting | None:
        """See ``Shifts``."""
        return next(iter(await self.under_way()), None)

    def _shown(self, deploy: Moving) -> Shifting:
        assert deploy.shift is not None
        target = self.revision(deploy.revision)
        ready = deploy.ready >= deploy.shift.number
        progress = tuple(
            ServiceProgress(service=name, state="starting", ready=1 if not ready else 4, wanted=4)
            for name in target.spec.services
        )
        return Shifting(
            app=APP,
            deploy=deploy.id,
            shift=deploy.shift,
            target=target,
            stable=self.revision(deploy.base),
            changed=tuple(target.spec.services),
            shifting=deploy.state is DeployState.SHIFTING,
            ready=ready,
            in_force=deploy.in_force,
            services=progress,
            wanted=self.wanted,
            sentence="",
        )

    def revision(self, number: int) -> Revision:
        """Return a revision."""
        made = self.revisions[number]
        origin = dict.fromkeys(made.services, number)
        return Revision(app=APP, number=number, spec=made, origin=origin, created_at=THEN, actor="ann", reason="")

    async def decide(self, app: str, deploy: str, shift: Shift, *, sentence: str = "", actor: str = "hunqi") -> None:
        """See ``Shifts``."""
        self.effect()
        held = next((each for each in self.deploys_ if each.id == deploy), None)
        if held is None or held.shift is None or held.state.ended or held.shift.verdict is Verdict.ABORT:
            raise DeployEndedError("it has ended")
        if replace(shift, decided_at=0.0) == replace(held.shift, decided_at=0.0):
            return
        if shift.number != held.shift.number + 1:
            raise OvertakenError
        if shift.verdict is Verdict.GO_ON:
            self._check(held, held.shift, shift)
        held.shift = shift
        held.shifts.append(shift)

    def _check(self, held: Moving, before: Shift, shift: Shift) -> None:
        """What holds of every decision: weights only rise, and the tasks for one are there before it is."""
        assert shift.weight >= before.weight, "users were taken back without an abort"
        if shift.weight > before.weight:
            assert held.ready >= before.number, "traffic came before the tasks for it"
            for name, service in self.revisions[held.revision].services.items():
                whole = self.wanted.get(name, service.replicas)
                there = before.replicas.get(name, whole)
                assert there * 10_000 >= min(whole * shift.weight, 10_000), f"{there} of {whole} at {shift.weight}"
                assert there >= -(-whole * shift.weight // 10_000)
        for name in before.replicas:
            assert shift.replicas.get(name, 10**9) >= before.replicas[name], "tasks were taken away"

    # Analyst
    async def look(
        self, shifting: Shifting, specs: Sequence[MeasureSpec], memory: Memory, *, since: float, now: float
    ) -> Looked:
        """See ``Analyst``."""
        assert since <= now
        self.looked += 1
        if self.looks_fail is not None:
            raise self.looks_fail
        found = [self.find_(shifting, each) for each in specs]
        seen = int((now - since) * 50)
        counted = [
            replace(each, samples_new=seen, samples_old=seen * 10) if each.samples_new < 0 else each for each in found
        ]
        return Looked(findings=counted, memory={"looks": memory.get("looks", 0) + 1})


@dataclass
class _Apps:
    deploys: Any
    revisions: Any
    runs: Any
    logs: Any


class _Deploys:
    def __init__(self, world: World) -> None:
        self._world = world

    async def find(self, app: str, deploy: str) -> Deploy:
        for each in self._world.deploys_:
            if each.id == deploy:
                return _deploy(each)
        raise DeployNotFoundError(deploy)

    async def deploys(self, app: str, *, limit: int = 50, before: str | None = None) -> Sequence[Deploy]:
        return [_deploy(each) for each in reversed(self._world.deploys_)][:limit]

    async def rollback(self, app: str, revision: int, change: Change, *, direct: bool = False) -> Deploy:
        made = self._world.revisions[revision]
        deploy = self._world.deploy(made.rollout, made)
        if direct:
            deploy.shift, deploy.state = None, DeployState.SUCCEEDED
        return _deploy(deploy)


class _Revisions:
    def __init__(self, world: World) -> None:
        self._world = world

    async def find(self, app: str, number: int) -> Revision:
        if number not in self._world.revisions:
            raise RevisionNotFoundError(str(number))
        return self._world.revision(number)


class _Runs:
    def __init__(self, world: World) -> None:
        self._world = world

    async def run(self, app: str, request: RunRequest, change: Change) -> Run:
        self._world.effect()
        if request.id in self._world.runs_:
            return self._world.runs_[request.id]
        assert request.revision == self._world.deploys_[-1].revision
        run = Run(
            id=request.id,
            app=app,
            service=request.service,
            kind="run",
            state="running",
            exit_code=None,
            due_at=None,
            started_at=THEN,
            finished_at=None,
        )
        self._world.runs_[run.id] = run
        return run

    async def find(self, app: str, run: str) -> Run:
        found = self._world.runs_.get(run)
        if found is None:
            raise RunNotFoundError(run)
        if found.finished_at is None and self._world.run_ends:
            code = 0 if self._world.run_ends == "succeeded" else 3
            ended = replace(found, state=self._world.run_ends, exit_code=code, finished_at=THEN)
            self._world.runs_[run] = ended
        return found

    def logs(self, app: str, run: str, *, follow: bool) -> Any:
        return _lines(["migrating", "no such column"])


class _Logs:
    def open(self, app: str, query: LogQuery) -> Any:
        return _lines(["it burns"], query.services[0])


@asynccontextmanager
async def _lines(texts: list[str], service: str = "web") -> AsyncGenerator[AsyncIterator[LogLine]]:
    async def lines() -> AsyncIterator[LogLine]:
        for text in texts:
            for revision in (1, 2):
                yield LogLine(
                    service=service,
                    revision=revision,
                    task="t",
                    node="n",
                    stream="stderr",
                    at="",
                    text=f"r{revision} {text}",
                )

    yield lines()


def _deploy(each: Moving) -> Deploy:
    return Deploy(
        id=each.id,
        app=APP,
        revision=each.revision,
        from_revision=each.base,
        state=each.state,
        sentence=f"deploy of {each.revision} is {each.state}",
        services=(),
        problem=each.problem,
        actor="ann",
        reason="",
        created_at=THEN,
        updated_at=THEN,
    )


def _id(number: int) -> str:
    return f"{number:020x}"


@asynccontextmanager
async def run_world(directory: Path) -> AsyncGenerator[World]:
    """A world with an app of which revision 1 serves."""
    async with open_database(str(directory / "state.db")) as database:
        await _add_app(database)
        world = World(database=database)
        await world.serve()
        yield world


async def _add_app(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(TEAMS).values(id="t", name="team", created_at=now()))
        await connection.execute(
            insert(APPS).values(name=APP, team_id="t", desired="running", created_at=now(), updated_at=now())
        )
