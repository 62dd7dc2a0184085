"""Load that history foretells: a seasonal forecast, and the back-test that decides whether it is used. Pure.

The forecast is a seasonal naive one with a correction of level: what the same minutes of the last seasons had, times
how much today differs from them lately. Whether it helps is not believed but tried: the past is replayed against doing
nothing, and against the same forecast at wrong hours, which helps a service without a pattern just as well. It is used
where it spares time over target for few more replica-hours, and left as soon as its last hours were worse than a guess
that nothing changes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

MINUTE_S: Final = 60.0
DAY: Final = 1440
WEEK: Final = 7 * DAY
MOST_SEASONS: Final = 3
"""So many seasons back are asked."""
AHEAD: Final = 4
"""Minutes around the hour that are looked at, since nobody comes to the minute."""
LEVEL: Final = 30
"""Minutes by which today's level is judged."""
LEVEL_MOST: Final = 1.5
SAFETY: Final = 0.65
"""The quantile of past errors that is added."""
DOWN_WINDOW: Final = 5
"""Minutes of the HPA's stabilisation window, for the replay."""
TOLERANCE: Final = 1.1
SPARES: Final = 0.3
"""A forecast must spare this part of the time over target,"""
BEATS: Final = 0.2
"""and by so much more than the same forecast at wrong hours,"""
COSTS: Final = 0.10
"""for so many more replica-hours at most."""
WORTH: Final = 3.0
"""Minutes a day over target below which there is nothing to mend."""
RECENT: Final = 120
WORSE: Final = 1.25
ENOUGH: Final = 0.4
"""The part of a test's minutes that must have been measured."""
_WRONG_HOURS: Final = (0.23, 0.5, 0.77)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Load by the minute from ``start`` (seconds since the epoch); None where nothing was measured."""

    start: float
    values: tuple[float | None, ...]

    def at(self, index: int) -> float | None:
        """Return the load of a minute, None outside."""
        return self.values[index] if 0 <= index < len(self.values) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """A length of time after which load is alike, in minutes; the last ``test`` minutes are replayed."""

    name: str
    minutes: int
    test: int


SEASONS: Final = (
    Season(name="daily", minutes=DAY, test=2 * DAY),
    Season(name="weekly", minutes=WEEK, test=WEEK),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """How load becomes tasks: so much is one task's; ``lead`` minutes pass from asking for one to having it."""

    per_task: float
    low: int
    high: int
    lead: int = 1

    def tasks(self, load: float) -> int:
        """Return how many tasks a load needs."""
        return max(self.low, min(self.high, math.ceil(load / self.per_task - 1e-9)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is expected: ``centre`` as likely too high as too low, ``upper`` with safety."""

    centre: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackTest:
    """A replay. Minutes over target, and replica-hours; ``chance`` is what wrong hours spare, a part of 1."""

    season: str
    minutes: int
    over_without: int = 0
    over_with: int = 0
    hours_without: float = 0.0
    hours_with: float = 0.0
    chance: float = 0.0
    helps: bool = False
    sentence: str = ""

    @property
    def spares(self) -> float:
        """The part of the time over target that it spares."""
        return 1 - self.over_with / self.over_without if self.over_without else 0.0

    @property
    def costs(self) -> float:
        """The part of replica-hours that it adds."""
        return self.hours_with / self.hours_without - 1 if self.hours_without else 0.0


class Foreteller:
    """Forecasts of one history by one season; ``shift`` minutes off the right hour, for the control."""

    def __init__(self, history: History, season: Season, shift: int = 0) -> None:
        self._history = history
        self._season = season
        self._shift = shift
        self._expectations: dict[int, float | None] = {}
        self._levels: dict[int, tuple[float, float]] = {}

    def forecast(self, index: int, lead: int) -> Forecast | None:
        """Return what is expected of minutes ``lead`` to ``lead + AHEAD`` after ``index`` by what was known then."""
        expected = [self._expected(index + lead + step) for step in range(-1, AHEAD + 1)]
        known = [each for each in expected if each is not None]
        if len(known) < len(expected) / 2:
            return None
        level, error = self._level(index)
        centre = expected[1] if expected[1] is not None else median(known)
        return Forecast(centre=centre * level, upper=max(known) * level * (1 + error))

    def _expected(self, index: int) -> float | None:
        """Return the median of the same minute of past seasons, each smoothed over three minutes."""
        if index not in self._expectations:
            starts = (index - back * self._season.minutes + self._shift for back in range(1, MOST_SEASONS + 1))
            found = [value for at in starts if (value := self._smooth(at)) is not None]
            self._expectations[index] = median(found) if found else None
        return self._expectations[index]

    def _smooth(self, index: int) -> float | None:
        held = [value for step in (-1, 0, 1) if (value := self._history.at(index + step)) is not None]
        return sum(held) / len(held) if held else None

    def _level(self, index: int) -> tuple[float, float]:
        """Return by what today differs lately, and by what part load was above that: the quantile for safety."""
        if index not in self._levels:
            self._levels[index] = self._level_at(index)
        return self._levels[index]

    def _level_at(self, index: int) -> tuple[float, float]:
        pairs: list[tuple[float, float]] = []
        for at in range(index - LEVEL, index):
            value, expected = self._history.at(at), self._expected(at)
            if value is not None and expected is not None:
                pairs.append((value, expected))
        total = sum(expected for _, expected in pairs)
        if len(pairs) < LEVEL / 2 or total <= 0:
            return 1.0, 0.0
        level = min(LEVEL_MOST, sum(value for value, _ in pairs) / total)
        over = sorted(max(0.0, value / (expected * level) - 1) for value, expected in pairs if expected * level > 0)
        return level, min(0.5, over[int(SAFETY * (len(over) - 1))]) if over else 0.0


Forecasting = Callable[[int], Forecast | None]


def back_test(history: History, season: Season, sizing: Sizing) -> BackTest:
    """Replay the end of ``history`` with the season's forecast, without it, and with it at wrong hours."""
    begin = len(history.values) - season.test
    needed = begin - season.minutes - LEVEL
    held = [value for value in history.values[max(0, begin) :] if value is not None]
    if needed < 0 or len(held) < ENOUGH * season.test:
        days = (season.test + season.minutes + LEVEL) / DAY
        return BackTest(season=season.name, minutes=0, sentence=f"{season.name}: it takes {days:.1f} days of history")
    plain = _replay(history, sizing, begin, None)
    tried = _replay(history, sizing, begin, _by(history, season, sizing, 0))
    found = BackTest(
        season=season.name,
        minutes=season.test,
        over_without=plain[0],
        over_with=tried[0],
        hours_without=plain[1],
        hours_with=tried[1],
    )
    if plain[0] * DAY / season.test < WORTH:
        return _said(found, helps=False, why=f"under {WORTH:.0f} minutes a day over target: nothing to mend")
    if found.costs > COSTS:
        return _said(found, helps=False, why=f"it costs {found.costs:.0%} more replica-hours")
    if found.spares < SPARES:
        return _said(found, helps=False, why="too little")
    chance = _by_chance(history, season, sizing, begin, plain)
    found = replace(found, chance=chance)
    if found.spares < chance + BEATS:
        return _said(found, helps=False, why=f"at wrong hours it spares {chance:.0%} too: that is no pattern")
    return _said(found, helps=True, why="used")


def _by(history: History, season: Season, sizing: Sizing, shift: int) -> Forecasting:
    foreteller = Foreteller(history, season, shift)
    return lambda index: foreteller.forecast(index, sizing.lead)


def _by_chance(history: History, season: Season, sizing: Sizing, begin: int, plain: tuple[int, float]) -> float:
    """Return what the forecast spares at wrong hours, on average, where it costs no more than is allowed."""
    spared: list[float] = []
    for part in _WRONG_HOURS:
        over, hours = _replay(history, sizing, begin, _by(history, season, sizing, int(part * season.minutes)))
        cheap = hours <= plain[1] * (1 + COSTS)
        spared.append(max(0.0, 1 - over / plain[0]) if cheap else 0.0)
    return sum(spared) / len(spared)


def _said(found: BackTest, *, helps: bool, why: str) -> BackTest:
    days = found.minutes / DAY
    sentence = (
        f"{found.season}, over {days:.0f} days: {found.over_without} minutes over target without, "
        f"{found.over_with} with, for {found.costs:+.1%} replica-hours: {why}"
    )
    return replace(found, helps=helps, sentence=sentence)


def _replay(history: History, sizing: Sizing, begin: int, forecast: Forecasting | None) -> tuple[int, float]:
    """Return (minutes over target, replica-hours) of a service that is sized by the minute before, and a forecast."""
    over, task_minutes = 0, 0
    recent: deque[int] = deque(maxlen=DOWN_WINDOW)
    asked: deque[int] = deque(maxlen=sizing.lead + 1)
    for index in range(begin, len(history.values)):
        last, load = history.at(index - 1), history.at(index)
        if last is not None:
            recent.append(sizing.tasks(last))
        wanted = max(recent, default=sizing.low)
        if forecast is not None and (found := forecast(index)) is not None:
            wanted = max(wanted, sizing.tasks(found.upper))
        asked.append(wanted)
        if load is None:
            continue
        task_minutes += wanted
        if load > min(asked) * sizing.per_task * TOLERANCE:
            over += 1
    return over, task_minutes / MINUTE_S


def choose(tests: Sequence[BackTest]) -> BackTest | None:
    """Return the test of the season that helps most, None if none does."""
    return max((each for each in tests if each.helps), key=lambda each: each.spares, default=None)


def season_of(name: str) -> Season:
    """Return a season by its name."""
    return next(each for each in SEASONS if each.name == name)


def worse_lately(history: History, season: Season, lead: int) -> tuple[bool, str]:
    """Say whether the forecasts of the last two hours were worse than the guess that nothing changes."""
    foreteller = Foreteller(history, season)
    end = len(history.values)
    by_season = by_guess = 0.0
    count = 0
    for index in range(end - RECENT - lead, end - lead):
        value, found = history.at(index + lead), foreteller.forecast(index, lead)
        last = [each for step in range(1, 4) if (each := history.at(index - step)) is not None]
        if value is None or found is None or not last:
            continue
        by_season += abs(found.centre - value)
        by_guess += abs(sum(last) / len(last) - value)
        count += 1
    if count < RECENT / 4:
        return True, "the last two hours were not measured"
    if by_season > WORSE * by_guess and by_season / count > _SMALL * _mean(history, end):
        return True, "its forecasts of the last two hours were worse than the guess that nothing changes"
    return False, ""


_SMALL: Final = 0.15
"""Errors below this part of the load do no harm, whoever makes smaller ones."""


def _mean(history: History, end: int) -> float:
    held = [value for value in history.values[max(0, end - RECENT) : end] if value is not None]
    return sum(held) / len(held) if held else 0.0


def foretold(history: History, season: Season, sizing: Sizing) -> int | None:
    """Return how many tasks are to be there after ``lead`` minutes, None where nothing can be said."""
    found = Foreteller(history, season).forecast(len(history.values), sizing.lead)
    return None if found is None else sizing.tasks(found.upper)
