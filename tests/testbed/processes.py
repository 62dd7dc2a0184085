"""What the kernel knows of running processes: children, proportional set size, open files (Linux ``/proc``)."""

from __future__ import annotations

import array
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

_PIECE_PAGES: Final = 1 << 18
_PRESENT: Final = 1 << 63
_FRAME: Final = (1 << 55) - 1


def children(pid: int) -> list[int]:
    """Return the direct children of ``pid`` (proc(5), ``/proc/pid/task/tid/children``); empty when it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(text) for text in (task / "children").read_text().split()]
    return sorted(found)


def descendants(pid: int) -> list[int]:
    """Return all processes below ``pid``."""
    found = children(pid)
    return found + [deeper for child in found for deeper in descendants(child)]


def command_line(pid: int) -> str:
    """Return the arguments of ``pid`` joined by spaces; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of ``pid`` in bytes; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def open_files(pid: int) -> list[str]:
    """Return what the open descriptors of ``pid`` point to; empty when it is gone."""
    targets: list[str] = []
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                targets.append(str(link.readlink()))
    return sorted(targets)


def listeners(pids: Sequence[int], *, port: int | None = None) -> list[int]:
    """Return which of ``pids`` listen on an IPv4 TCP port or, without one, on any Unix socket (proc(5))."""
    if port is None:
        rows = _rows("/proc/net/unix")
        sockets = {f"socket:[{row[6]}]" for row in rows if int(row[3], 16) & 0x10000}  # __SO_ACCEPTCON
    else:
        rows = _rows("/proc/net/tcp")
        sockets = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    return [pid for pid in pids if sockets.intersection(open_files(pid))]


def _rows(table: str) -> list[list[str]]:
    return [line.split() for line in Path(table).read_text().splitlines()[1:]]


def is_alive(pid: int) -> bool:
    """Whether ``pid`` runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Wait until ``condition()``; raise :class:`TimeoutError` that says ``what`` was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(0.02)


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the memory of all pages that any of ``pids`` has, each page once (proc(5), ``pagemap``; needs root).

    The sum of their proportional set sizes as it would be if nobody else used the same files: what they take on a
    machine of their own.
    """
    pages: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError, ProcessLookupError):
            pages |= _frames(pid)
    return len(pages) * os.sysconf("SC_PAGE_SIZE")


def _frames(pid: int) -> set[int]:
    size = os.sysconf("SC_PAGE_SIZE")
    found: set[int] = set()
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, _, end = line.split()[0].partition("-")
            if line.endswith(("[vsyscall]", "[vvar]", "[vdso]")):
                continue
            first, last = int(start, 16) // size, int(end, 16) // size
            for piece in range(first, last, _PIECE_PAGES):
                data = os.pread(pagemap.fileno(), min(_PIECE_PAGES, last - piece) * 8, piece * 8)
                if data.count(0) == len(data):
                    continue
                entries = array.array("Q")
                entries.frombytes(data)
                found.update(entry & _FRAME for entry in entries if entry & _PRESENT)
    return found
