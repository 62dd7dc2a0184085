"""The test of one measure of requests on one service, window by window: what it remembers and when it condemns.

What is *bad* about a request is the measure's: it failed, or it took longer than a threshold that the old revision's
past gives. Each kind of bad gathers evidence of its own; the mean of several is evidence again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hunqi.rollouts.analysis.evidence import Evidence, Table, comparing, exceeding, log_mean
from hunqi.rollouts.analysis.past import Clumping, Past, clumped
from hunqi.rollouts.analysis.windows import Side, Window
from hunqi.telemetry.histogram import Histogram

SUSPICION: Final = math.log(20.0)
"""Evidence from which on nothing is acquitted: an equal revision ever shows it with a chance of 1 in 20 at most."""
AT_LEAST_WINDOWS: Final = 3
"""How many windows must speak against a revision: one event, however many requests it hits, condemns nobody."""
_CAP: Final = 1 / 2.5
_GENERATION: Final = 12
"""Windows after which what is told of begins anew; told are this one and the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """What counts as bad in a window: for each kind, how many in each revision."""

    new: tuple[int, ...]
    old: tuple[int, ...]
    new_total: int
    old_total: int
    comparable: bool = False
    """Whether new and old may be compared in this window."""
    over: int = 0
    """How many of the new one's break the measure's own threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was seen over some windows, for sentences."""

    start: float = 0.0
    end: float = 0.0
    windows: int = 0
    new: Side = field(default_factory=Side)
    old: Side = field(default_factory=Side)

    def __add__(self, other: Tally) -> Tally:
        """Return both, which follow each other, together."""
        if not self.windows or not other.windows:
            return other if not self.windows else self
        return Tally(
            start=self.start,
            end=other.end,
            windows=self.windows + other.windows,
            new=both(self.new, other.new),
            old=both(self.old, other.old),
        )


