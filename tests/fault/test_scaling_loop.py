"""The loop of elastic scaling against services, traffic and sources that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from sqlalchemy import insert, select

from hunqi.apps.errors import AppNotFoundError
from hunqi.apps.model import AppSpec, RouteSpec, ServiceSpec
from hunqi.apps.operations import Change
from hunqi.apps.scale_spec import Behavior, Policy, PolicyKind, Queue, Rules, ScaleSpec, Zero
from hunqi.apps.sizing import Sized, SizedApp, SizedTask
from hunqi.apps.transitions import OvertakenError
from hunqi.engine.model import LABEL_APP, LABEL_SERVICE, Node, Service, Snapshot, Task, TaskState
from hunqi.scaling.controller import Parts, Scaler
from hunqi.scaling.foresight import Foresight
from hunqi.scaling.store import Given, ScalingStore
from hunqi.state.database import Database, open_database
from hunqi.state.events import now
from hunqi.state.tables import APPS, EVENTS, TEAMS
from hunqi.telemetry.errors import NotMeasuredError
from hunqi.telemetry.histogram import Histogram
from hunqi.telemetry.model import Point, Subject, TaskUsage, Traffic

ROUTE = RouteSpec(port=80, hosts=("shop.example.com",))
PER_TASK = 50.0


@dataclass
class World:
    """A service at a simulated clock: its tasks are ready ``start_s`` after they were asked for."""

    database: Database
    spec: ScaleSpec
    template: Mapping[str, object] = field(default_factory=dict[str, object])
    at: float = 1_000_000.0
    start_s: float = 10.0
    wanted: int = 1
    auto: int | None = None
    given: int = 1
    generation: int = 1
    coming: str | None = None
    deploy: str | None = None
    born: list[float] = field(default_factory=lambda: [0.0])
    rates: list[tuple[float, float, float]] = field(default_factory=list[tuple[float, float, float]])
    """Second, requests, open: what was measured."""
    down: bool = False
    queue: float | None = None
    sets: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    overtaken: int = 0
    running: bool = True
    cpus: float | None = None
    """Of the one node, where it has a bound."""

    # Sizes
    async def apps(self) -> Sequence[SizedApp]:
        return [await self.find("shop")]

    async def find(self, app: str) -> SizedApp:
        if app != "shop":
            raise AppNotFoundError(app)
        tasks = tuple(
            SizedTask(
                id=f"t{n}", name="shop_web-r1", node="n1", pending=False, since=at, ready=self.at - at >= self.start_s
            )
            for n, at in enumerate(self.born)
        )
        sized = Sized(
            service="web",
            spec=self.service,
            name="shop_web-r1",
            coming=self.coming,
            wanted=self.wanted,
            auto=self.auto,
            given=self.given,
            ready=sum(each.ready for each in tasks),
            tasks=tasks,
        )
        return SizedApp(
            name="shop",
            team="t",
            generation=self.generation,
            spec=AppSpec(name="shop", services={"web": self.service}),
            running=self.running,
            revision=1,
            deploy=self.deploy,
            state=None,
            shifting=False,
            services=(sized,),
        )

    async def set(
        self, app: str, service: str, replicas: int, *, sentence: str, actor: str = "", generation: int | None = None
    ) -> None:
        if self.overtaken:
            self.overtaken -= 1
            raise OvertakenError
        assert generation == self.generation
        self.auto = self.wanted = replicas
        self.sets.append((replicas, sentence))
        self.born = sorted(self.born)[:replicas] + [self.at] * (replicas - len(self.born))

    async def clear(self, app: str, service: str, *, sentence: str = "", actor: str = "") -> None:
        self.auto = None
        self.wanted = self.given

    @property
    def service(self) -> ServiceSpec:
        return ServiceSpec(
            name="web", image="i", routes=(ROUTE,), internal="gateway", scale=self.spec, template=self.template
        )

    @property
    def ready(self) -> int:
        return sum(self.at - at >= self.start_s for at in self.born)

    # Telemetry
    def measured_until(self, app: str) -> float:
        if self.down:
            raise NotMeasuredError("no gateway was heard")
        return self.at

    def traffic(self, subject: Subject, *, start: float, end: float) -> Traffic:
        seen = [each for each in self.rates if start < each[0] <= end]
        if self.down or not seen:
            raise NotMeasuredError("nothing was measured")
        requests = sum(each[1] for each in seen)
        active = sum(each[2] for each in seen) / len(seen)
        return Traffic(
            start=end - len(seen), end=end, requests=round(requests), active=active, latency=Histogram.of([5.0] * 40)
        )

    def traffic_by_interval(self, subject: Subject, *, start: float, end: float) -> Sequence[Traffic]:
        return [self.traffic(subject, start=start, end=end)]

    def usage(self, subject: Subject, *, start: float, end: float) -> Sequence[TaskUsage]:
        raise NotMeasuredError("no CPU here")

    def custom(self, subject: Subject, metric: str, *, start: float, end: float) -> Mapping[str, Sequence[Point]]:
        return {}

    # the other ports
    async def value(self, name: str, query: str) -> float:
        if self.queue is None:
            raise NotMeasuredError("the server is away")
        return self.queue

    async def load(self, subject: Subject, measure: str, *, start: float, end: float) -> Sequence[Point]:
        raise NotMeasuredError("no history")

    def attend(self, app: str) -> None:
        return None

    def scaler(self) -> Scaler:
        parts = Parts(
            sizes=self,
            store=ScalingStore(self.database),
            telemetry=self,
            querying=self,
            foresight=Foresight(self),
            attending=self,
            cluster=self,
            clock=lambda: self.at,
        )
        return Scaler(parts, sync_s=0.05)

    @property
    def snapshot(self) -> Snapshot | None:
        return None if self.cpus is None else cluster(self.cpus, others=2, own=len(self.born))

    async def run(self, scaler: Scaler, seconds: int, rate: float, *, open_: float | None = None) -> None:
        """Let time pass under a load, with a look every two seconds."""
        for second in range(seconds):
            self.at += 1
            self.rates.append((self.at, rate, rate * 0.05 if open_ is None else open_))
            if second % 2 == 0:
                await scaler.look()


@asynccontextmanager
async def world(tmp_path: Path, spec: ScaleSpec, **more: object) -> AsyncGenerator[World]:
    async with open_database(str(tmp_path / "control.db")) as database:
        async with database.begin() as connection:
            await connection.execute(insert(TEAMS).values(id="t", name="t", created_at=now()))
            await connection.execute(
                insert(APPS).values(name="shop", team_id="t", desired="running", created_at=now(), updated_at=now())
            )
        yield World(database=database, spec=spec, **more)  # pyright: ignore[reportArgumentType]


async def events(world: World, kind: str) -> int:
    async with world.database.read() as connection:
        return len((await connection.execute(select(EVENTS.c.seq).where(EVENTS.c.kind == kind))).all())


RPS = ScaleSpec(min=1, max=20, rps=PER_TASK)


async def test_ten_times_the_load_has_its_tasks_within_30_s_and_turns_back_once_at_most(tmp_path: Path) -> None:
    async with world(tmp_path, RPS) as there:
        scaler = there.scaler()
        await there.run(scaler, 120, 45)
        assert there.wanted == 1
        began, enough_at = there.at, None
        for _ in range(400):
            await there.run(scaler, 2, 450)
            if enough_at is None and there.ready * PER_TASK >= 450:
                enough_at = there.at
        assert enough_at is not None
        assert enough_at - began <= 30
        steps = [after - before for (before, _), (after, _) in pairwise(there.sets) if after != before]
        assert sum(one * other < 0 for one, other in pairwise(steps)) <= 1
        assert 9 <= there.wanted <= 11


async def test_a_constant_load_moves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, RPS) as there:
        scaler = there.scaler()
        await there.run(scaler, 100, 240)
        size, sets = there.wanted, len(there.sets)
        await there.run(scaler, 400, 240)
        assert (there.wanted, len(there.sets)) == (size, sets)
        assert size == 5


async def test_what_falls_waits_for_the_window_of_five_minutes_also_over_a_restart_of_control(tmp_path: Path) -> None:
    async with world(tmp_path, RPS) as there:
        scaler = there.scaler()
        await there.run(scaler, 200, 450)
        high = there.wanted
        await there.run(scaler, 120, 50)
        again = there.scaler()
        task = asyncio.create_task(again.run())
        await asyncio.sleep(0.15)
        task.cancel()
        await asyncio.wait([task])
        await there.run(again, 100, 50)
        assert there.wanted == high
        await there.run(again, 200, 50)
        assert there.wanted < high


async def test_a_source_that_is_down_takes_nothing_away(tmp_path: Path) -> None:
    async with world(tmp_path, RPS) as there:
        scaler = there.scaler()
        await there.run(scaler, 100, 450)
        there.down = True
        await there.run(scaler, 800, 0)
        assert there.wanted >= 9
        last = scaler.last("shop", "web")
        assert last is not None
        assert last.asked is None
        assert "no gateway was heard" in last.sentence


async def test_an_idle_service_goes_to_zero_only_without_open_streams_and_a_waiting_request_wakes_it_at_once(
    tmp_path: Path,
) -> None:
    spec = ScaleSpec(min=1, max=5, concurrency=10, zero=Zero(cooldown_s=60))
    async with world(tmp_path, spec) as there:
        scaler = there.scaler()
        await there.run(scaler, 200, 0, open_=2.0)  # WebSockets that say nothing
        assert there.wanted == 1
        await there.run(scaler, 50, 0)
        assert there.wanted == 1
        await there.run(scaler, 20, 0)
        assert there.wanted == 0
        running = asyncio.create_task(scaler.run())
        await asyncio.sleep(0.1)
        before = len(there.sets)
        scaler.wake("shop", "web")
        async with asyncio.timeout(2):
            while there.wanted == 0:
                await asyncio.sleep(0.005)
        assert "a request waits" in there.sets[before][1]
        running.cancel()
        await asyncio.wait([running])


async def test_at_zero_nothing_is_known_is_no_reason_to_wake_and_with_tasks_none_to_sleep(tmp_path: Path) -> None:
    async with world(tmp_path, ScaleSpec(min=1, max=5, rps=10, zero=Zero(cooldown_s=10))) as there:
        scaler = there.scaler()
        there.down = True
        await there.run(scaler, 100, 0)
        assert there.wanted == 1
        there.down = False
        await there.run(scaler, 60, 0)
        assert there.wanted == 0
        there.down = True
        await there.run(scaler, 60, 0)
        assert there.wanted == 0


async def test_a_queue_wakes_and_sizes_what_works_on_it(tmp_path: Path) -> None:
    spec = ScaleSpec(
        min=1, max=9, queue=Queue(query="sum(jobs)", per_replica=10, source="prom"), zero=Zero(cooldown_s=20)
    )
    async with world(tmp_path, spec, queue=0.0) as there:
        scaler = there.scaler()
        await there.run(scaler, 60, 0)
        assert there.wanted == 0
        there.queue = 45.0
        await there.run(scaler, 2, 0)
        assert there.wanted == 5
        there.queue = None
        await there.run(scaler, 400, 0)
        assert there.wanted == 5


async def test_a_rollout_under_way_freezes_the_way_down_only(tmp_path: Path) -> None:
    async with world(tmp_path, RPS) as there:
        scaler = there.scaler()
        await there.run(scaler, 100, 300)
        high = there.wanted
        there.deploy, there.coming = "d1", "shop_web-r2"
        await there.run(scaler, 700, 50)
        assert there.wanted == high
        await there.run(scaler, 100, 600)
        assert there.wanted > high


async def test_a_deploy_at_the_same_moment_overtakes_and_it_looks_again(tmp_path: Path) -> None:
    async with world(tmp_path, RPS) as there:
        scaler = there.scaler()
        await there.run(scaler, 20, 45)
        there.overtaken = 1
        await there.run(scaler, 20, 450)
        assert there.wanted >= 9


def cluster(cpus: float, *, others: int, own: int) -> Snapshot:
    """One node, with tasks of another app that reserve half a CPU, and of the service that reserve one."""
    node = Node(
        id="n1", version=1, hostname="one", role="manager", availability="active", state="ready", address="10.0.0.1",
        labels={}, is_leader=True, reachable=True, nano_cpus=int(cpus * 10**9), memory_bytes=2**33,
        engine_version="20", platform="linux/amd64", spec={},
    )  # fmt: skip
    services = {"s1": reserving("s1", "blog", 500_000_000), "s2": reserving("s2", "shop", 1_000_000_000)}
    tasks = {"s1": running("s1", "b", others), "s2": running("s2", "t", own)}
    return Snapshot(
        nodes={"n1": node}, services=services, tasks=tasks, networks={}, secrets={}, configs={}, taken_at=0.0
    )


def reserving(key: str, app: str, nano_cpus: int) -> Service:
    labels = {LABEL_APP: app, LABEL_SERVICE: "web"}
    reserves = {"TaskTemplate": {"Resources": {"Reservations": {"NanoCPUs": nano_cpus}}}}
    return Service(id=key, version=1, name=f"{app}_web-r1", labels=labels, spec=reserves, created_at="", updated_at="")


def running(service: str, prefix: str, count: int) -> tuple[Task, ...]:
    return tuple(
        Task(
            id=f"{prefix}{n}", service_id=service, node_id="n1", slot=n, state=TaskState.RUNNING,
            desired_state=TaskState.RUNNING, message="", error="", exit_code=None, container_id=None, pid=None,
            addresses={}, image="", created_at="", updated_at="",
        )
        for n in range(count)
    )  # fmt: skip


async def test_nothing_goes_past_what_nodes_can_hold_and_the_shortage_is_told_once(tmp_path: Path) -> None:
    template = {"Resources": {"Reservations": {"NanoCPUs": 1_000_000_000}}}
    async with world(tmp_path, RPS, template=template, cpus=4.0) as there:
        scaler = there.scaler()
        await there.run(scaler, 120, 450)
        assert there.wanted == 3  # one runs, and two CPUs are free
        assert await events(there, "scaling.short") == 1
        last = scaler.last("shop", "web")
        assert last is not None
        assert last.short > 0
        assert any("blog/web" in each for each in last.because)


async def test_what_a_user_sets_stands_before_the_file_and_off_gives_the_size_back(tmp_path: Path) -> None:
    async with world(tmp_path, RPS) as there:
        store, scaler = ScalingStore(there.database), there.scaler()
        change = Change(actor="ada", reason="sale")
        await store.give(
            "shop", "web", Given(spec=ScaleSpec(min=3, max=4, rps=PER_TASK)), "service.autoscale-set", change
        )
        await there.run(scaler, 60, 450)
        assert there.wanted == 4
        await store.give("shop", "web", Given(off=True), "service.autoscale-off", change)
        await there.run(scaler, 4, 450)
        assert (there.auto, there.wanted) == (None, 1)


async def test_an_app_that_a_user_has_stopped_is_left_alone_and_goes_on_afterwards(tmp_path: Path) -> None:
    async with world(tmp_path, RPS) as there:
        scaler = there.scaler()
        await there.run(scaler, 20, 240)
        sets = len(there.sets)
        there.running = False
        await there.run(scaler, 40, 900)
        assert len(there.sets) == sets
        there.running = True
        await there.run(scaler, 20, 900)
        assert there.wanted == 18


async def test_no_task_by_hand_turns_scaling_off(tmp_path: Path) -> None:
    async with world(tmp_path, RPS, wanted=0, given=0, born=[]) as there:
        await there.run(there.scaler(), 60, 450)
        assert (there.wanted, there.auto) == (0, None)


async def test_decisions_are_kept_with_their_numbers_and_bounded(tmp_path: Path) -> None:
    up = Rules(window_s=0, policies=(Policy(kind=PolicyKind.TASKS, value=1, period_s=1),))
    async with world(tmp_path, ScaleSpec(min=1, max=900, rps=1, behavior=Behavior(up=up))) as there:
        scaler = there.scaler()
        await there.run(scaler, 640, 5000)
        kept = await ScalingStore(there.database).decisions("shop", service="web", limit=1000)
        assert 250 <= len(kept) <= 301
        assert kept[0].proposals[0].target == 1
        assert "the policies allow no faster change" in " ".join(kept[0].because)
