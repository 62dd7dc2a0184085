"""How many workers there are: few while there is little to do, all as soon as one of them is busy.

A worker at rest weighs 12 MB, and there may be one for each core. A new one is forked within a fraction of a second,
so it is enough to look once a second what the workers have used of their cores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

LOOK_S: Final = 1.0
BUSY: Final = 0.5
"""Of a core, used by one worker: then all are started."""
QUIET: Final = 0.25
"""Of a core, used by all workers together: less than that for so long as QUIET_S, and few are kept."""
QUIET_S: Final = 120.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Crew:
    """The number of workers that there are to be, by what they use; for one clock in seconds."""

    def __init__(self, *, rest: int, most: int, size: int | None = None) -> None:
        """``rest`` at rest, ``most`` under load; ``size`` at the beginning, if not ``rest``."""
        self.rest = min(rest, most)
        self.most = most
        self.size = max(self.rest, min(size or self.rest, most))
        self._looked_at: float | None = None
        self._used: Mapping[int, float] = {}
        self._quiet_since: float | None = None

    @property
    def varies(self) -> bool:
        """Whether there is anything to look at."""
        return self.rest < self.most

    def is_due(self, now: float) -> bool:
        """Whether to look again."""
        return self.varies and (self._looked_at is None or now - self._looked_at >= LOOK_S)

    def look(self, now: float, used: Mapping[int, float]) -> bool:
        """Take in what each worker's process has ``used`` of its core, in seconds; return whether ``size`` changed."""
        before, last, self._looked_at, self._used = self._used, self._looked_at, now, used
        if last is None or now <= last:
            return False
        shares = [(seconds - before[pid]) / (now - last) for pid, seconds in used.items() if pid in before]
        if sum(shares) >= QUIET or self._quiet_since is None:
            self._quiet_since = now
        if self.size < self.most and max(shares, default=0.0) >= BUSY:
            self.size = self.most
        elif self.size > self.rest and now - self._quiet_since >= QUIET_S:
            self.size = self.rest
        else:
            return False
        return True


def used_s(pid: int) -> float | None:
    """Return the seconds of a core that a process has used (proc(5), ``stat``); None when it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(words[11]) + int(words[12])) / _TICKS