def both(one: Side, other: Side) -> Side:
    """Return two sides together."""
    return Side(
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        latency=one.latency + other.latency,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stakes:
    """What it takes: ``needed`` is the log of the evidence that condemns, ``null`` the odds ratio that is tolerated."""

    needed: float
    null: float = 1.0
    threshold: float | None = None
    """The share of requests that may break the measure's own threshold."""
    failure_limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """All that is known of one measure of one service."""

    until: float = 0.0
    """The end of the last window that was counted."""
    samples_new: int = 0
    samples_old: int = 0
    past: Past = field(default_factory=Past)
    against: tuple[Evidence, ...] = ()
    """By comparison, for each kind of bad."""
    over: Evidence = field(default_factory=Evidence)
    """By the measure's own threshold."""
    clumping: tuple[Clumping, ...] = ()
    """Of the new revision."""
    windows: int = 0
    failures: int = 0
    reason: str = ""
    """The sentence of the last failure."""
    before: Tally = field(default_factory=Tally)
    lately: Tally = field(default_factory=Tally)

    @property
    def told(self) -> Tally:
        """What sentences are made of: the last 12 to 24 windows."""
        return self.before + self.lately

    @property
    def compared(self) -> float:
        """The log of the evidence that the new one is worse than the old."""
        return log_mean([each.log for each in self.against]) if self.against else 0.0

    def learned(self, window: Window, bad: Bad) -> Trial:
        """Return it with the old revision's part of ``window`` in its past."""
        return replace(
            self,
            until=window.end,
            past=self.past.after(
                window.old,
                length_s=window.end - window.start,
                bad=bad.old,
                total=bad.old_total,
            ),
        )

    def after(self, window: Window, bad: Bad, stakes: Stakes) -> Trial:
        """Return it after ``window``: judged by the past as it was before, which then has the window too."""
        if self.failures > stakes.failure_limit:
            return replace(self, until=window.end)
        lately = self.lately + Tally(start=window.start, end=window.end, windows=1, new=window.new, old=window.old)
        before, lately = (lately, Tally()) if lately.windows >= _GENERATION else (self.before, lately)
        return replace(
            self.learned(window, bad),
            samples_new=self.samples_new + bad.new_total,
            samples_old=self.samples_old + bad.old_total,
            windows=self.windows + 1,
            against=self._compared(bad, stakes),
            over=self._over(bad, stakes),
            clumping=clumped(self.clumping, bad.new, total=bad.new_total, length_s=window.end - window.start)
            if bad.new
            else self.clumping,
            before=before,
            lately=lately,
        )

    def failed(self, reason: str) -> Trial:
        """Return it with one failure more; if that is tolerated, evidence is gathered anew."""
        return replace(self, failures=self.failures + 1, reason=reason, against=(), over=Evidence())

    def _compared(self, bad: Bad, stakes: Stakes) -> tuple[Evidence, ...]:
        if not bad.comparable:
            return self.against
        known = self.against or (Evidence(),) * len(bad.new)
        return tuple(
            each.after(
                comparing(Table(new=bad.new_total, new_bad=new, old=bad.old_total, old_bad=old), stakes.null),
                temper=self._temper(kind, bad),
                cap=stakes.needed * _CAP,
            )
            for kind, (each, new, old) in enumerate(zip(known, bad.new, bad.old, strict=True))
        )

    def _over(self, bad: Bad, stakes: Stakes) -> Evidence:
        if stakes.threshold is None or not bad.new_total:
            return self.over
        return self.over.after(
            exceeding(bad.new_total, bad.over, stakes.threshold),
            temper=max((self._clumps(kind, bad)[0] for kind in range(max(1, len(bad.new)))), default=1.0),
            cap=stakes.needed * _CAP,
        )

    def _temper(self, kind: int, bad: Bad) -> float:
        """Return how much less evidence there is than counts say: the variance of the log odds ratio grows by this."""
        new, old = self._clumps(kind, bad)
        return (new * bad.old_total + old * bad.new_total) / max(1, bad.old_total + bad.new_total)

    def _clumps(self, kind: int, bad: Bad) -> tuple[float, float]:
        """Return how many bad requests share a cause in the new and in the old revision.

        What stops a task for a second hits as many requests as come in a second: of the new one, whose clumps are not
        known yet, so much fewer as it has fewer requests.
        """
        known = self.past.clumping
        old = known[kind].factor if kind < len(known) else 1.0
        new = self.clumping[kind].factor if kind < len(self.clumping) else 1.0
        return max(new, 1 + (old - 1) * min(1.0, bad.new_total / max(1, bad.old_total))), old

    @property
    def clumps(self) -> float:
        """How many bad requests share a cause, in the revision where they are more."""
        return max((each.factor for each in (*self.past.clumping, *self.clumping)), default=1.0)

    def kept(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "until": self.until,
            "samples": [self.samples_new, self.samples_old],
            "past": self.past.kept(),
            "against": [_evidence_kept(each) for each in self.against],
            "over": _evidence_kept(self.over),
            "clumping": [each.kept() for each in self.clumping],
            "windows": self.windows,
            "failures": self.failures,
            "reason": self.reason,
            "before": _tally_kept(self.before),
            "lately": _tally_kept(self.lately),
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Trial:
        """Return what ``kept`` gave."""
        return cls(
            until=float(kept["until"]),
            samples_new=int(kept["samples"][0]),
            samples_old=int(kept["samples"][1]),
            past=Past.of(kept["past"]),
            against=tuple(_evidence_of(each) for each in kept["against"]),
            over=_evidence_of(kept["over"]),
            clumping=tuple(Clumping.of(each) for each in kept["clumping"]),
            windows=int(kept["windows"]),
            failures=int(kept["failures"]),
            reason=str(kept["reason"]),
            before=_tally_of(kept["before"]),
            lately=_tally_of(kept["lately"]),
        )


def _evidence_kept(evidence: Evidence) -> list[Any]:
    return [evidence.windows, *(round(stake, 4) for stake in evidence.stakes)]


def _evidence_of(kept: Sequence[Any]) -> Evidence:
    return Evidence(windows=int(kept[0]), stakes=tuple(float(stake) for stake in kept[1:]))


def _tally_kept(tally: Tally) -> list[Any]:
    sides = [[side.requests, side.errors, _histogram_kept(side.latency)] for side in (tally.new, tally.old)]
    return [tally.start, tally.end, tally.windows, *sides]


def _tally_of(kept: Sequence[Any]) -> Tally:
    new, old = (Side(requests=int(side[0]), errors=int(side[1]), latency=_histogram_of(side[2])) for side in kept[3:5])
    return Tally(start=float(kept[0]), end=float(kept[1]), windows=int(kept[2]), new=new, old=old)


def _histogram_kept(histogram: Histogram) -> dict[str, int]:
    return {str(bucket): count for bucket, count in histogram.counts.items()}


def _histogram_of(kept: Mapping[str, Any]) -> Histogram:
    return Histogram({int(bucket): int(count) for bucket, count in kept.items()})
