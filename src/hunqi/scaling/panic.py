"""Bursts: Knative's panic mode beside the HPA, by requests of the last seconds instead of the last minute. Pure.

Over the panic window (a tenth of the stable one) more is asked for than tasks there are: at 200 % or more of them the
service panics. It is then never scaled down, and goes to the most that either window has asked for since; it calms down
once a whole stable window has passed without a trigger (Knative, *Configuring scale bounds*, and its autoscaler).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

STABLE_S: Final = 60.0
PANIC_S: Final = 6.0
THRESHOLD: Final = 2.0
MOST_UP: Final = 1000.0
"""At most so many times the ready tasks at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panic:
    """``since`` is when it was last triggered, None in calm; ``most`` is what it has come to."""

    since: float | None = None
    most: int = 0

    @property
    def on(self) -> bool:
        """Whether it panics."""
        return self.since is not None


def panicked(panic: Panic, *, asked: int | None, ready: int, current: int, now: float) -> Panic:
    """Return the state after a look: ``asked`` is what the panic window asks for, None where it was not measured."""
    capacity = max(1, ready)
    wanted = min(asked or 0, math.ceil(MOST_UP * capacity))
    if asked is not None and asked / capacity >= THRESHOLD:
        return Panic(since=now, most=max(panic.most, wanted, current))
    if panic.since is None or now - panic.since >= STABLE_S:
        return Panic()
    return Panic(since=panic.since, most=max(panic.most, wanted, current))
