"""Where the history lies: what is new in journals of JSON lines, the rest in Parquet, a directory for each resolution.

``journal/tasks-1700000400.ndjson``, ``10s/tasks-1700000400.parquet``, ``60s/tasks-1699999200.parquet`` and so on: the
kind of its rows and when its span began name a file, so that what is made twice is made at the same place. A file
appears whole, by renaming; what is being written ends in ``.new`` and is removed at the next start; what cannot be read
ends in ``.bad``, out of the way, for a person to look at.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hunqi.telemetry.settings import HistoryLimits, Level

KINDS: Final = ("services", "tasks", "custom")
_NAME: Final = re.compile(r"(services|tasks|custom)-(\d{1,12})\.(ndjson|parquet)")
_MAGIC: Final = b"PAR1"
_LEAST_PARQUET: Final = 12
_BAD_S: Final = 7 * 86_400
"""For so long a file that cannot be read is kept."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Held:
    """A file: rows of a kind from ``start`` on."""

    start: int
    kind: str
    path: Path
    size: int


class Files:
    """The files below a directory."""

    def __init__(self, root: Path, limits: HistoryLimits) -> None:
        self.root = root
        self.limits = limits

    @property
    def finest(self) -> Level:
        """The level that journals become."""
        return self.limits.levels[0]

    def prepare(self) -> None:
        """Make the directories, and remove what a crash left."""
        for name in ("journal", *(level.name for level in self.limits.levels)):
            directory = self.root / name
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in directory.glob("*.new"):
                path.unlink(missing_ok=True)

    def journal(self, kind: str, at: int) -> Path:
        """Return the journal of rows of a moment."""
        return self.root / "journal" / f"{kind}-{at - at % self.finest.span_s}.ndjson"

    def of_level(self, level: Level, kind: str, start: int) -> Path:
        """Return the file of a span."""
        return self.root / level.name / f"{kind}-{start}.parquet"

    def journals(self) -> list[Held]:
        """Return all journals, the oldest first."""
        return sorted(self._held("journal", "ndjson"))

    def of(self, level: Level) -> list[Held]:
        """Return all files of a level, the oldest first."""
        return sorted(self._held(level.name, "parquet"))

    def due(self, now: float) -> bool:
        """Whether a journal's span is over."""
        return any(each.start + self.finest.span_s < now for each in self.journals())

    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(each.size for each in self.everything())

    def everything(self) -> Iterator[Held]:
        """Yield all files, in the order in which they are given up when there are too many bytes."""
        for level in self.limits.levels:
            yield from self.of(level)
        yield from self.journals()

    def retain(self, now: float) -> list[str]:
        """Remove what is too old, then what is too much; return sentences on what went for want of room."""
        for level in self.limits.levels:
            keep_s = min(level.keep_s, self.limits.days * 86_400)
            for held in self.of(level):
                if held.start + level.span_s < now - keep_s:
                    held.path.unlink(missing_ok=True)
        for held in self.journals():
            if held.start < now - self.limits.days * 86_400:
                held.path.unlink(missing_ok=True)
        for path in self.root.glob("*/*.bad"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < now - _BAD_S:
                    path.unlink()
        left, gone = self.size(), 0
        for held in self.everything():
            if left <= self.limits.most_bytes:
                break
            held.path.unlink(missing_ok=True)
            left, gone = left - held.size, gone + held.size
        return [f"{gone:,} bytes of the history were removed: there may be {self.limits.most_bytes:,}"] if gone else []

    def set_aside(self, path: Path, why: str) -> str:
        """Put a file that cannot be read out of the way, and return a sentence on it."""
        with contextlib.suppress(OSError):
            path.rename(path.with_name(f"{path.name}.bad"))
        return f"{path.relative_to(self.root)} cannot be read and was passed over: {why}"

    def _held(self, directory: str, ending: str) -> Iterator[Held]:
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / directory) as entries:
            for entry in entries:
                if (match := _NAME.fullmatch(entry.name)) and match[3] == ending:
                    with contextlib.suppress(FileNotFoundError):
                        yield Held(start=int(match[2]), kind=match[1], path=Path(entry.path), size=entry.stat().st_size)


def looks_whole(path: Path) -> bool:
    """Whether a Parquet file begins and ends as one."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
            if file.seek(0, os.SEEK_END) < _LEAST_PARQUET:
                return False
            file.seek(-8, os.SEEK_END)
            length, tail = int.from_bytes(file.read(4), "little"), file.read(4)
            return head == tail == _MAGIC and 0 < length <= file.tell() - _LEAST_PARQUET
    except OSError:
        return False
