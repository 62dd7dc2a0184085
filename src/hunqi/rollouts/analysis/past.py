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
_LATEST: Final = 0.3
"""The part that the latest window has in what is expected of the next; its own scatter is allowed for."""
_FORGOTTEN: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Clumping:
    """How much more a count scatters from window to window than if each request were bad by itself.

    What is expected of a window is what those just before it had: a rate that moves and stays there is no clump.
    """

    scatter: float = 0.0
    expected: float = 0.0
    share: float | None = None
    """Of the windows just before."""

    @property
    def factor(self) -> float:
        """1 if they come one by one, about n if they come n at a time."""
        return max(1.0, (self.scatter + _PRIOR) / (self.expected + _PRIOR))

    def after(self, total: int, bad: int, share: float, *, keep: float = 1.0) -> Clumping:
        """Return it with a window in which ``bad`` of ``total`` were; ``share`` is the past's, for the first one."""
        if not total:
            return self
        before = share if self.share is None else self.share
        return Clumping(
            scatter=keep * self.scatter + (bad - total * before) ** 2 * (1 - _LATEST / 2),
            expected=keep * self.expected + total * before * (1 - before),
            share=before + _LATEST * (bad / total - before),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Weighted counts of the old revision's requests; ``clumping`` has one entry for each kind of bad looked at."""

    requests: float = 0.0
    errors: float = 0.0
    latency: Mapping[int, float] = field(default_factory=dict[int, float])
    clumping: tuple[Clumping, ...] = ()

    @property
    def error_share(self) -> float:
        """The share of its requests that failed; never quite 0."""
        return (self.errors + 0.5) / (self.requests + 1)

    def quantile_bucket(self, quantile: float) -> int | None:
        """Return the bucket in which the ``quantile`` of its latencies lies; None before there are any."""
        total = sum(self.latency.values())
        seen, found = 0.0, None
        for bucket in sorted(self.latency):
            seen, found = seen + self.latency[bucket], bucket
            if seen >= quantile * total:
                break
        return found

    def share_above(self, bucket: int) -> float:
        """Return the share of its latencies above ``bucket``; never quite 0."""
        above = sum(count for each, count in self.latency.items() if each > bucket)
        return (above + 0.5) / (sum(self.latency.values()) + 1)

    def after(self, side: Side, *, length_s: float, bad: Sequence[int], shares: Sequence[float], total: int) -> Past:
        """Return it with a window of the old revision, where ``bad`` of ``total`` were so and ``shares`` were expected.

        ``shares`` is empty as long as nothing can be expected.
        """
        keep = 0.5 ** (length_s / HALF_LIFE_S)
        counts = {bucket: keep * count for bucket, count in self.latency.items()}
        for bucket, count in side.latency.counts.items():
            counts[bucket] = counts.get(bucket, 0.0) + count
        clumping = self.clumping
        if shares:
            clumping = tuple(
                each.after(total, count, share, keep=keep)
                for each, count, share in zip(clumping or (Clumping(),) * len(bad), bad, shares, strict=True)
            )
        return Past(
            requests=keep * self.requests + side.requests,
            errors=keep * self.errors + side.errors,
            latency={bucket: count for bucket, count in counts.items() if count >= _FORGOTTEN},
            clumping=clumping,
        )

    def kept(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "requests": _short(self.requests),
            "errors": _short(self.errors),
            "latency": {str(bucket): _short(count) for bucket, count in self.latency.items()},
            "clumping": [
                [_short(each.scatter), _short(each.expected), None if each.share is None else round(each.share, 6)]
                for each in self.clumping
            ],
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Past:
        """Return what ``kept`` gave; an empty one is the past of nothing."""
        return cls(
            requests=float(kept.get("requests", 0.0)),
            errors=float(kept.get("errors", 0.0)),
            latency={int(bucket): float(count) for bucket, count in kept.get("latency", {}).items()},
            clumping=tuple(
                Clumping(scatter=float(each[0]), expected=float(each[1]), share=each[2])
                for each in kept.get("clumping", ())
            ),
        )


def _short(value: float) -> float:
    return round(value, 4)
