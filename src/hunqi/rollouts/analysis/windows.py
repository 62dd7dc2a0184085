"""Measured intervals of both revisions, put side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hunqi.telemetry.histogram import Histogram
from hunqi.telemetry.model import Traffic

_WHOLE = 0.9
"""A window is complete when this part of the asked length is there: clocks of samples are not exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The requests of one revision within a window."""

    requests: int = 0
    errors: int = 0
    latency: Histogram = field(default_factory=Histogram)

    @classmethod
    def of(cls, traffic: Sequence[Traffic]) -> Side:
        """Return all of ``traffic`` together."""
        latency = Histogram()
        for each in traffic:
            latency += each.latency
        return cls(
            requests=sum(each.requests for each in traffic),
            errors=sum(each.errors for each in traffic),
            latency=latency,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The same time in both revisions."""

    start: float
    end: float
    new: Side
    old: Side


def windows(new: Sequence[Traffic], old: Sequence[Traffic], *, start: float, length_s: float) -> list[Window]:
    """Return the complete windows of about ``length_s`` from ``start`` on; what is left belongs to a later look.

    An interval belongs to the window in which its middle lies, so that each is in exactly one. Where nothing was
    measured for a while a window is as long as that.
    """
    found: list[Window] = []
    for end in sorted({each.end for each in (*new, *old)}):
        if end - start >= _WHOLE * length_s:
            sides = [
                Side.of([each for each in traffic if start <= (each.start + each.end) / 2 < end])
                for traffic in (new, old)
            ]
            found.append(Window(start=start, end=end, new=sides[0], old=sides[1]))
            start = end
    return found
