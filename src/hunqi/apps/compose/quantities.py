"""Shares, and the units in which the thresholds of measures are written."""

from __future__ import annotations

import re
from decimal import Decimal

from hunqi.apps.compose.report import show
from hunqi.apps.compose.section import Section, duration_ns, size_bytes
from hunqi.apps.rollout_spec import MeasureKind

_SHARE = re.compile(r"([0-9]{1,5})(?:\.([0-9]{1,20}))? ?%?")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_LATENCIES = frozenset({MeasureKind.P50, MeasureKind.P95, MeasureKind.P99})


def hundredths(section: Section, key: str) -> int | None:
    """Return a share of all in hundredths of a percent; None if none is written, or if it is none."""
    text = section.text(key)
    if text is None:
        if section.get(key) is None:
            section.problem(key, "percent are expected: 5, or 0.25%")
        return None
    found = _SHARE.fullmatch(text.strip())
    value = Decimal(f"{found[1]}.{found[2] or 0}") * 100 if found else Decimal(-1)
    if value != int(value) or not 0 <= value <= 10_000:
        section.problem(key, f"{show(text)} is no share from 0 to 100 percent with at most two decimals")
        return None
    return int(value)


def part(section: Section, key: str, default: float, *, most: float = 100.0) -> float:
    """Return percent as a part of 1; ``most`` is the most percent that it may be."""
    text = section.text(key)
    if text is None:
        return default
    found = _SHARE.fullmatch(text.strip())
    value = Decimal(f"{found[1]}.{found[2] or 0}") if found else Decimal(-1)
    if not 0 <= value <= Decimal(most):
        section.problem(key, f"{show(text)} is no percentage from 0% to {most:g}%")
        return default
    return float(value / 100)


def threshold(section: Section, key: str, kind: MeasureKind) -> float | None:
    """Return a threshold in the unit of its kind: a part of 1, milliseconds, bytes, or a number."""
    text = section.text(key)
    if text is None:
        return None
    if kind is MeasureKind.SUCCESS_RATE:
        return part(section, key, 0.0)
    if kind in _LATENCIES:
        found = duration_ns(text)
        if found is None:
            section.problem(key, f"{show(text)} is no latency; write 500ms or 1.5s")
        return found / 10**6 if found is not None else None
    if kind is MeasureKind.MEMORY:
        size = size_bytes(text)
        if size is None:
            section.problem(key, f"{show(text)} is no size; write 512m or 2gb")
        return None if size is None else float(size)
    if not _NUMBER.fullmatch(text.strip()):
        section.problem(key, f"{show(text)} is no number of 0 or more")
        return None
    return float(text)
