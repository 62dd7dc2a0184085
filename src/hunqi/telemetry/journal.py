"""New rows of the history, appended to files as JSON lines: cheap, and whole up to the last line if we are killed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import orjson

from hunqi.telemetry.history_files import Files
from hunqi.telemetry.rows import CustomRow, ServiceRow, Step, TaskRow


def append(files: Files, steps: Iterable[Step]) -> None:
    """Write the rows of steps, and have them on the disk. Raises ``OSError``; nothing is written then."""
    lines: dict[Path, list[bytes]] = {}
    for step in steps:
        for kind, rows in (("services", step.services), ("tasks", step.tasks), ("custom", step.custom)):
            if rows:
                lines.setdefault(files.journal(kind, step.at), []).extend(map(_line, rows))
    sizes = {path: path.stat().st_size if path.exists() else 0 for path in lines}
    try:
        for path, own in lines.items():
            _append(path, b"".join(own))
    except OSError:
        for path, size in sizes.items():
            if path.exists():
                os.truncate(path, size)
        raise


def _line(row: ServiceRow | TaskRow | CustomRow) -> bytes:
    return orjson.dumps(asdict(row), option=orjson.OPT_APPEND_NEWLINE)


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(descriptor, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size and _last_byte(descriptor, size) != b"\n":
            data = b"\n" + data  # a line that was being written when we were killed must not take the next with it
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)


def _last_byte(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, 1, size - 1)
