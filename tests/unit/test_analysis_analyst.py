"""Looks at a rollout by what the live telemetry holds: intervals counted once, control killed, sources down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from hunqi.apps.model import Revision, ServiceSpec
from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec
from hunqi.apps.shifting import Shift, Shifting
from hunqi.errors import DependencyError
from hunqi.rollouts.analysis.analyst import Analyst
from hunqi.rollouts.analysis.gathering import Sources
from hunqi.rollouts.analysis.model import Finding, Memory, Outcome
from hunqi.rollouts.analysis.ports import Answer
from hunqi.telemetry.wire import CustomValue, NodeSample, TaskCounts
from support_apps import service, spec, web
from support_telemetry import Measuring, measuring

RATE = MeasureSpec(name="success-rate", kind=MeasureKind.SUCCESS_RATE)
P99 = MeasureSpec(name="p99", kind=MeasureKind.P99)
MEMORY = MeasureSpec(name="memory", kind=MeasureKind.MEMORY)
AT = datetime(2026, 1, 1, tzinfo=UTC)


class DownError(DependencyError):
    """A source that does not answer."""

    code = "test.down"


def revision(number: int, services: Sequence[ServiceSpec]) -> Revision:
    return Revision(
        app="shop",
        number=number,
        spec=spec(*services),
        origin={each.name: number for each in services},
        created_at=AT,
        actor="ann",
        reason="",
    )


def shifting(*services: ServiceSpec) -> Shifting:
    parts = services or (web(),)
    return Shifting(
        app="shop",
        deploy="d1",
        shift=Shift(weight=500),
        target=revision(8, parts),
        stable=revision(7, parts),
        changed=tuple(each.name for each in parts),
    )


@dataclass
class Outside:
    """PromQL servers, checks and endings, as a test sets them; an exception is raised."""

    values: dict[str, float | Exception | None] = field(default_factory=dict)
    answer: Answer = field(default_factory=lambda: Answer(status=200))
    endings: dict[int, int] = field(default_factory=dict)

    async def value(self, source: str, query: str, *, at: float) -> float | None:
        found = self.values[query]
        if isinstance(found, Exception):
            raise found
        return found

    async def get(self, app: str, service: str, revision: int, path: str) -> Answer:
        return self.answer

    async def ended(self, app: str, service: str, revision: int, *, since: float) -> int:
        return self.endings.get(revision, 0)


@dataclass
class Rollout:
    """A rollout of revision 8 over 7 that is looked at after every interval; its memory travels as JSON."""

    of: Shifting = field(default_factory=shifting)
    specs: tuple[MeasureSpec, ...] = (RATE,)
    world: Measuring = field(default_factory=lambda: measuring("a", "b"))
    outside: Outside = field(default_factory=Outside)
    memory: Memory = field(default_factory=dict)
    since: float = 0.0
    tasks: tuple[TaskCounts, ...] = ()
    custom: tuple[CustomValue, ...] = ()

    def before(self, times: int = 12) -> None:
        self.interval(0)
        for _ in range(times):
            self.interval(0)
        self.since = self.world.clock.now

    def interval(self, new: int = 50, bad: int = 0, *, old: int = 450, old_bad: int = 0, of: str = "web") -> None:
        for node, share in zip(self.world.nodes.values(), (0.4, 0.6), strict=True):
            node.serve(of, 7, round(old * share), errors=round(old_bad * share))
            node.serve(of, 8, round(new * share), errors=round(bad * share))
        self.world.clock.now += 5.0
        for node in self.world.nodes.values():
            self.world.live.record(self._sample(node.sample(self.world.clock.now)))

    def _sample(self, sample: NodeSample) -> NodeSample:
        mine = sample.node == "a"
        return replace(sample, tasks=self.tasks if mine else (), custom=self.custom if mine else ())

    async def look(self) -> Sequence[Finding]:
        sources = Sources(telemetry=self.world.live, queries=self.outside, checks=self.outside, endings=self.outside)
        looked = await Analyst(sources).look(
            self.of, self.specs, self.memory, since=self.since, now=self.world.clock.now + 0.5
        )
        self.memory = json.loads(json.dumps(looked.memory))
        return looked.findings


async def test_a_bad_revision_is_condemned_and_stays_so() -> None:
    rollout = Rollout(specs=(RATE, P99))
    rollout.before()
    outcomes: list[Outcome] = []
    for _ in range(10):
        rollout.interval(bad=5)
        outcomes.append((await rollout.look())[0].outcome)

    assert outcomes[0] is Outcome.WAITING
    assert outcomes[3:] == [Outcome.FAILURE] * 7
    assert "revision 8" in (await rollout.look())[0].sentence


async def test_a_good_one_is_acquitted_after_enough_requests() -> None:
    rollout = Rollout(specs=(RATE, P99))
    rollout.before()
    for _ in range(5):
        rollout.interval(old_bad=5)
        found = await rollout.look()

    assert [finding.outcome for finding in found] == [Outcome.SUCCESS] * 2
    assert found[0].samples_new == 250


async def test_looks_that_were_missed_are_made_up_for_and_none_counts_twice() -> None:
    often, seldom = Rollout(), Rollout()
    for rollout in (often, seldom):
        rollout.before()
    for place in range(12):
        often.interval(bad=int(place % 5 == 0), old_bad=2)
        seldom.interval(bad=int(place % 5 == 0), old_bad=2)
        for _ in range(3):
            found = await often.look()
        if place == 11:
            late = await seldom.look()

    assert late[0].sentence == found[0].sentence
    assert late[0].numbers == pytest.approx(found[0].numbers, abs=0.01)
    assert found[0].samples_new == 600


async def test_an_interval_that_not_every_gateway_was_heard_in_waits() -> None:
    rollout = Rollout()
    rollout.before()
    rollout.interval()
    await rollout.look()
    rollout.world.nodes["a"].serve("web", 8, 100)
    rollout.world.clock.now += 5
    rollout.world.live.record(rollout.world.nodes["a"].sample(rollout.world.clock.now))

    assert (await rollout.look())[0].samples_new == 50


async def test_telemetry_that_is_silent_is_an_error_and_no_success() -> None:
    rollout = Rollout()
    rollout.before()
    for _ in range(6):
        rollout.interval()
        found = await rollout.look()
    assert found[0].outcome is Outcome.SUCCESS
    outcomes: list[Outcome] = []
    for _ in range(8):
        rollout.world.clock.now += 5
        outcomes.append((await rollout.look())[0].outcome)
    for _ in range(3):  # the first have what came meanwhile, and are not counted
        rollout.interval()

    assert outcomes[-1] is Outcome.ERROR
    assert Outcome.FAILURE not in outcomes
    assert (await rollout.look())[0].outcome is Outcome.SUCCESS


async def test_another_target_begins_anew() -> None:
    rollout = Rollout()
    rollout.before()
    for _ in range(6):
        rollout.interval(bad=5)
        await rollout.look()
    rollout.of = replace(rollout.of, deploy="d2")
    rollout.since = rollout.world.clock.now
    rollout.interval()

    found = await rollout.look()

    assert found[0].outcome is Outcome.WAITING
    assert found[0].samples_new == 50


async def test_services_without_traffic_are_not_waited_for_unless_all_are_or_they_are_named() -> None:
    rollout = Rollout(of=shifting(web(), web("admin"), service("worker")))
    rollout.before()
    rollout.interval()
    assert [finding.service for finding in await rollout.look()] == ["web"]

    rollout.specs = (replace(RATE, services=("admin",)),)
    assert [finding.service for finding in await rollout.look()] == ["admin"]

    quiet = Rollout(of=shifting(web("admin"), web("shop")))
    quiet.before()
    assert {finding.outcome for finding in await quiet.look()} == {Outcome.WAITING}


async def test_the_chance_of_a_false_abort_is_shared_by_all_tests() -> None:
    alone, among = Rollout(), Rollout(of=shifting(web(), web("admin")), specs=(RATE, P99))
    shares: list[float] = []
    for rollout in (alone, among):
        rollout.before()
        for _ in range(2):
            rollout.interval(bad=1)
            found = await rollout.look()
        shares.append(found[0].numbers["evidence"])

    assert shares[1] < shares[0] < 1


async def test_a_leak_is_found_and_named() -> None:
    rollout = Rollout(specs=(MEMORY,))
    rollout.before()
    outcomes: list[Outcome] = []
    for place in range(12):
        rollout.tasks = tuple(
            TaskCounts(
                task=f"t{number}",
                app="shop",
                service="web",
                revision=number,
                cpu_s=1.0,
                memory_bytes=(100 + 15 * place if number == 8 else 300) * 2**20,
            )
            for number in (7, 8)
        )
        rollout.interval()
        found = await rollout.look()
        outcomes.append(found[0].outcome)

    assert outcomes[0] is Outcome.WAITING
    assert outcomes[-1] is Outcome.FAILURE
    assert "1 of 1 tasks grow by 3.0 MiB each second" in found[0].sentence


async def test_queries_compare_where_they_name_the_revision() -> None:
    query = 'rate(jobs{backend="shop_web-r$revision"}[1m])'
    rollout = Rollout(specs=(MeasureSpec(name="jobs", kind=MeasureKind.PROMQL, query=query, error_limit=1),))
    rollout.before()
    new, old = (query.replace("$revision", number) for number in "87")
    outcomes: list[Outcome] = []
    for value in (1.1, DownError("it is down"), DownError("it is down"), None, 1.0, 1.4):
        rollout.outside.values = {new: value, old: 1.0}
        rollout.interval()
        outcomes.append((await rollout.look())[0].outcome)

    assert outcomes == [
        Outcome.SUCCESS,
        Outcome.WAITING,
        Outcome.ERROR,
        Outcome.ERROR,
        Outcome.SUCCESS,
        Outcome.FAILURE,
    ]


async def test_metrics_of_the_app_checks_and_restarts() -> None:
    depth = MeasureSpec(name="depth", kind=MeasureKind.METRIC, query="queue_depth", at_most=10, compare=False)
    check = MeasureSpec(name="ready", kind=MeasureKind.HTTP, query="/ready")
    ended = MeasureSpec(name="restarts", kind=MeasureKind.RESTARTS, initial_delay_s=4)
    rollout = Rollout(of=shifting(web(), service("worker")), specs=(depth, check, ended))
    rollout.before()
    rollout.custom = (CustomValue(task="t", app="shop", service="worker", revision=8, metric="queue_depth", value=4.0),)
    early = {finding.measure: finding.outcome for finding in await rollout.look()}
    rollout.interval()
    rollout.interval()
    found = {(finding.measure, finding.service): finding for finding in await rollout.look()}
    rollout.outside.answer, rollout.outside.endings = Answer(status=500), {8: 2}
    rollout.interval()
    later = {(finding.measure, finding.service): finding for finding in await rollout.look()}

    assert early == {"depth": Outcome.WAITING, "ready": Outcome.SUCCESS, "restarts": Outcome.WAITING}
    assert {finding.outcome for finding in found.values()} == {Outcome.SUCCESS}
    assert found["depth", "worker"].numbers["new"] == 4.0
    assert later["ready", "web"].sentence == "web: GET /ready answered 500: that is no 2xx"
    assert later["restarts", "web"].outcome is Outcome.FAILURE
