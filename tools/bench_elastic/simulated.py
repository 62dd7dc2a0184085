"""What takes days or thousands of releases: by the same functions that decide in control, on a simulated clock."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final

from tools import simulate_rollouts as rollouts
from tools.bench.model import BenchError, Row
from tools.bench_cluster import ROOT
from tools.bench_cluster.session import Session
from tools.simulate_scaling import simulate

from hunqi.rollouts.analysis.model import Outcome

_EQUAL: Final = 2_000
_DAYS: Final = (1, 2, 3, 4, 5)
_CASES: Final = "tests/unit/test_scaling_hpa.py"


def measure_equal(session: Session) -> Iterator[Row]:
    """Yield the row of releases that are as good as what they replace."""
    count = session.acts(_EQUAL)
    session.say(f"{count} simulated releases of equal revisions")
    world = rollouts.EQUAL[0]
    with ProcessPoolExecutor(2) as pool:
        courses = list(pool.map(partial(rollouts.run, world), range(count), chunksize=10))
    aborted = sum(course.outcome is Outcome.FAILURE for course in courses)
    low, high = rollouts.share_between(aborted, count)
    measures = ", ".join(spec.name for spec in rollouts.MEASURES)
    yield Row(
        name="equal revisions aborted, simulated",
        value=aborted / count * 100,
        bar=1.0,
        unit="%",
        figures=f"{aborted} of {count:,} (95 %: {low:.2%} to {high:.2%}), 200 requests/s; {measures} each 5 s",
    )


def measure_daily(session: Session) -> Iterator[Row]:
    """Yield the rows of a daily curve, replayed with prediction and without."""
    days = _DAYS[: session.acts(len(_DAYS))]
    over, hours = [0.0, 0.0], [0.0, 0.0]
    for seed in days:
        session.say(f"daily curve, seed {seed}")
        for place, ran in enumerate(simulate("daily", seed)):
            over[place] += ran.over_s / 60
            hours[place] += ran.replica_hours
    figures = (
        f"{len(days)} days, each after six of history: {over[0]:.0f} minutes over target without, {over[1]:.0f} with; "
        f"{hours[0]:,.0f} and {hours[1]:,.0f} replica-hours"
    )
    yield Row(
        name="daily curve: time over target that prediction spares",
        value=(1 - over[1] / over[0]) * 100,
        bar=50.0,
        unit="%",
        digits=0,
        at_least=True,
        figures=figures,
    )
    yield Row(
        name="daily curve: replica-hours that prediction costs",
        value=(hours[1] / hours[0] - 1) * 100,
        bar=10.0,
        unit="%",
        digits=1,
        figures=figures,
    )


def measure_conformance(session: Session) -> Iterator[Row]:
    """Yield the row of the HPA's examples and rules."""
    session.say("the HPA's examples and rules")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", _CASES],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    found = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    if not found:
        raise BenchError(f"{_CASES} did not run: {done.stdout[-300:]}{done.stderr[-300:]}")
    yield Row(
        name="examples and rules of the HPA's documentation that do not hold",
        value=sum(count for what, count in found.items() if what != "passed"),
        bar=0,
        unit="",
        digits=0,
        figures=f"{found.get('passed', 0)} hold, each a test in {_CASES}",
    )
