"""What a file says of how many tasks load asks for (``x-hunqi.scale``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSpec:
    """Bounds and targets of one service."""

    min: int = 1
    max: int = 1
