"""Numbers and findings in words."""

from __future__ import annotations

from hunqi.rollouts.analysis.trial import Tally
from hunqi.rollouts.analysis.windows import Side

_MIB = 1024 * 1024


def percent(share: float) -> str:
    """Return ``5.2 %``; two significant digits below 10 %."""
    value = share * 100
    if value == 0 or value >= 10:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 0.95 else f"{value:.2g} %"


def count(number: float) -> str:
    """Return ``5,890``."""
    return f"{number:,.0f}"


def milliseconds(value: float) -> str:
    """Return ``812 ms`` or ``1.2 s``."""
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.3g} ms"


def seconds(value: float) -> str:
    """Return ``40 s`` or ``5 min``."""
    return f"{value:.0f} s" if value < 300 else f"{value / 60:.0f} min"


def megabytes(value: float) -> str:
    """Return ``512 MiB``."""
    return f"{value / _MIB:,.0f} MiB" if abs(value) >= 10 * _MIB else f"{value / _MIB:.1f} MiB"


def failing(service: str, tally: Tally, revisions: tuple[int, int | None]) -> str:
    """Return what part of the requests failed in both."""

    def part(side: Side) -> str:
        share = side.errors / side.requests if side.requests else 0.0
        return f"{percent(share)} of {count(side.requests)}"

    new = f"{service}: {part(tally.new)} requests failed on revision {revisions[0]}"
    return _beside(new, part(tally.old), tally, revisions[1])


def lasting(service: str, tally: Tally, revisions: tuple[int, int | None], *, quantile: float) -> str:
    """Return the ``quantile`` of the latencies of both."""

    def part(side: Side) -> str:
        value = side.latency.quantile_ms(quantile)
        if value is None:
            return "unknown"
        return f"{milliseconds(value)} for {count(side.latency.total)} requests"

    new = f"{service}: p{quantile * 100:.0f} was {part(tally.new)} on revision {revisions[0]}"
    return _beside(new, part(tally.old), tally, revisions[1])


def _beside(new: str, old: str, tally: Tally, revision: int | None) -> str:
    time = seconds(tally.end - tally.start)
    return f"{new} in {time}" if revision is None else f"{new}, {old} on revision {revision} in the same {time}"
