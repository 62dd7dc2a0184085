"""A queue of keys, each at most once in it and at most once at work: for level-triggered controllers.

A key marked while it is at work comes again afterwards, so a mark made after something happened is always followed by
a look at it. Bounded by the number of distinct keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class KeyedQueue:
    """Keys to look at, oldest mark first. For one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        self._at_work: set[str] = set()
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._wakers: set[asyncio.Event] = set()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._at_work)

    @property
    def idle(self) -> bool:
        """Whether no key waits or is at work; those that are to come later do not count."""
        return not self._waiting and not self._at_work

    def mark(self, key: str) -> None:
        """Have ``key`` looked at."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._at_work:
            self._again.add(key)
            return
        self._waiting[key] = None
        self._wake()

    def mark_later(self, key: str, delay_s: float) -> None:
        """Have ``key`` looked at in ``delay_s`` seconds at the latest."""
        loop = asyncio.get_running_loop()
        due = loop.time() + max(0.0, delay_s)
        held = self._timers.get(key)
        if held is not None:
            if held.when() <= due:
                return
            held.cancel()
        self._timers[key] = loop.call_at(due, self.mark, key)

    def forget(self, key: str) -> None:
        """Drop what is to come of ``key``."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._waiting.pop(key, None)
        self._again.discard(key)

    @asynccontextmanager
    async def take(self) -> AsyncGenerator[str]:
        """Wait for a key and give it; nobody else gets it until the block ends."""
        while not self._waiting:
            waker = asyncio.Event()
            self._wakers.add(waker)
            try:
                await waker.wait()
            finally:
                self._wakers.discard(waker)
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._at_work.add(key)
        try:
            yield key
        finally:
            self._at_work.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.mark(key)

    def close(self) -> None:
        """Cancel what is to come later."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _wake(self) -> None:
        for waker in self._wakers:
            if not waker.is_set():
                waker.set()
                return
