"""What history foretells of each service: read, tried and kept by the minute, at the side of the loop.

Histories are read once a minute; back-tests take a second of CPU and are made once an hour, in a thread. Nothing here
ever stops the loop: without history there is no foresight.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import Final

from hunqi.apps.scale_spec import ScaleSpec
from hunqi.errors import HunqiError
from hunqi.scaling.clock import Bounds
from hunqi.scaling.model import Foreseen
from hunqi.scaling.ports import Past
from hunqi.scaling.predict import (
    LEVEL,
    MINUTE_S,
    MOST_SEASONS,
    SEASONS,
    BackTest,
    History,
    Sizing,
    back_test,
    choose,
    foretold,
    season_of,
    worse_lately,
)
from hunqi.telemetry.model import Point, Subject

TEST_EVERY_S: Final = 3600.0
FRESH_S: Final = 60.0
MARGIN_S: Final = 30.0
"""Beside the time that tasks take: measuring, deciding, and the gateways' checks."""
_log: Final = logging.getLogger(__name__)
_LONGEST: Final = max(each.minutes * MOST_SEASONS + each.test for each in SEASONS) + LEVEL


def sizing_of(
    spec: ScaleSpec, bounds: Bounds, *, ready_s: float, cpu_of_task: float | None
) -> tuple[str, Sizing] | None:
    """Return the measure whose history is used and how it becomes tasks; None where there is none."""
    lead = max(1, math.ceil((ready_s + MARGIN_S) / MINUTE_S))

    def made(per_task: float) -> Sizing:
        return Sizing(per_task=per_task, low=bounds.low, high=bounds.high, lead=lead)

    if spec.rps is not None:
        return "rps", made(spec.rps)
    if spec.concurrency is not None:
        return "concurrency", made(spec.concurrency)
    if spec.cpu is not None and spec.cpu.amount is not None:
        return "cpu", made(spec.cpu.amount)
    if spec.cpu is not None and spec.cpu.percent is not None and cpu_of_task:
        return "cpu", made(spec.cpu.percent / 100 * cpu_of_task)
    return None


def history_of(points: list[Point], *, end: float) -> History:
    """Return the points by the minute up to ``end``."""
    last = int(end // MINUTE_S)
    if not points:
        return History(start=last * MINUTE_S, values=())
    first = int(points[0].at // MINUTE_S)
    values: list[float | None] = [None] * max(0, last - first)
    for point in points:
        index = int(point.at // MINUTE_S) - first
        if 0 <= index < len(values):
            values[index] = point.value
    return History(start=first * MINUTE_S, values=tuple(values))


def try_all(history: History, sizing: Sizing) -> tuple[BackTest, ...]:
    """Return the back-tests of all seasons."""
    return tuple(back_test(history, season, sizing) for season in SEASONS)


def foresee(history: History, tests: tuple[BackTest, ...], sizing: Sizing, *, now: float) -> Foreseen:
    """Return what is to be there after the lead, by the season whose back-test helps most."""
    chosen = choose(tests)
    for_at = now + sizing.lead * MINUTE_S
    if chosen is None:
        return Foreseen(sentence="; ".join(each.sentence for each in tests))
    season = season_of(chosen.season)
    worse, why = worse_lately(history, season, sizing.lead)
    if worse:
        return Foreseen(for_at=for_at, sentence=f"switched off by itself: {why}")
    replicas = foretold(history, season, sizing)
    text = f"{replicas} will be needed in {sizing.lead} min by the {season.name} pattern"
    return Foreseen(on=replicas is not None, replicas=replicas, for_at=for_at, sentence=text)


@dataclass(slots=True)
class _Known:
    read_at: float = -math.inf
    tried_at: float = -math.inf
    tests: tuple[BackTest, ...] = ()
    foreseen: Foreseen | None = None
    busy: bool = False


class Foresight:
    """The foresight of every service that asks for it."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._known: dict[tuple[str, str], _Known] = {}

    def of(self, app: str, service: str) -> Foreseen | None:
        """Return what is known now."""
        known = self._known.get((app, service))
        return known.foreseen if known else None

    def tests(self, app: str, service: str) -> tuple[str, ...]:
        """Return what the back-tests said."""
        known = self._known.get((app, service))
        return tuple(each.sentence for each in known.tests) if known else ()

    def keep(self, services: set[tuple[str, str]]) -> None:
        """Forget all others."""
        for key in self._known.keys() - services:
            del self._known[key]

    def is_due(self, app: str, service: str, *, now: float) -> bool:
        """Whether ``look`` has something to do."""
        known = self._known.get((app, service))
        return known is None or (not known.busy and now - known.read_at >= FRESH_S)

    async def look(self, subject: Subject, measure: str, sizing: Sizing, *, now: float) -> None:
        """Read the history of a service and see ahead."""
        known = self._known.setdefault((subject.app, subject.service), _Known())
        known.busy, known.read_at = True, now
        try:
            points = await self._past.load(subject, measure, start=now - _LONGEST * MINUTE_S, end=now)
            history = history_of(list(points), end=now)
            if now - known.tried_at >= TEST_EVERY_S:
                known.tests = await asyncio.to_thread(try_all, history, sizing)
                known.tried_at = now
            known.foreseen = await asyncio.to_thread(foresee, history, known.tests, sizing, now=now)
        except HunqiError as error:
            known.foreseen = Foreseen(sentence=f"its history cannot be read: {error}")
        except Exception:
            _log.exception("app=%s service=%s: its load could not be foretold", subject.app, subject.service)
            known.foreseen = None
        finally:
            known.busy = False
