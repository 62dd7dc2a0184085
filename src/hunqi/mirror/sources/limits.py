"""Limits of one source: bytes a second and connections at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import Final

BURST_S: Final = 0.25
"""What an idle bucket saves up, in seconds of its rate; also the largest piece to be read at once."""


class Bandwidth:
    """A token bucket that all streams of a source share. Thread-safe; it never sleeps itself.

    ``rate`` in bytes a second; ``clock`` in seconds.
    """

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        self._rate = float(rate)
        self._clock = clock
        self._lock = threading.Lock()
        self._burst = self._rate * BURST_S
        self._level = self._burst
        self._at = clock()

    @property
    def piece_bytes(self) -> int:
        """The largest read that keeps the flow smooth."""
        return max(int(self._burst), 1)

    def spend(self, size_bytes: int) -> float:
        """Take note of received bytes; return the seconds to wait before reading on."""
        with self._lock:
            now = self._clock()
            self._level = min(self._level + (now - self._at) * self._rate, self._burst) - size_bytes
            self._at = now
            return max(-self._level / self._rate, 0.0)


class Use(Enum):
    """What a connection is for."""

    BULK = "bulk"
    """A blob's bytes: long."""
    SMALL = "small"
    """Manifests, HEADs, lists: short, and someone waits."""


class ConnectionSlots:
    """Bounds the requests in flight to one source. Thread-safe.

    Of two or more slots one is kept for small requests, so that long downloads never hold up a manifest.
    """

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError("a source needs at least one connection")
        self._limits = {Use.BULK: max(total - 1, 1), Use.SMALL: total}
        self._changed = threading.Condition()
        self._in_use = 0

    @property
    def in_use(self) -> int:
        """Requests in flight."""
        with self._changed:
            return self._in_use

    def acquire(self, use: Use, limit_s: float) -> bool:
        """Take a slot, waiting for at most ``limit_s`` seconds; False if none came free."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._in_use < self._limits[use], timeout=limit_s):
                return False
            self._in_use += 1
            return True

    def release(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._in_use -= 1
            # All: who is woken first may be one who may not take the last slot.
            self._changed.notify_all()
