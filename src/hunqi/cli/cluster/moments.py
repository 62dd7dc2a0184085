"""Moments as the API gives them (ISO 8601), for the eye."""

from __future__ import annotations

from datetime import UTC, datetime

from hunqi.kit.units import show_duration


def ago(moment: str | None) -> str:
    """Return ``3 m ago``, or ``in 5 d`` for what is to come; a dash for no moment."""
    if not moment:
        return "-"
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    seconds = (datetime.now(UTC) - aware).total_seconds()
    return f"{show_duration(seconds)} ago" if seconds >= 0 else f"in {show_duration(-seconds)}"
