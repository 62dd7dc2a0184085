"""Replay days of load against the decisions of elastic scaling, on a simulated clock: with foresight and without.

    .venv/bin/python -m tools.simulate_scaling            # all cases, a table
    .venv/bin/python -m tools.simulate_scaling --only daily --seed 3

Every case has six days of history and is then replayed for a day at its real pace, in steps of ten seconds, by the
same functions that decide in control (``hunqi.scaling``). A task is ready 60 s after it was asked for; the target is
50 requests/s for each, over target is above 55 (the HPA's tolerance). Deterministic: the same seed gives the same
table.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from hunqi.apps.scale_spec import ScaleSpec
from hunqi.scaling.clock import bounds_at
from hunqi.scaling.decide import Look, decide
from hunqi.scaling.foresight import foresee, sizing_of, try_all
from hunqi.scaling.hpa import by_total
from hunqi.scaling.model import Foreseen, Remembered
from hunqi.scaling.panic import PANIC_S, STABLE_S
from hunqi.scaling.predict import DAY, BackTest, History

STEP_S: Final = 10.0
READY_S: Final = 60.0
PER_TASK: Final = 50.0
HISTORY_DAYS: Final = 6
SPEC: Final = ScaleSpec(min=2, max=60, rps=PER_TASK, predict=True)
_STEPS: Final = int(60 / STEP_S)

Curve = Callable[[int], float]
"""Minute since the beginning → requests a second."""


def _ramp(begin: float, end: float, hour: float) -> float:
    return min(1.0, max(0.0, (hour - begin) / (end - begin)))


def daily(minute: int) -> float:
    """A working day: it begins at eight within twelve minutes, rests at noon, has a peak at four and an evening."""
    hour = minute % DAY / 60
    shape = (
        _ramp(7.9, 8.1, hour)
        - 0.35 * (_ramp(12.0, 12.1, hour) - _ramp(13.0, 13.1, hour))
        + 0.4 * (_ramp(16.0, 16.1, hour) - _ramp(17.0, 17.2, hour))
        - 0.8 * _ramp(18.0, 18.5, hour)
        + 0.5 * (_ramp(20.0, 20.1, hour) - _ramp(22.0, 23.0, hour))
    )
    return 100 + 900 * max(0.0, shape)


def smooth(minute: int) -> float:
    """A sine: slow enough for the reactive loop."""
    return 550 - 450 * math.cos(minute / DAY * math.tau)


def flat(_: int) -> float:
    """No pattern at all."""
    return 500.0


def shifted(minute: int) -> float:
    """Six days as always; on the seventh all come three hours later."""
    return daily(minute - 180) if minute >= HISTORY_DAYS * DAY else daily(minute)


def holiday(minute: int) -> float:
    """Six days as always; on the seventh nobody comes."""
    return 100.0 if minute >= HISTORY_DAYS * DAY else daily(minute)


CASES: Final[dict[str, Curve]] = {
    "daily": daily,
    "smooth": smooth,
    "flat": flat,
    "shifted day": shifted,
    "holiday": holiday,
    "unmeasured day": daily,
}
_GAP: Final = range((HISTORY_DAYS - 2) * DAY, (HISTORY_DAYS - 1) * DAY)
"""Of the case *unmeasured day*: a day of the history that is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of a day."""

    over_s: float
    replica_hours: float
    changes: int
    on_part: float
    """The part of the day in which foresight was on."""
    tests: tuple[BackTest, ...] = ()


def noisy(curve: Curve, days: int, seed: int) -> list[float]:
    """Return ``days`` of load by steps: AR(1) noise of 6 % by the minute, another level each day, 3 % by the step."""
    source = random.Random(seed)
    loads: list[float] = []
    slow = level = 0.0
    for minute in range(days * DAY):
        if minute % DAY == 0:
            level = source.gauss(0, 0.04)
        slow = 0.7 * slow + 0.06 * source.gauss(0, 1)
        expected = curve(minute) * (1 + level + slow)
        loads += [max(0.0, expected * (1 + 0.03 * source.gauss(0, 1))) for _ in range(_STEPS)]
    return loads


def by_minute(loads: Sequence[float]) -> list[float | None]:
    """Return the mean of each minute."""
    return [sum(loads[at : at + _STEPS]) / _STEPS for at in range(0, len(loads) - _STEPS + 1, _STEPS)]


def run(loads: Sequence[float], known: Sequence[float | None], *, foresight: bool) -> Ran:
    """Replay what of ``loads`` comes after the history; ``known`` is load by the minute."""
    begin = HISTORY_DAYS * DAY * _STEPS
    memory, wanted = Remembered(ready_s=READY_S), 4
    ready_from: list[float] = [0.0] * wanted
    over_s = task_s = 0.0
    changes = on = 0
    tests: tuple[BackTest, ...] = ()
    foreseen: Foreseen | None = None
    for step in range(begin, len(loads)):
        now = step * STEP_S
        if foresight and step % _STEPS == 0:
            tests, foreseen = _foreseen(known, tests, step, now)
        on += foreseen is not None and foreseen.on
        ready = max(1, sum(at <= now for at in ready_from))
        decision, memory = decide(_look(loads, step, now, (wanted, ready), foreseen), memory)
        if decision.changes:
            changes += 1
            ready_from = sorted(ready_from)[: decision.wanted]
            ready_from += [now + READY_S] * (decision.wanted - len(ready_from))
            wanted = decision.wanted
        task_s += wanted * STEP_S
        over_s += STEP_S * (loads[step] / ready > PER_TASK * 1.1)
    return Ran(
        over_s=over_s, replica_hours=task_s / 3600, changes=changes, on_part=on / (len(loads) - begin), tests=tests
    )


def _foreseen(
    known: Sequence[float | None], tests: tuple[BackTest, ...], step: int, now: float
) -> tuple[tuple[BackTest, ...], Foreseen]:
    """As ``hunqi.scaling.foresight`` does: every minute, with back-tests every hour (here every three)."""
    minute = step // _STEPS
    history = History(start=0.0, values=tuple(known[:minute]))
    sized = sizing_of(SPEC, bounds_at(SPEC, now), ready_s=READY_S, cpu_of_task=None)
    if sized is None:
        raise AssertionError("the spec has a measure")
    if minute % 180 == 0:
        tests = try_all(history, sized[1])
    return tests, foresee(history, tests, sized[1], now=now)


def _look(loads: Sequence[float], step: int, now: float, size: tuple[int, int], foreseen: Foreseen | None) -> Look:
    wanted, ready = size
    stable = loads[max(0, step - int(STABLE_S / STEP_S)) : step]
    burst = loads[max(0, step - math.ceil(PANIC_S / STEP_S)) : step]
    return Look(
        app="shop",
        service="web",
        spec=SPEC,
        now=now,
        current=wanted,
        ready=ready,
        proposals=(by_total("rps", sum(stable) / len(stable), PER_TASK, wanted, SPEC.behavior),),
        burst=math.ceil(sum(burst) / len(burst) / PER_TASK),
        active=True,
        foreseen=foreseen,
    )


def simulate(case: str, seed: int, *, hours: int = 24) -> tuple[Ran, Ran]:
    """Return the day of a case (or its first ``hours``) without foresight, and with it."""
    loads = noisy(CASES[case], HISTORY_DAYS + 1, seed)[: (HISTORY_DAYS * DAY + hours * 60) * _STEPS]
    known = by_minute(loads)
    if case == "unmeasured day":
        known = [None if minute in _GAP else value for minute, value in enumerate(known)]
    return run(loads, known, foresight=False), run(loads, known, foresight=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=sorted(CASES), help="one case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="all numbers, by case")
    given = parser.parse_args(arguments)
    found = {name: simulate(name, given.seed) for name in CASES if given.only in {None, name}}
    if given.json:
        print(json.dumps({name: [asdict(each) for each in pair] for name, pair in found.items()}, indent=2))
        return 0
    print("| case | over target without | with | replica-hours without | with | foresight on |")
    print("|---|---|---|---|---|---|")
    for name, (without, foretold) in found.items():
        spared = 1 - foretold.over_s / without.over_s if without.over_s else 0.0
        cost = foretold.replica_hours / without.replica_hours - 1
        print(
            f"| {name} | {without.over_s / 60:.1f} min | {foretold.over_s / 60:.1f} min ({-spared:+.0%}) "
            f"| {without.replica_hours:.0f} | {foretold.replica_hours:.0f} ({cost:+.1%}) | {foretold.on_part:.0%} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
