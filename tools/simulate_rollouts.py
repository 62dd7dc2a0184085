"""Simulate rollouts as their analysis sees them: how often an equal revision is aborted, how soon a bad one is.

The judges are the real ones; only the traffic is drawn. `python -m tools.simulate_rollouts` prints the tables that
`docs/analysis.md` gives. Every rollout has a seed of its own, so that each can be drawn again alone.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec
from hunqi.rollouts.analysis import usage
from hunqi.rollouts.analysis.model import Finding, Outcome
from hunqi.rollouts.analysis.requests import Case, judge, remember, tests_of
from hunqi.rollouts.analysis.trial import Trial
from hunqi.rollouts.analysis.windows import Side, Window
from hunqi.telemetry.histogram import LAST, Histogram, bucket_of, upper_ms
from hunqi.telemetry.model import TaskUsage, UsagePoint

INTERVAL_S = 5.0
SCHEDULE = ((0.05, 20.0), (0.10, 60.0), (0.25, 60.0), (0.50, 60.0))
"""Weight of the new revision, and for how long."""
_BEFORE = 60
"""Intervals of the old revision that were measured before."""
MEASURES = (
    MeasureSpec(name="success-rate", kind=MeasureKind.SUCCESS_RATE),
    MeasureSpec(name="p50", kind=MeasureKind.P50),
    MeasureSpec(name="p95", kind=MeasureKind.P95),
    MeasureSpec(name="p99", kind=MeasureKind.P99),
)


@dataclass(frozen=True, kw_only=True)
class Lane:
    """How one revision behaves. A pause stops a task: what it holds then fails, or is late."""

    tasks: int = 3
    error_share: float = 0.001
    median_ms: float = 30.0
    sigma: float = 0.8
    """Of the log-normal law of latencies: p99 is 6.4 times the median."""
    slow_share: float = 0.0
    slow_ms: float = 0.0
    """A path of the code that takes so long, whatever the rest does."""
    fails_per_hour: float = 0.0
    """How often a task fails all it gets for ``fail_s``."""
    fail_s: float = 1.0
    pauses_per_hour: float = 0.0
    pause_s: float = 0.3
    scatter: float = 0.0
    """Coefficient of variation of the error share, from interval to interval, of this revision alone."""
    task_spread: float = 0.0
    """Standard deviation of the log of each task's latency and error share, for as long as it runs."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Both revisions and what they share."""

    name: str
    old: Lane = field(default_factory=Lane)
    new: Lane | None = None
    """None: as the old one."""
    rps: float = 200.0
    drift: float = 0.0
    """Standard deviation of the log of what both share in errors and latency; an AR(1) over intervals."""
    memory: float = 0.95
    swing: float = 0.0
    """Amplitude of the load, which goes up and down once in ten minutes."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What became of one rollout."""

    outcome: Outcome
    at_s: float = 0.0
    """When it was decided, since the start."""
    weight: float = 0.0
    samples: int = 0
    measure: str = ""
    held: int = 0
    """Steps whose end some measure did not acquit."""


class Draw:
    """The traffic of a world, interval by interval."""

    def __init__(self, world: World, seed: int) -> None:
        """Begin a world; equal seeds give equal traffic."""
        self._world = world
        self._random = random.Random(seed)
        self._shared = self._random.gauss(0, world.drift)
        self._at = self._random.uniform(0, 600)
        self._lanes = [_Drawn(lane, self._random) for lane in (world.new or world.old, world.old)]

    def window(self, start: float, length_s: float, weight: float) -> Window:
        """Return the next window, in which the new revision has ``weight`` of the traffic."""
        world = self._world
        noise = world.drift * math.sqrt(1 - world.memory**2)
        self._shared = world.memory * self._shared + self._random.gauss(0, noise) if world.drift else 0.0
        self._at += length_s
        load = world.rps * (1 + world.swing * math.sin(self._at / 600 * 2 * math.pi))
        new, old = (
            lane.side(load * share, length_s, math.exp(self._shared))
            for lane, share in zip(self._lanes, (weight, 1 - weight), strict=True)
        )
        return Window(start=start, end=start + length_s, new=new, old=old)


