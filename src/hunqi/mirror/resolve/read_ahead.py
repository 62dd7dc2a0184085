"""Read-ahead: who asks for one blob of an image will ask for the others.

A client takes the config or a layer only after it has read the manifest, three or so at a time. When its first GET of
a blob comes, the manifest's other blobs begin to be fetched at once, in manifest order, a bounded number at a time. A
HEAD never starts anything, so that update checks cost nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hunqi.mirror.names import Target
from hunqi.mirror.resolve.memory import Expiring
from hunqi.mirror.settings import SMALL_BLOB, SMALL_PARALLEL, FetchSettings
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Descriptor, Manifest

REPEAT_AFTER_S: Final = 300.0
"""A manifest is read ahead once in so many seconds: by then its blobs are stored, or left to the clients."""
MAX_WAITING: Final = 512
"""Blobs that wait for their turn; when there are more, the newest are not read ahead."""


class ReadAheadShelf(Protocol):
    """What read-ahead needs to know of the store."""

    def manifests_of(self, key: str, blob: Digest) -> Sequence[tuple[Digest, Manifest]]:
        """Return the image manifests of repository ``key`` that name ``blob``, newest first."""
        ...

    def is_stored(self, digest: Digest) -> bool:
        """Whether the content is here, whoever links it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    target: Target
    blob: Descriptor


class ReadAhead:
    """Starts the fetches of an image's blobs when the first of them is asked for. Thread-safe."""

    def __init__(
        self,
        *,
        shelf: ReadAheadShelf,
        settings: FetchSettings,
        clock: Callable[[], float],
        start_fetch: Callable[[Target, Descriptor, Callable[[], None]], None],
    ) -> None:
        """``start_fetch(target, blob, done)`` begins a fetch without waiting and calls ``done()`` when it has ended.

        It may call ``done()`` at once, when nothing has to be fetched.
        """
        self._shelf = shelf
        self._settings = settings
        self._start_fetch = start_fetch
        self._lock = threading.Lock()
        self._last_manifest: Expiring[str, Digest] = Expiring(clock)
        self._done: Expiring[tuple[str, Digest], bool] = Expiring(clock)
        self._waiting: deque[_Wanted] = deque()
        self._in_flight = 0
        self._is_starting = False

    def note_manifest(self, target: Target, digest: Digest) -> None:
        """A client has got this manifest: the blobs that it asks for next are most likely this one's."""
        self._last_manifest.put(target.key, digest, for_s=REPEAT_AFTER_S)

    def note_blob(self, target: Target, digest: Digest) -> int:
        """A client GETs this blob; return how many others were queued to be fetched."""
        if not self._settings.read_ahead or target.is_local:
            return 0
        chosen = self._choose(target, digest)
        if chosen is None:
            return 0
        wanted = [_Wanted(target=target, blob=blob) for blob in self._missing(chosen, digest)]
        with self._lock:
            wanted = wanted[: MAX_WAITING - len(self._waiting)]
            self._waiting.extend(wanted)
        self._start_next()
        return len(wanted)

    def _choose(self, target: Target, digest: Digest) -> Manifest | None:
        candidates = self._shelf.manifests_of(target.key, digest)
        if not candidates:
            return None
        last = self._last_manifest.get(target.key)
        chosen, manifest = next((pair for pair in candidates if pair[0] == last), candidates[0])
        with self._lock:
            if self._done.get((target.key, chosen)):
                return None
            self._done.put((target.key, chosen), True, for_s=REPEAT_AFTER_S)
        return manifest

    def _missing(self, manifest: Manifest, asked: Digest) -> list[Descriptor]:
        """Return the blobs to fetch in manifest order, each once, without the one that the client itself fetches."""
        blobs = {blob.digest: blob for blob in manifest.blobs if blob.is_distributable and blob.digest != asked}
        return [blob for blob in blobs.values() if not self._shelf.is_stored(blob.digest)]

    def _start_next(self) -> None:
        """Start what may start; one thread at a time, since a fetch that ends at once must not call deeper and
        deeper.
        """
        with self._lock:
            if self._is_starting:
                return
            self._is_starting = True
        while (wanted := self._take()) is not None:
            self._start(wanted)

    def _take(self) -> _Wanted | None:
        with self._lock:
            if not self._waiting or not self._has_room_for(self._waiting[0].blob):
                self._is_starting = False
                return None
            self._in_flight += 1
            return self._waiting.popleft()

    def _has_room_for(self, blob: Descriptor) -> bool:
        limit = SMALL_PARALLEL if blob.size <= SMALL_BLOB else self._settings.read_ahead_parallel
        return self._in_flight < limit

    def _start(self, wanted: _Wanted) -> None:
        finish = _Once(self._ended)
        try:
            self._start_fetch(wanted.target, wanted.blob, finish)
        except Exception:
            # A task's boundary: what is not read ahead is fetched when a client asks for it.
            finish()

    def _ended(self) -> None:
        with self._lock:
            self._in_flight -= 1
        self._start_next()


class _Once:
    """Calls what it holds the first time that it is called."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._called = False

    def __call__(self) -> None:
        with self._lock:
            if self._called:
                return
            self._called = True
        self._call()
