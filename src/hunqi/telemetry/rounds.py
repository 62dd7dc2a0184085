"""When what was heard: rounds of samples, and the intervals that every gateway was heard in.

A *round* has at most one sample of each node; it is over when all that are expected were heard, or one is heard again.
An *interval* is as many rounds in a row as it takes until every gateway has been heard in them: what is counted within
one is all of the traffic. Rounds are numbered from 0 on; all times are those of receipt, by one clock.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

_ENDS: Final = 1
"""With this round an interval ends."""
_GAP: Final = 2
"""In this round a gateway was heard whose requests since the last interval are not known."""
_SLACK_S: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Interval:
    """Rounds ``first`` to ``last``, and the time that they cover."""

    first: int
    last: int
    start: float
    end: float


class Rounds:
    """All rounds that are kept."""

    def __init__(self) -> None:
        self._base = 0
        self._starts = array("d")
        self._ends = array("d")
        self._flags = array("B")
        self._since_interval: set[str] = set()
        """Gateways that were heard since the last interval ended."""
        self._measured_until: float | None = None

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def first(self) -> int:
        """The number of the oldest round that is kept."""
        return self._base

    @property
    def next(self) -> int:
        """The number of the round to come."""
        return self._base + len(self._ends)

    @property
    def began(self) -> float | None:
        """When the oldest round that is kept began."""
        return self._starts[0] if self._starts else None

    @property
    def ended(self) -> float | None:
        """When the last round ended."""
        return self._ends[-1] if self._ends else None

    @property
    def measured_until(self) -> float | None:
        """When the last interval ended."""
        return self._measured_until

    def close(self, end: float, *, heard: AbstractSet[str], gap: bool, required: AbstractSet[str]) -> int:
        """End a round at ``end`` and return its number; ``heard`` and ``required`` are gateways."""
        self._since_interval |= heard
        is_over = bool(self._since_interval) and required <= self._since_interval
        start = self._ends[-1] if self._ends else end
        self._append(start, end, (_ENDS if is_over else 0) | (_GAP if gap or start >= end else 0))
        if is_over:
            self._since_interval = set()
            self._measured_until = end
        return self.next - 1

    def add_measured(self, start: float, end: float) -> int:
        """Add a round that is an interval of its own and return its number: what is read back from the history."""
        if self._ends and start > self._ends[-1] + _SLACK_S:
            self._append(self._ends[-1], start, _ENDS | _GAP)
        self._append(start, end, _ENDS)
        self._measured_until = end
        return self.next - 1

    def drop(self, before: float, *, most: int) -> int:
        """Drop rounds that ended before ``before``, and then the oldest until ``most`` are left; return the first."""
        count = max(bisect_right(self._ends, before), len(self._ends) - most)
        if count > 0:
            del self._starts[:count], self._ends[:count], self._flags[:count]
            self._base += count
        return self._base

    def end_of(self, number: int) -> float:
        """Return when a round that is kept ended."""
        return self._ends[number - self._base]

    def within(self, start: float, end: float) -> range:
        """Return the rounds that ended after ``start`` and not after ``end``."""
        low, high = bisect_right(self._ends, start + _SLACK_S), bisect_right(self._ends, end + _SLACK_S)
        return range(self._base + low, self._base + high)

    def intervals(self, start: float, end: float) -> list[Interval]:
        """Return the intervals that ended after ``start`` and not after ``end``, without those that have a gap."""
        found: list[Interval] = []
        rounds = self.within(start, end)
        low, high = rounds.start - self._base, rounds.stop - self._base
        while low and not self._flags[low - 1] & _ENDS:
            low -= 1
        first, gap = low, False
        for index in range(low, high):
            flags = self._flags[index]
            gap = gap or bool(flags & _GAP)
            if flags & _ENDS:
                if not gap:
                    found.append(
                        Interval(self._base + first, self._base + index, self._starts[first], self._ends[index])
                    )
                first, gap = index + 1, False
        return found

    def _append(self, start: float, end: float, flags: int) -> None:
        self._starts.append(start)
        self._ends.append(end)
        self._flags.append(flags)