class _Drawn:
    def __init__(self, lane: Lane, source: random.Random) -> None:
        self._lane, self._random = lane, source
        self._effects = [math.exp(source.gauss(0, lane.task_spread)) for _ in range(lane.tasks)]

    def side(self, rps: float, length_s: float, shared: float) -> Side:
        requests, errors, counts = 0, 0, Counter[int]()
        for effect in self._effects:
            got = poisson(self._random, rps * length_s / self._lane.tasks)
            requests += got
            failed, latency = self._task(got, rps * length_s / self._lane.tasks, length_s, shared * effect)
            errors += failed
            counts.update(latency)
        return Side(requests=requests, errors=errors, latency=Histogram(dict(counts)))

    def _task(self, got: int, expected: float, length_s: float, factor: float) -> tuple[int, Counter[int]]:
        lane, source = self._lane, self._random
        share = lane.error_share * factor
        if lane.scatter:
            shape = 1 / lane.scatter**2
            share *= source.gammavariate(shape, 1 / shape)
        failed = poisson(source, got * min(1.0, share))
        for _ in range(poisson(source, lane.fails_per_hour * length_s / 3600)):
            failed += poisson(source, expected / length_s * lane.fail_s)
        counts = Counter(source.choices(_BUCKETS, cum_weights=_law(lane.median_ms * factor, lane.sigma), k=got))
        late = min(got, poisson(source, got * lane.slow_share))
        for _ in range(late):
            _move(counts, lane.slow_ms * math.exp(source.gauss(0, 0.2)))
        for _ in range(poisson(source, lane.pauses_per_hour * length_s / 3600)):
            for _ in range(min(counts.total(), poisson(source, expected / length_s * lane.pause_s))):
                _move(counts, source.uniform(0, lane.pause_s * 1000) + lane.median_ms)
        return min(got, failed), counts


_BUCKETS = range(LAST + 1)


def _move(counts: Counter[int], to_ms: float) -> None:
    taken = next((bucket for bucket, count in counts.items() if count), None)
    if taken is not None:
        counts[taken] -= 1
        counts[bucket_of(to_ms)] += 1


def _law(median_ms: float, sigma: float) -> list[float]:
    mean = math.log(median_ms)
    scale = 1 / (sigma * math.sqrt(2))
    return [*(0.5 * math.erfc((mean - bound) * scale) for bound in _BOUNDS), 1.0]


_BOUNDS = [math.log(upper_ms(bucket)) for bucket in range(LAST)]


def poisson(source: random.Random, mean: float) -> int:
    """Draw from Poisson's law; from the normal one where the mean is large."""
    if mean > 60:
        return max(0, round(source.gauss(mean, math.sqrt(mean))))
    limit, product, drawn = math.exp(-mean), source.random(), 0
    while product > limit:
        product *= source.random()
        drawn += 1
    return drawn


def run(
    world: World,
    seed: int,
    *,
    measures: Sequence[MeasureSpec] = MEASURES,
    schedule: Sequence[tuple[float, float]] = SCHEDULE,
) -> Course:
    """Return the course of one rollout: until a measure condemns it, or the schedule's end."""
    draw = Draw(world, seed)
    tests = sum(tests_of(spec) for spec in measures)
    cases = [Case(spec=spec, service="web", new=8, old=7, tests=tests) for spec in measures]
    trials = [Trial() for _ in cases]
    for index in range(_BEFORE):
        window = draw.window((index - _BEFORE) * INTERVAL_S, INTERVAL_S, 0.0)
        trials = [remember(case, trial, [window]) for case, trial in zip(cases, trials, strict=True)]
    at, held = 0.0, 0
    for weight, lasts in schedule:
        findings: list[Finding] = []
        for _ in range(round(lasts / INTERVAL_S)):
            window = draw.window(at, INTERVAL_S, weight)
            at += INTERVAL_S
            judged = [judge(case, trial, [window], since=0.0) for case, trial in zip(cases, trials, strict=True)]
            trials, findings = [trial for trial, _ in judged], [finding for _, finding in judged]
            for finding in findings:
                if finding.outcome is Outcome.FAILURE:
                    return Course(
                        outcome=Outcome.FAILURE,
                        at_s=at,
                        weight=weight,
                        samples=finding.samples_new,
                        measure=finding.measure,
                        held=held,
                    )
        held += any(finding.outcome is not Outcome.SUCCESS for finding in findings)
    return Course(outcome=Outcome.SUCCESS, at_s=at, held=held)


