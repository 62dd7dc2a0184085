"""Simulate rollouts as their analysis sees them: how often an equal revision is aborted, how soon a bad one is.

The judges are the real ones; only the traffic is drawn. `python -m tools.simulate_rollouts` prints the tables that
`docs/analysis.md` gives. Every rollout has a seed of its own, so that each can be drawn again alone.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate

from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec
from hunqi.rollouts.analysis.model import Outcome
from hunqi.rollouts.analysis.requests import Case, judge, remember, tests_of
from hunqi.rollouts.analysis.trial import Trial
from hunqi.rollouts.analysis.windows import Side, Window
from hunqi.telemetry.histogram import LAST, Histogram, bucket_of, upper_ms

INTERVAL_S = 5.0
SCHEDULE = ((0.05, 60.0), (0.10, 60.0), (0.25, 60.0), (0.50, 60.0))
"""Weight of the new revision, and for how long."""
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
    measures: Sequence[MeasureSpec] = MEASURES,
    schedule: Sequence[tuple[float, float]] = SCHEDULE,
) -> Course:
    """Return the course of one rollout: until a measure condemns it, or the schedule's end."""
    draw = Draw(world, seed)
    tests = sum(tests_of(spec) for spec in measures)
    cases = [Case(spec=spec, service="web", new=8, old=7, tests=tests) for spec in measures]
    trials = [Trial() for _ in cases]
    for index in range(60):
        window = draw.window((index - 60) * INTERVAL_S, INTERVAL_S, 0.0)
        trials = [remember(case, trial, [window]) for case, trial in zip(cases, trials, strict=True)]
    at, held = 0.0, 0
    for weight, lasts in schedule:
        findings = []
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
