"""Keeps the cache between its marks, and gives room when the disk is full.

One pass at a time, in steps of a few milliseconds with a pause after each, so that no request waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from hunqi.mirror.settings import SpaceSettings
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.eviction import Eviction
from hunqi.mirror.store.eviction_plan import Marks
from hunqi.oci.digest import Digest

_log: Final = logging.getLogger(__name__)
_PAUSE_S: Final = 0.005
_ROOM_BYTES: Final = 256 * 1024 * 1024
"""Freed at once when the disk is full."""


@dataclass(slots=True, kw_only=True)
class Space:
    """Evicts; thread-safe."""

    settings: SpaceSettings
    catalogue: Catalogue
    eviction: Eviction
    part_bytes: Callable[[], int]
    in_use: Callable[[], AbstractSet[Digest]]
    evicted_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def excess(self) -> int:
        """Return the bytes over the low mark if the high mark is passed, else 0."""
        marks = Marks.of_limit(self.settings.cache_max, low_percent=self.settings.low_percent)
        return marks.bytes_to_free(cached_bytes=self.catalogue.totals().cached_bytes, part_bytes=self.part_bytes())

    def keep_marks(self) -> int:
        """Evict down to the low mark if the high one is passed; return the bytes freed."""
        excess = self.excess()
        return self._evict(excess) if excess else 0

    def make_room(self) -> int:
        """Evict what a full disk needs for going on; return the bytes freed."""
        return self._evict(_ROOM_BYTES)

    def _evict(self, bytes_to_free: int) -> int:
        if not self._lock.acquire(blocking=False):
            return 0
        try:
            freed = 0
            for step in self.eviction.evict(bytes_to_free, in_use=self.in_use):
                freed += step.freed_bytes
                time.sleep(_PAUSE_S)
            self.evicted_bytes += freed
            if freed:
                _log.info("evicted %d bytes, the least recently used first", freed)
            return freed
        finally:
            self._lock.release()
