"""Streams of the fake: events and log lines, pulled from bounded queues that break rather than forget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from hunqi.engine.errors import EngineUnreachableError
from hunqi.engine.model import Event, LogLine

T = TypeVar("T")
_QUEUE = 10_000


class _Stream(Generic[T]):
    """What was put, in order; ``close`` ends it after what is in it, ``cut`` breaks it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T | None] = asyncio.Queue(_QUEUE)
        self._cut = False

    def put(self, item: T) -> None:
        """Add an item; a reader that is too far behind is cut off."""
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            self.cut()

    def close(self) -> None:
        """End the stream after what is in it."""
        self._queue.put_nowait(None)

    def cut(self) -> None:
        """Break the stream, as when the daemon dies."""
        self._cut = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def take(self) -> T:
        """Return the next item. Raises StopAsyncIteration, or ``EngineUnreachableError`` when cut."""
        item = await self._queue.get()
        if item is None:
            self._queue.put_nowait(None)
            if self._cut:
                raise EngineUnreachableError("Docker cut the stream")
            raise StopAsyncIteration
        return item


class FakeEvents(_Stream[Event]):
    """Events; see :class:`~hunqi.engine.system.Events`."""

    def __aiter__(self) -> FakeEvents:
        """Iterate."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event."""
        return await self.take()


class FakeLines(_Stream[LogLine]):
    """Log lines; see :class:`~hunqi.engine.logs.Lines`."""

    def __aiter__(self) -> FakeLines:
        """Iterate."""
        return self

    async def __anext__(self) -> LogLine:
        """Return the next line."""
        return await self.take()


Reach = Callable[[], None]
"""Raises when the engine is away, and brings the world to now otherwise."""
