"""An event loop whose time passes only when everything waits: hours of time-outs in milliseconds, in a fixed order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Never waits: what it was to wait is added to the loop's time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits and no timer is set: nothing would ever happen")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for tests without sockets and threads."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)
        # After months a float has no nanoseconds: a timer must not be missed by less than it can tell.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._clock.now


def run_virtual(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run ``scenario`` in virtual time; ``asyncio.get_running_loop().time`` is its clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_wrapped(scenario))


async def _wrapped(scenario: Callable[[], Awaitable[None]]) -> None:
    await scenario()