def share_between(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a share, by bisection of the binomial law."""

    def tail(share: float, least: int) -> float:
        return math.fsum(
            math.exp(
                math.lgamma(total + 1)
                - math.lgamma(k + 1)
                - math.lgamma(total - k + 1)
                + k * math.log(share)
                + (total - k) * math.log1p(-share)
            )
            for k in range(least, total + 1)
        )

    def bisect(least: int, chance: float) -> float:
        low, high = 1e-12, 1 - 1e-12
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle, least) < chance else (low, middle)
        return low

    outside = (1 - confidence) / 2
    return (
        bisect(count, outside) if count else 0.0,
        bisect(count + 1, 1 - outside) if count < total else 1.0,
    )


def leak(rate_mib_s: float, seed: int, *, noise_mib: float = 1.0) -> float | None:
    """Return after how many seconds a leak of a task is found that is looked at each interval; None in two minutes."""
    source = random.Random(seed)
    new, *old = (_growing(source, rate, noise_mib, 24) for rate in (rate_mib_s, 0.0, 0.0, 0.0))
    for count in range(1, 25):
        first = max(0, count - round(usage.WINDOW_S / INTERVAL_S) - 1)
        tasks = [replace(task, points=task.points[first:count]) for task in (new, *old)]
        if usage.leaking(usage.Tasks(new=tasks[:1], old=tasks[1:])):
            return count * INTERVAL_S
    return None


def _growing(source: random.Random, rate_mib_s: float, noise_mib: float, count: int) -> TaskUsage:
    points = tuple(
        UsagePoint(
            at=place * INTERVAL_S,
            cpu_cores=0.1,
            memory_bytes=int((100 + rate_mib_s * place * INTERVAL_S + source.gauss(0, noise_mib)) * 2**20),
        )
        for place in range(1, count + 1)
    )
    return TaskUsage(task="task", node="node", revision=8, points=points)


_OLD = Lane()
_P99_MS = _OLD.median_ms * math.exp(2.3263 * _OLD.sigma)
_PAUSING = Lane(pauses_per_hour=600, pause_s=0.5)
EQUAL = (
    World(name="nothing else"),
    World(name="20 requests/s", rps=20),
    World(name="1,000 requests/s", rps=1000),
    World(name="load up and down by 80 % in ten minutes", swing=0.8),
    World(name="errors and latency of both drift (AR(1), σ 0.4)", drift=0.4),
    World(name="… and jump (σ 1, memory 0.8)", drift=1.0, memory=0.8),
    World(name="1 % of errors, scattered by 300 %", old=Lane(scatter=3.0, error_share=0.01)),
    World(name="each task fails for 1 s, 20 times an hour", old=Lane(fails_per_hour=20)),
    World(name="each task fails for 5 s, 10 times an hour", old=Lane(fails_per_hour=10, fail_s=5)),
    World(
        name="one new task for three old, failing for 3 s, 60 times an hour",
        old=Lane(fails_per_hour=60, fail_s=3),
        new=Lane(tasks=1, fails_per_hour=60, fail_s=3),
    ),
    World(name="each task pauses for 0.5 s, 600 times an hour", old=_PAUSING),
    World(name="each task pauses for 2 s, 30 times an hour", old=Lane(pauses_per_hour=30, pause_s=2)),
    World(name="tasks differ by 10 %", old=Lane(task_spread=0.1)),
    World(name="tasks differ by 20 %", old=Lane(task_spread=0.2)),
    World(name="tasks differ by 30 %", old=Lane(task_spread=0.3)),
)
WORSE = (
    World(name="5 % of errors", new=replace(_OLD, error_share=0.05)),
    World(name="2 % of errors", new=replace(_OLD, error_share=0.02)),
    World(name="1 % of errors", new=replace(_OLD, error_share=0.01)),
    World(name="0.5 % of errors", new=replace(_OLD, error_share=0.005)),
    World(name="0.2 % of errors", new=replace(_OLD, error_share=0.002)),
    World(name="all latencies × 4", new=replace(_OLD, median_ms=4 * _OLD.median_ms)),
    World(name="p99 × 4: 2 % of requests on a slow path", new=replace(_OLD, slow_share=0.02, slow_ms=4 * _P99_MS)),
    World(name="all latencies × 2", new=replace(_OLD, median_ms=2 * _OLD.median_ms)),
    World(name="all latencies × 1.5", new=replace(_OLD, median_ms=1.5 * _OLD.median_ms)),
    World(
        name="5 % of errors, all tasks fail for 1 s, 20 times an hour",
        old=Lane(fails_per_hour=20),
        new=Lane(fails_per_hour=20, error_share=0.05),
    ),
    World(
        name="p99 × 4 on a slow path, all tasks pause for 0.3 s, 120 times an hour",
        old=Lane(pauses_per_hour=120),
        new=Lane(pauses_per_hour=120, slow_share=0.02, slow_ms=4 * _P99_MS),
    ),
    World(name="5 % of errors, 50 requests/s", rps=50, new=replace(_OLD, error_share=0.05)),
)


def equal_row(world: World, courses: Sequence[Course]) -> str:
    """Return the row of equal revisions."""
    aborted = sum(course.outcome is Outcome.FAILURE for course in courses)
    low, high = share_between(aborted, len(courses))
    held = sum(course.held > 0 for course in courses) / len(courses)
    return (
        f"| {world.name} | {len(courses):,} | {aborted} | {aborted / len(courses):.2%} | {low:.2%} to {high:.2%} "
        f"| {held:.1%} |"
    )


def worse_row(world: World, courses: Sequence[Course]) -> str:
    """Return the row of worse revisions."""
    bad = [course for course in courses if course.outcome is Outcome.FAILURE]
    if not bad:
        return f"| {world.name} | 0 of {len(courses)} | | | | | |"
    times = sorted(course.at_s for course in bad)
    soon = sum(course.at_s <= 60 for course in bad)
    by = Counter(course.measure for course in bad).most_common(1)[0][0]
    middle, samples = statistics.median(times), statistics.median(course.samples for course in bad)
    return (
        f"| {world.name} | {len(bad)} of {len(courses)} | {soon} | {middle:.0f} s | {times[-1]:.0f} s "
        f"| {samples:,.0f} | {by} |"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--equal", type=int, default=2000, help="rollouts of an equal revision in the plain world")
    parser.add_argument("--others", type=int, default=500, help="in each other world")
    parser.add_argument("--worse", type=int, default=200, help="of each worse revision")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    steps = ", ".join(f"{weight:.0%} for {lasts:.0f} s" for weight, lasts in SCHEDULE)
    print(
        f"{', '.join(spec.name for spec in MEASURES)}, each {INTERVAL_S:.0f} s; {steps}; 200 requests/s unless said\n"
    )
    with ProcessPoolExecutor(asked.processes) as pool:
        print("| worse revisions | aborted | within 60 s | median | last | requests | by |")
        print("|---|---|---|---|---|---|---|")
        for world in WORSE:
            print(worse_row(world, list(pool.map(partial(run, world), range(asked.worse), chunksize=5))), flush=True)
        print("\n| a leak of | found | median | last |\n|---|---|---|---|")
        for rate in (0.0, 0.3, 1.0, 3.0, 10.0):
            print(_leak_row(rate, asked.worse), flush=True)
        print("\n| equal revisions | rollouts | aborted | share | 95 % interval | a step held |")
        print("|---|---|---|---|---|---|")
        for place, world in enumerate(EQUAL):
            seeds = range(asked.others if place else asked.equal)
            print(equal_row(world, list(pool.map(partial(run, world), seeds, chunksize=10))), flush=True)


def _leak_row(rate: float, count: int) -> str:
    found = [leak(rate, seed) for seed in range(count)]
    times = sorted(each for each in found if each is not None)
    told = f"{statistics.median(times):.0f} s | {times[-1]:.0f} s" if times else "|"
    return f"| {rate:g} MiB/s | {len(times)} of {count} | {told} |"


if __name__ == "__main__":
    main()
