"""Memory and open files, sampled at a steady pace, and whether they are flat."""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from testbed.mirror import RunningMirror
from testbed.processes import open_files, pss_bytes

_EVERY_S: Final = 1.0
_GROWTH: Final = 1.1
"""The last quarter may have so many times the first quarter's, or so much more: what a load this uneven varies by."""
_MEMORY_SLACK_BYTES: Final = 12_000_000
_FILES_SLACK: Final = 20
_KINDS: Final = 8
_DATABASE: Final = re.compile(r"\.db(-wal|-shm)?$")
_VARYING: Final = re.compile(r"[0-9a-f]{16,}|\d+")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at all processes."""

    at_s: float
    pss_bytes: int
    files: int
    loose: int
    """Open files without those of the databases: every thread that ever asked one keeps a connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The medians of the first and of the last quarter."""

    first: float
    last: float
    slack: float

    @property
    def is_flat(self) -> bool:
        """Whether what grew is within bounds."""
        return self.last <= max(self.first * _GROWTH, self.first + self.slack)


class Watch:
    """Samples while the load runs."""

    def __init__(self, mirror: RunningMirror) -> None:
        """Sample nothing yet."""
        self._mirror = mirror
        self.samples: list[Sample] = []

    def run(self, over: Callable[[], bool]) -> None:
        """Sample until ``over()``."""
        pause = threading.Event()
        while not over():
            self.look()
            pause.wait(_EVERY_S)

    def look(self) -> Sample:
        """Take and return one sample."""
        files = self._mirror.open_files()
        loose = [target for target in files if not _DATABASE.search(target)]
        sample = Sample(time.monotonic(), self._mirror.pss_bytes(), len(files), len(loose))
        self.samples.append(sample)
        return sample

    def holdings(self) -> list[str]:
        """Return each process with its memory and what it holds open most of, for a look when something grew."""
        lines: list[str] = []
        for pid in self._mirror.pids():
            kinds = Counter(_VARYING.sub("*", target) for target in open_files(pid))
            files = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(_KINDS))
            lines.append(f"process {pid}: {pss_bytes(pid) / 1e6:.1f} MB; {files}")
        return lines

    def trends(self, *, since_s: float, until_s: float) -> tuple[Trend, Trend]:
        """Return the trends of memory and of open files between two moments."""
        chosen = [sample for sample in self.samples if since_s <= sample.at_s <= until_s]
        quarter = max(1, len(chosen) // 4)
        first, last = chosen[:quarter], chosen[-quarter:]
        memory = Trend(
            first=statistics.median(sample.pss_bytes for sample in first),
            last=statistics.median(sample.pss_bytes for sample in last),
            slack=_MEMORY_SLACK_BYTES,
        )
        files = Trend(
            first=statistics.median(sample.files for sample in first),
            last=statistics.median(sample.files for sample in last),
            slack=_FILES_SLACK,
        )
        return memory, files
