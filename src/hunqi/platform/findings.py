"""What the doctor finds: each thing with a level, a sentence, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad something is."""

    OK = "ok"
    NOTE = "note"
    """Nothing to do."""
    WARNING = "warning"
    PROBLEM = "problem"
    """Hunqi does not work with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; ``remedy`` is empty where there is nothing to do."""

    name: str
    level: Level
    text: str
    remedy: str = ""


def worst(findings: list[Finding]) -> Level:
    """Return the worst level of all."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
