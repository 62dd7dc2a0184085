"""Takes out of a started Envoy's memory what only its start needed.

Envoy's file is 107 MB. Its start touches half of that once: relocations, registrations, tables of descriptors; and as
the kernel maps sixteen pages for each that is touched, 50 MB are then mapped of which serving uses 13. They are put out
(process_madvise(2), ``MADV_PAGEOUT``) and read again into the kernel's cache at once, piece by piece: what is used
after all comes back without the disk. Only pages of the file go, none that Envoy has written.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import math
import mmap
import os
from collections.abc import Iterator
from typing import Final

from hunqi.gateway.image import ENVOY

_PIECE: Final = 1024 * 1024
_HEAVY_BYTES: Final = 16 * 1024 * 1024
"""Of files: what is used again and again is less."""
_FIRST_PAUSE_S: Final = 30.0
_LONGEST_PAUSE_S: Final = 3600.0
_PROCESS_MADVISE: Final = 440
_MADV_PAGEOUT: Final = 21
_log: Final = logging.getLogger(__name__)


class Lightness:
    """Keeps one Envoy light: after its start, and less and less often when deploys have made it heavy again."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._due = 0.0
        self._pause_s = _FIRST_PAUSE_S

    async def keep(self, pid: int | None, *, now: float) -> None:
        """Make ``pid``, if there is one, lighter when it is heavy and it is time; ``now`` is monotonic."""
        if pid is None:
            return
        if pid != self._pid:
            self._pid, self._due, self._pause_s = pid, now, _FIRST_PAUSE_S
        if now < self._due or mapped_bytes(pid) < _HEAVY_BYTES:
            return
        self._due = now + self._pause_s
        self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2)
        try:
            await asyncio.to_thread(lighten, pid)
        except OSError as error:
            self._due = math.inf
            _log.info("the gateway's Envoy stays as heavy as its start made it: %s", error)


class _Range(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("size", ctypes.c_size_t))


def mapped_bytes(pid: int) -> int:
    """Return how much of its files a process has mapped now; 0 when it is gone (proc(5), ``status``)."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile:"))
    except (OSError, StopIteration):
        return 0


def lighten(pid: int) -> None:
    """Have the Envoy that is process ``pid`` keep only those pages of its file that it goes on using.

    Takes about 0.1 s, of which no call of Envoy's waits more than a millisecond. Raises ``OSError`` where that is not
    possible: another user's process, a kernel before 5.10, an engine on another machine.
    """
    handle = os.pidfd_open(pid)
    try:
        file = os.open(f"/proc/{pid}/root{ENVOY}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with mmap.mmap(-1, _PIECE) as buffer:
                for start, offset, size in _of_file(pid):
                    for done in range(0, size, _PIECE):
                        _put_out(handle, start + done, min(_PIECE, size - done))
                        os.preadv(file, [buffer], offset + done)
        finally:
            os.close(file)
    finally:
        os.close(handle)


def _of_file(pid: int) -> Iterator[tuple[int, int, int]]:
    """Yield address, offset in the file and size of what is mapped of Envoy's file and was never written (proc(5))."""
    found: tuple[int, int, int] | None = None
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as lines:
        for line in lines:
            words = line.split()
            if words[0] == "Anonymous:":
                if found is not None and words[1] == "0":
                    yield found
            elif not words[0].endswith(":"):
                start, _, end = words[0].partition("-")
                first = int(start, 16)
                found = (first, int(words[2], 16), int(end, 16) - first) if words[-1] == ENVOY else None


def _put_out(handle: int, start: int, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    target = _Range(start, size)
    done = libc.syscall(
        ctypes.c_long(_PROCESS_MADVISE),
        ctypes.c_long(handle),
        ctypes.byref(target),
        ctypes.c_size_t(1),
        ctypes.c_long(_MADV_PAGEOUT),
        ctypes.c_long(0),
    )
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
