"""What is remembered in memory only, with bounds: answers that expire, and manifests that the disk had no room for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from hunqi.oci.digest import Digest

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_ENTRIES: Final = 10_000


class Expiring(Generic[K, V]):
    """A bounded map whose entries end at a time of ``clock``; the oldest entry makes room. Thread-safe."""

    def __init__(self, clock: Callable[[], float], *, max_entries: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def put(self, key: K, value: V, *, for_s: float) -> None:
        """Remember ``value`` for ``for_s`` seconds."""
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (self._clock() + for_s, value)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        """Return what is remembered, or None."""
        found = self._find(key)
        return None if found is None else found[1]

    def remaining_s(self, key: K) -> float:
        """Return for how many more seconds ``key`` is remembered; 0 if it is not."""
        found = self._find(key)
        return 0.0 if found is None else found[0] - self._clock()

    def forget(self, key: K) -> None:
        """Forget ``key``."""
        with self._lock:
            self._entries.pop(key, None)

    def _find(self, key: K) -> tuple[float, V] | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry[0] <= self._clock():
                del self._entries[key]
                return None
            return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A manifest's bytes with their media type."""

    data: bytes
    media_type: str


class Bodies:
    """Manifests that could not be stored, by repository and digest; the least recently used make room. Thread-safe."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._bodies: OrderedDict[tuple[str, Digest], Body] = OrderedDict()
        self._bytes = 0

    def put(self, key: str, digest: Digest, body: Body) -> None:
        """Keep ``body`` while there is room."""
        with self._lock:
            self._drop(key, digest)
            self._bodies[key, digest] = body
            self._bytes += len(body.data)
            while self._bytes > self._max_bytes:
                _, dropped = self._bodies.popitem(last=False)
                self._bytes -= len(dropped.data)

    def get(self, key: str, digest: Digest) -> Body | None:
        """Return the manifest if it is still kept."""
        with self._lock:
            body = self._bodies.get((key, digest))
            if body is not None:
                self._bodies.move_to_end((key, digest))
            return body

    def forget(self, key: str, digest: Digest) -> None:
        """Drop a manifest, since it is stored now or gone."""
        with self._lock:
            self._drop(key, digest)

    def _drop(self, key: str, digest: Digest) -> None:
        dropped = self._bodies.pop((key, digest), None)
        if dropped is not None:
            self._bytes -= len(dropped.data)
