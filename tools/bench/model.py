"""Rows, the run that they belong to, and how samples become figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


class BenchError(Exception):
    """A measurement went wrong, so that its figure would mean nothing: the run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure against its bar; ``at_least`` tells which side of the bar is good."""

    name: str
    value: float
    bar: float
    figures: str
    """What the value was made of."""
    unit: str = "×"
    at_least: bool = False
    digits: int = 2

    @property
    def is_met(self) -> bool:
        """Whether the bar is reached."""
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    @property
    def value_text(self) -> str:
        """The value with its unit."""
        return f"{self.value:,.{self.digits}f} {self.unit}"

    @property
    def bar_text(self) -> str:
        """The bar with its direction and unit."""
        return f"{'≥' if self.at_least else '≤'} {self.bar:g} {self.unit}"


@dataclass(slots=True, kw_only=True)
class Bench:
    """One run: where to work, how often, and whom to tell."""

    base: Path
    rounds: int
    say: Callable[[str], None] = field(default=lambda _text: None)
    """Told what is being done."""


class Samples:
    """What the rounds gave, by name."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._taken: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        """Add one round's value."""
        self._taken.setdefault(name, []).append(value)

    def of(self, name: str) -> list[float]:
        """Return all values of a name, in order."""
        return self._taken[name]

    def median(self, name: str) -> float:
        """Return a name's median."""
        return statistics.median(self._taken[name])

    def ratio(self, name: str, other: str) -> float:
        """Return the ratio of two medians."""
        return self.median(name) / self.median(other)

    def text(self, name: str, *, scale: float = 1.0, digits: int = 2) -> str:
        """Return the median with the least and the most, times ``scale``."""
        return spread_text(self._taken[name], scale=scale, digits=digits)


def spread_text(values: Iterable[float], *, scale: float = 1.0, digits: int = 2) -> str:
    """Return ``MEDIAN (LEAST to MOST)``."""
    scaled = sorted(value * scale for value in values)
    middle, least, most = statistics.median(scaled), scaled[0], scaled[-1]
    return f"{middle:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


def in_turns(bench: Bench, title: str, measures: Mapping[str, Callable[[], float]]) -> Samples:
    """Run every measure once a round, beginning each round with another one; a measure returns its value."""
    samples = Samples()
    names = list(measures)
    for number in range(bench.rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            bench.say(f"{title}: round {number + 1} of {bench.rounds}, {name}")
            samples.add(name, measures[name]())
    return samples
