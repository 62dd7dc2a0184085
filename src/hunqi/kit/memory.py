"""Keeping a process small: what glibc holds back of freed memory goes to the kernel (elsewhere nothing is done).

An allocator keeps what a start, a compile or a migration has freed, for the next one that may never come.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import Final

FIRST_S: Final = 5.0
ROUND_S: Final = 60.0
_M_ARENA_MAX: Final = -8
"""Of mallopt(3)."""


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


async def give_back_often(*, first_s: float = FIRST_S, round_s: float = ROUND_S) -> None:
    """Give free pages back after ``first_s`` and then every ``round_s``, until cancelled."""
    pause_s = first_s
    while True:
        await asyncio.sleep(pause_s)
        give_back()
        pause_s = round_s
