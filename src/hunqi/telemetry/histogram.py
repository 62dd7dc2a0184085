"""Latencies counted on one fixed grid, so that any two can be added and a percentile of the sum is a true one.

The grid is logarithmic with 24 buckets to a decade, from 0.1 ms to 1,000 s: a bucket's upper bound is 10 % above its
lower one, and so a percentile is at most 10 % too high.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

PER_DECADE: Final = 24
LOWEST_MS: Final = 0.1
LAST: Final = 7 * PER_DECADE + 1
"""The bucket of everything above 1,000 s."""
UPPER_MS: Final = tuple(LOWEST_MS * 10 ** (bucket / PER_DECADE) for bucket in range(LAST))
"""The upper bound of each bucket but ``LAST``, which has none; a bucket counts what is at most its bound."""


def bucket_of(value_ms: float) -> int:
    """Return the bucket that counts ``value_ms``; 0 counts all up to ``LOWEST_MS``."""
    return bisect_left(UPPER_MS, value_ms)


def upper_ms(bucket: int) -> float:
    """Return the upper bound of ``bucket``."""
    return math.inf if bucket >= LAST else UPPER_MS[bucket]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts by bucket; buckets without any are left out."""

    counts: Mapping[int, int] = field(default_factory=dict[int, int])

    @classmethod
    def of(cls, values_ms: Iterable[float]) -> Histogram:
        """Return the histogram of ``values_ms``."""
        counts: dict[int, int] = {}
        for value in values_ms:
            bucket = bucket_of(value)
            counts[bucket] = counts.get(bucket, 0) + 1
        return cls(counts)

    @property
    def total(self) -> int:
        """How many values are counted."""
        return sum(self.counts.values())

    @property
    def sum_ms(self) -> float:
        """The sum of the values, to within 5 %: each is taken for the (geometric) middle of its bucket."""
        return sum(count * _middle_ms(bucket) for bucket, count in self.counts.items())

    def __add__(self, other: Histogram) -> Histogram:
        """Return both together."""
        counts = dict(self.counts)
        for bucket, count in other.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        return Histogram(counts)

    def above(self, bucket: int) -> int:
        """Return how many values lie above the upper bound of ``bucket``."""
        return sum(count for each, count in self.counts.items() if each > bucket)

    def quantile_bucket(self, quantile: float) -> int | None:
        """Return the bucket in which the ``quantile`` (0 to 1) lies; None if nothing is counted."""
        total = self.total
        if not total:
            return None
        rank, seen = max(1, math.ceil(quantile * total)), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return bucket
        return max(self.counts)

    def quantile_ms(self, quantile: float) -> float | None:
        """Return the ``quantile`` in milliseconds, at most a bucket too high; None if nothing is counted.

        What is above 1,000 s is given as 1,000 s, so that the answer is a number always.
        """
        bucket = self.quantile_bucket(quantile)
        return None if bucket is None else UPPER_MS[min(bucket, LAST - 1)]


def _middle_ms(bucket: int) -> float:
    if bucket == 0:
        return LOWEST_MS / 2
    return UPPER_MS[min(bucket, LAST - 1)] * 10 ** (-0.5 / PER_DECADE)
