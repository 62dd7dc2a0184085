"""What the old revision was like before a window: its latencies, its errors, and whether they come in clumps.

Older windows count less, by half for each ``HALF_LIFE_S``. All of it is known before the window that is judged by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hunqi.rollouts.analysis.windows import Side

HALF_LIFE_S: Final = 300.0
_PRIOR: Final = 5.0
"""The weight, in bad requests, of the belief that they come one by one."""
_FORGOTTEN: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Clumping:
    """How much more a count changes from each window to the next than if each request were bad by itself.

    A rate that moves and stays there changes once; a clump comes and goes.
    """

    scatter: float = 0.0
    expected: float = 0.0
    total: int = 0
    """Of the window before."""
    bad: int = 0

    @property
    def factor(self) -> float:
        """1 if they come one by one, about n if they come n at a time."""
        return max(1.0, (self.scatter + _PRIOR) / (self.expected + _PRIOR))

    def after(self, total: int, bad: int, *, length_s: float) -> Clumping:
        """Return it with a window in which ``bad`` of ``total`` were."""
        if not total:
            return self
        keep = 0.5 ** (length_s / HALF_LIFE_S)
        scatter, expected = keep * self.scatter, keep * self.expected
        if self.total:
            weight, share = (total + self.total) / 2, (bad + self.bad) / (total + self.total)
            change = bad / total - self.bad / self.total
            scatter += weight * change * change / (1 / total + 1 / self.total)
            expected += weight * share * (1 - share)
        return Clumping(scatter=scatter, expected=expected, total=total, bad=bad)

    def kept(self) -> list[Any]:
        """Return it as JSON."""
        return [_short(self.scatter), _short(self.expected), self.total, self.bad]

    @classmethod
    def of(cls, kept: Sequence[Any]) -> Clumping:
        """Return what ``kept`` gave."""
        return cls(scatter=float(kept[0]), expected=float(kept[1]), total=int(kept[2]), bad=int(kept[3]))


def clumped(known: Sequence[Clumping], bad: Sequence[int], *, total: int, length_s: float) -> tuple[Clumping, ...]:
    """Return ``known``, one for each kind of bad, with a window in which ``bad`` of ``total`` were."""
    before = known if len(known) == len(bad) else (Clumping(),) * len(bad)
    return tuple(each.after(total, count, length_s=length_s) for each, count in zip(before, bad, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Weighted counts of the old revision's requests; ``clumping`` has one entry for each kind of bad looked at."""

    requests: float = 0.0
    latency: Mapping[int, float] = field(default_factory=dict[int, float])
    clumping: tuple[Clumping, ...] = ()

    def quantile_bucket(self, quantile: float) -> int | None:
        """Return the bucket in which the ``quantile`` of its latencies lies; None before there are any."""
        total = sum(self.latency.values())
        seen, found = 0.0, None
        for bucket in sorted(self.latency):
            seen, found = seen + self.latency[bucket], bucket
            if seen >= quantile * total:
                break
        return found

    def after(self, side: Side, *, length_s: float, bad: Sequence[int], total: int) -> Past:
        """Return it with a window of the old revision, where ``bad`` of ``total`` were so."""
        keep = 0.5 ** (length_s / HALF_LIFE_S)
        counts = {bucket: keep * count for bucket, count in self.latency.items()}
        for bucket, count in side.latency.counts.items():
            counts[bucket] = counts.get(bucket, 0.0) + count
        return Past(
            requests=keep * self.requests + side.requests,
            latency={bucket: count for bucket, count in counts.items() if count >= _FORGOTTEN},
            clumping=clumped(self.clumping, bad, total=total, length_s=length_s) if bad else self.clumping,
        )

    def kept(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "requests": _short(self.requests),
            "latency": {str(bucket): _short(count) for bucket, count in self.latency.items()},
            "clumping": [each.kept() for each in self.clumping],
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Past:
        """Return what ``kept`` gave; an empty one is the past of nothing."""
        return cls(
            requests=float(kept.get("requests", 0.0)),
            latency={int(bucket): float(count) for bucket, count in kept.get("latency", {}).items()},
            clumping=tuple(Clumping.of(each) for each in kept.get("clumping", ())),
        )


def _short(value: float) -> float:
    return round(value, 4)
