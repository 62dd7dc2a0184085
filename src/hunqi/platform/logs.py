"""Logs of the processes, one file each, that never fill the disk: at ``MAX_BYTES`` a log is copied aside and emptied.

The processes append to their file for as long as they live and need not know: a file that is opened to append goes on
at its new end (as logrotate's ``copytruncate`` has it). Between the last byte copied and the emptying lie microseconds;
a line written in them is lost.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 10 * 1024 * 1024
KEPT: Final = 5
"""Older logs, ``NAME.log.1`` being the newest of them."""
_PIECE: Final = 256 * 1024


def open_log(path: Path) -> int:
    """Return a descriptor that appends to ``path``; it is not inherited by programs that are executed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def rotate_all(directory: Path, *, max_bytes: int = MAX_BYTES) -> list[str]:
    """Put aside every log that is over ``max_bytes``; return their names. A full disk empties it without a copy."""
    rotated: list[str] = []
    with contextlib.suppress(OSError):
        for path in sorted(directory.glob("*.log")):
            if path.stat().st_size > max_bytes:
                _rotate(path)
                rotated.append(path.name)
    return rotated


def tail(path: Path, lines: int, *, max_bytes: int = 64 * 1024) -> list[str]:
    """Return the last ``lines`` of a log, from its last ``max_bytes``; none if there is no such log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - max_bytes))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def _rotate(path: Path) -> None:
    for number in range(KEPT - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}.{number}").replace(path.with_name(f"{path.name}.{number + 1}"))
    copy = path.with_name(f"{path.name}.1")
    with path.open("r+b", buffering=0) as source:
        try:
            with copy.open("wb", buffering=0) as target:
                while piece := source.read(_PIECE):
                    target.write(piece)
        except OSError:
            copy.unlink(missing_ok=True)
        source.truncate(0)
