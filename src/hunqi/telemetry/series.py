"""What is kept of each series in memory: columns of plain numbers, a row only where there is something to say.

Rows carry the number of their round. A series is *present* in spans of rounds: in one without a row it was measured and
was nothing, outside of all spans it was not measured.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hunqi.telemetry.differences import CLASSES
from hunqi.telemetry.wire import TaskCounts

_MOST_COUNT: Final = 2**32 - 1


class Presence:
    """Spans of rounds in which a series was reported; gaps of a few rounds count as reported."""

    __slots__ = ("_firsts", "_lasts")
    _JOIN: Final = 3

    def __init__(self) -> None:
        self._firsts = array("I")
        self._lasts = array("I")

    def note(self, number: int) -> None:
        """Note a round, not older than those noted before."""
        if self._lasts and number <= self._lasts[-1] + self._JOIN:
            self._lasts[-1] = max(number, self._lasts[-1])
        else:
            self._firsts.append(number)
            self._lasts.append(number)

    def overlaps(self, first: int, last: int) -> bool:
        """Whether it was reported in any round of ``first`` to ``last``."""
        index = bisect_left(self._lasts, first)
        return index < len(self._lasts) and self._firsts[index] <= last

    @property
    def last(self) -> int:
        """The last round of all, -1 without any."""
        return self._lasts[-1] if self._lasts else -1

    def drop(self, before: int) -> None:
        """Forget spans that ended before a round."""
        count = bisect_left(self._lasts, before)
        if count:
            del self._firsts[:count], self._lasts[:count]


@dataclass(slots=True)
class Sums:
    """Requests added up."""

    requests: int = 0
    classes: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    latency: dict[int, int] = field(default_factory=dict[int, int])
    active: float = 0.0

    def add(self, requests: int, classes: Sequence[int], latency: Iterable[tuple[int, int]], active: float) -> None:
        """Add some."""
        self.requests += requests
        for index, count in enumerate(classes):
            self.classes[index] += count
        mine = self.latency
        for bucket, count in latency:
            mine[bucket] = mine.get(bucket, 0) + count
        self.active += active

    @property
    def is_nothing(self) -> bool:
        """Whether a row of it would say nothing."""
        return not (self.requests or self.active or self.latency or any(self.classes))


class RequestSeries:
    """Requests to one Swarm service, of all gateways together."""

    __slots__ = ("_active", "_buckets", "_classes", "_counts", "_offsets", "_requests", "_rounds", "presence", "total")

    def __init__(self) -> None:
        self.presence = Presence()
        self.total = Sums()
        """Since this process began to listen; only grows."""
        self._rounds = array("I")
        self._requests = array("I")
        self._classes = tuple(array("I") for _ in CLASSES)
        self._active = array("f")
        self._offsets = array("I", [0])
        """Where each row's histogram begins; one more than there are rows."""
        self._buckets = array("B")
        self._counts = array("I")

    @property
    def numbers(self) -> int:
        """How many numbers are stored."""
        return len(self._rounds) * 9 + len(self._counts) * 5 // 4

    def append(self, number: int, sums: Sums) -> None:
        """Add a row for a round, later than those before."""
        if sums.is_nothing:
            return
        self._rounds.append(number)
        self._requests.append(min(sums.requests, _MOST_COUNT))
        for column, count in zip(self._classes, sums.classes, strict=True):
            column.append(min(count, _MOST_COUNT))
        self._active.append(sums.active)
        for bucket in sorted(sums.latency):
            self._buckets.append(bucket)
            self._counts.append(min(sums.latency[bucket], _MOST_COUNT))
        self._offsets.append(len(self._counts))

    def sum_into(self, sums: Sums, first: int, last: int) -> None:
        """Add the rounds ``first`` to ``last``."""
        low, high = bisect_left(self._rounds, first), bisect_right(self._rounds, last)
        if low == high:
            return
        start, end = self._offsets[low], self._offsets[high]
        sums.add(
            sum(self._requests[low:high]),
            [sum(column[low:high]) for column in self._classes],
            zip(self._buckets[start:end], self._counts[start:end], strict=True),
            0.0,
        )

    def active_sum(self, first: int, last: int) -> float:
        """Return the requests that were open, added up over the rounds."""
        low, high = bisect_left(self._rounds, first), bisect_right(self._rounds, last)
        return sum(self._active[low:high])

    def drop(self, before: int) -> None:
        """Drop rows of rounds before a number."""
        self.presence.drop(before)
        count = bisect_left(self._rounds, before)
        if not count:
            return
        start = self._offsets[count]
        del self._rounds[:count], self._requests[:count], self._active[:count]
        for column in self._classes:
            del column[:count]
        del self._buckets[:start], self._counts[:start]
        self._offsets = array("I", [offset - start for offset in self._offsets[count:]])


class ValueSeries:
    """Numbers at rounds, in columns of given types: ``f``, ``d``, ``I``, ``Q``."""

    __slots__ = ("_columns", "_rounds")

    def __init__(self, types: str) -> None:
        self._rounds = array("I")
        self._columns: tuple[array[Any], ...] = tuple(array(each) for each in types)  # of int or float, by its type

    @property
    def numbers(self) -> int:
        """How many numbers are stored, by their size."""
        return len(self._rounds) * (1 + sum(column.itemsize for column in self._columns) // 4)

    @property
    def last(self) -> int:
        """The round of the last row, -1 without any."""
        return self._rounds[-1] if self._rounds else -1

    def append(self, number: int, values: Sequence[float]) -> None:
        """Add a row; one of the same round replaces it."""
        if self._rounds and self._rounds[-1] == number:
            for column, value in zip(self._columns, values, strict=True):
                column[-1] = value
            return
        self._rounds.append(number)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)

    def rows(self, first: int, last: int) -> Iterator[tuple[int, tuple[float, ...]]]:
        """Yield the rows of the rounds ``first`` to ``last``."""
        low, high = bisect_left(self._rounds, first), bisect_right(self._rounds, last)
        for index in range(low, high):
            yield self._rounds[index], tuple(column[index] for column in self._columns)

    def drop(self, before: int) -> None:
        """Drop rows of rounds before a number."""
        count = bisect_left(self._rounds, before)
        if count:
            del self._rounds[:count]
            for column in self._columns:
                del column[:count]


@dataclass(slots=True)
class TaskSeries:
    """A task: CPU in cores, memory in bytes, kills for want of memory."""

    counts: TaskCounts
    """As last heard: whose it is, its limits."""
    node: str
    values: ValueSeries = field(default_factory=lambda: ValueSeries("fQI"))
    cpu_s: float = 0.0
    """CPU time since this process began to listen."""


@dataclass(slots=True)
class CustomSeries:
    """A metric of an app's own, of one task, with one set of labels."""

    revision: int
    grows: bool
    node: str
    values: ValueSeries = field(default_factory=lambda: ValueSeries("d"))


def as_mapping(classes: Sequence[int]) -> Mapping[int, int]:
    """Return counts by class, those that are nothing left out."""
    return {each: count for each, count in zip(CLASSES, classes, strict=True) if count}
