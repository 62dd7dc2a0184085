"""Where a service tells what it counts itself (``x-hunqi.metrics``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSpec:
    """A port of each task that answers in the text format of Prometheus or OpenMetrics."""

    port: int
    path: str = "/metrics"
    names: tuple[str, ...] = ()
    """Patterns (``jobs_*``) for names of metrics; without any all are taken, up to a bound."""
