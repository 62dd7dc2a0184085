"""Bounds by the clock: the slot whose moment came last holds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from hunqi.apps.scale_spec import ScaleSpec, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Between what a service may be now; ``zero`` is whether it may have no task at all."""

    low: int
    high: int
    zero: bool
    sentence: str = ""


def bounds_at(spec: ScaleSpec, now: float) -> Bounds:
    """Return the bounds at ``now`` (seconds since the epoch)."""
    held = [(came, -index, slot) for index, slot in enumerate(spec.schedule) if (came := _came(slot, now)) is not None]
    if not held:
        return Bounds(low=spec.min, high=spec.max, zero=spec.zero is not None)
    _, _, slot = max(held, key=lambda each: each[:2])
    high = spec.max if slot.max is None else slot.max
    low = min(spec.min if slot.min is None else slot.min, high)
    zero = spec.zero is not None and not slot.min
    sentence = f"by the clock ({slot.cron} {slot.timezone}) {low} to {high}"
    return Bounds(low=max(1, low), high=high, zero=zero, sentence=sentence)


def _came(slot: Slot, now: float) -> float | None:
    """Return when the slot's moment came last: now is one too."""
    try:
        at = datetime.fromtimestamp(int(now) + 1, UTC).astimezone(ZoneInfo(slot.timezone))
        return next(CronSim(slot.cron, at, reverse=True)).timestamp()
    except (CronSimError, StopIteration, ValueError, OSError):
        return None
