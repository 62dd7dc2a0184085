"""Keeping a process small: what its start needed and its rest does not goes back to the kernel.

An allocator keeps what a start, a compile or a migration has freed, for the next one that may never come; and code that
ran once stays mapped. Where the system is not Linux with glibc nothing is done.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
from typing import Any, Final

FIRST_S: Final = 5.0
ROUND_S: Final = 20.0
_M_ARENA_MAX: Final = -8
"""Of mallopt(3)."""
_MADV_DONTNEED: Final = 4
"""Of madvise(2)."""
_PT_LOAD: Final = 1
_PF_X: Final = 1
_PF_W: Final = 2
"""Of elf(5)."""


def keep_one_arena() -> None:
    """Have glibc keep freed memory in one place for all threads; call it before there are any.

    With an arena for each thread the fetcher grew from 21 to 115 MB in 150 s of mixed load, and went on; with one
    it stayed at 50 MB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Give free pages to the kernel (malloc_trim(3)): a few milliseconds for a heap of 50 MB."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def unmap_code() -> None:
    """Unmap the code of libraries and programs from this process; what is run again is mapped again, without the disk.

    The kernel maps sixteen pages for each that is run, and after a start most have done all that they ever will.
    """
    # With the interpreter's lock held, no other thread of Python loads a library in the meantime.
    libc = ctypes.PyDLL(None)
    if ctypes.sizeof(ctypes.c_void_p) != 8 or not hasattr(libc, "dl_iterate_phdr"):
        return
    found: list[tuple[int, int]] = []

    def note(loaded: Any, _size: int, _data: int | None) -> int:  # a pointer: the type has no public name
        segments = loaded.contents.segments[: loaded.contents.count]
        base = loaded.contents.base
        found.extend((base + each.address, each.memory) for each in segments if _is_code(each))
        return 0

    libc.dl_iterate_phdr(_NOTE(note), None)
    for start, size in found:
        first, end = start & -mmap.PAGESIZE, (start + size) & -mmap.PAGESIZE
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(max(0, end - first)), _MADV_DONTNEED)


class _Segment(ctypes.Structure):
    """``Elf64_Phdr`` of elf(5)."""

    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("physical", ctypes.c_uint64),
        ("file", ctypes.c_uint64),
        ("memory", ctypes.c_uint64),
        ("align", ctypes.c_uint64),
    )


class _Loaded(ctypes.Structure):
    """``dl_phdr_info`` of dl_iterate_phdr(3), as far as it is needed."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("segments", ctypes.POINTER(_Segment)),
        ("count", ctypes.c_uint16),
    )


_NOTE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Loaded), ctypes.c_size_t, ctypes.c_void_p)


def _is_code(segment: _Segment) -> bool:
    """Whether it is loaded to be run and can never have been written."""
    return segment.kind == _PT_LOAD and segment.flags & (_PF_X | _PF_W) == _PF_X


async def give_back_often(*, first_s: float = FIRST_S, round_s: float = ROUND_S) -> None:
    """Give back what the start left after ``first_s``, and free pages then every ``round_s``, until cancelled."""
    await asyncio.sleep(first_s)
    unmap_code()
    while True:
        give_back()
        await asyncio.sleep(round_s)
