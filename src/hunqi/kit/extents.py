"""A set of half-open intervals of whole numbers: which bytes of a growing file are there.

Pure and not thread-safe. Touching intervals become one, so a set is always the shortest sorted list of
``(start, end)`` with ``start < end`` and a gap between neighbours.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]
"""``(start, end)``, ``end`` excluded."""


class Extents:
    """Intervals that can be added to, cut out of and asked for their gaps. All numbers are >= 0."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in intervals:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Put ``[start, end)`` in; an empty interval changes nothing."""
        if start >= end:
            return
        if self._ends and self._ends[-1] == start:
            self._ends[-1] = end
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def discard(self, start: int, end: int) -> None:
        """Take ``[start, end)`` out; what is not in is left alone."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        pieces = [(self._starts[first], start), (end, self._ends[last - 1])]
        kept = [(low, high) for low, high in pieces if low < high]
        self._starts[first:last] = [low for low, _ in kept]
        self._ends[first:last] = [high for _, high in kept]

    def clear(self) -> None:
        """Empty the set."""
        self._starts.clear()
        self._ends.clear()

    def end_from(self, position: int) -> int:
        """Return the end of the interval that ``position`` lies in, or ``position`` itself when it lies in none."""
        index = bisect_right(self._starts, position) - 1
        if index >= 0 and position < self._ends[index]:
            return self._ends[index]
        return position

    def covers(self, start: int, end: int) -> bool:
        """Whether every number of ``[start, end)`` is in."""
        return start >= end or self.end_from(start) >= end

    def gaps(self, start: int, end: int) -> Iterator[Interval]:
        """Yield what of ``[start, end)`` is not in, in order."""
        position = start
        index = bisect_right(self._ends, start)
        while position < end and index < len(self._starts):
            low, high = self._starts[index], self._ends[index]
            if low >= end:
                break
            if position < low:
                yield position, low
            position = max(position, high)
            index += 1
        if position < end:
            yield position, end

    @property
    def total(self) -> int:
        """How many numbers are in."""
        return sum(self._ends) - sum(self._starts)

    @property
    def end(self) -> int:
        """One more than the greatest number that is in; 0 for the empty set."""
        return self._ends[-1] if self._ends else 0

    def as_tuple(self) -> tuple[Interval, ...]:
        """Return the intervals in order."""
        return tuple(zip(self._starts, self._ends, strict=True))

    def __iter__(self) -> Iterator[Interval]:
        return iter(self.as_tuple())

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Extents):
            return NotImplemented
        return self.as_tuple() == other.as_tuple()

    __hash__ = None  # pyright: ignore[reportAssignmentType] - mutable, so not a key

    def __repr__(self) -> str:
        return f"Extents({list(self.as_tuple())})"
