"""What telemetry keeps, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimits:
    """Bounds of what is in memory."""

    keep_s: float = 2 * HOUR
    """For so long each interval is kept."""
    most_numbers: int = 6_000_000
    """All stored numbers together, about four bytes each; the oldest intervals go first."""
    most_series: int = 5000
    """Swarm services, and likewise tasks; what comes beyond that is not measured, and said."""
    most_custom: int = 5000
    """Series of apps' own metrics."""
    away_after_s: float = 20.0
    """A node that was not heard for so long is gone: its gateway is waited for no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One resolution of the history: rows of ``step_s``, in files of ``span_s``, kept for ``keep_s``."""

    step_s: int
    span_s: int
    keep_s: int

    @property
    def name(self) -> str:
        """The level's directory."""
        return f"{self.step_s}s"


LEVELS: Final = (
    Level(step_s=10, span_s=600, keep_s=6 * HOUR),
    Level(step_s=MINUTE, span_s=HOUR, keep_s=7 * DAY),
    Level(step_s=600, span_s=DAY, keep_s=60 * DAY),
    Level(step_s=HOUR, span_s=10 * DAY, keep_s=400 * DAY),
)
"""Each is made of the one before, a file as soon as its span is over; each span is a multiple of the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLimits:
    """Bounds of what is on disk."""

    levels: tuple[Level, ...] = LEVELS
    days: int = 400
    """Nothing older is kept, whatever its resolution."""
    most_bytes: int = 1024**3
    """All files together; the oldest of the finest resolution go first."""
    flush_s: float = 20.0
    """So often what was measured is written: so much is lost at most when control is killed."""
    memory_bytes: int = 128 * 1024**2
    """What DuckDB may use, in a process of its own that ends with the question."""
    patience_s: float = 60.0
    """Longer no question and no roll-up takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """All of it."""

    live: LiveLimits = field(default_factory=LiveLimits)
    history: HistoryLimits = field(default_factory=HistoryLimits)


def telemetry_settings(days: int, most_bytes: int) -> TelemetrySettings:
    """Return the settings with what is chosen for a platform."""
    return TelemetrySettings(history=HistoryLimits(days=days, most_bytes=most_bytes))
