"""The digest of a growing part file, taken in order by a thread of its own, beside the connections that fill the file.

A connection whose bytes come next hands its buffer over, so that receiving goes on while they are hashed. Bytes that
came out of order, or were left by an earlier process, are read back from the page cache. The first few MiB are hashed
by whoever brings them: a small blob needs no thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from queue import SimpleQueue
from typing import Final, Protocol

from hunqi.oci.digest import Digest

INLINE_BYTES: Final = 2 * 1024 * 1024
_READ_BACK: Final = 1024 * 1024

_Handed = tuple[memoryview, Callable[[], None]]


class _Signal(Enum):
    LOOK = "look"
    """There may be something to read back."""
    END = "end"


class GrowingFile(Protocol):
    """What is hashed."""

    @property
    def frontier(self) -> int:
        """The first byte that is missing."""
        ...

    def read(self, position: int, buffer: memoryview) -> int:
        """Fill ``buffer`` with what stands at ``position``; return the count of bytes. Raises :class:`OSError`."""
        ...


class RunningHash:
    """``offer`` may be called by any thread at any time; ``hexdigest`` and ``close`` by one, when nobody writes."""

    def __init__(self, file: GrowingFile, digest: Digest) -> None:
        self._file = file
        self._hasher = digest.hasher()
        self._name = f"fetch-hash-{digest.hex[:12]}"
        self._lock = threading.Lock()
        self._promised = 0
        """All before is hashed, or will be by the thread without being offered again."""
        self._is_poked = False
        self._is_closed = False
        self._queue: SimpleQueue[_Handed | _Signal] = SimpleQueue()
        """Buffers, in order. Only filled with the lock held."""
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def offer(self, position: int, data: memoryview, give_back: Callable[[], None]) -> bool:
        """Take ``data``, about to be written at ``position``, if it comes next; ``give_back`` is called afterwards.

        False: the buffer stays the caller's; ``catch_up`` after the write has it read back if need be.
        """
        with self._lock:
            if self._is_closed or position != self._promised:
                return False
            self._promised += len(data)
            if self._thread is None and position < INLINE_BYTES:
                self._hasher.update(data)
                return False
            self._queue.put((data, give_back))
            self._start()
            return True

    def catch_up(self) -> None:
        """Have what is there and was not offered in its turn read back."""
        with self._lock:
            if self._is_closed or self._is_poked or self._file.frontier <= self._promised:
                return
            self._is_poked = True
            self._queue.put(_Signal.LOOK)
            self._start()

    def hexdigest(self) -> str:
        """Return the digest of all up to the frontier; raises :class:`OSError`. Afterwards nothing can be offered."""
        self._stop()
        if self._error is not None:
            raise self._error
        self._read_back()
        return self._hasher.hexdigest()

    def close(self) -> None:
        """End the thread. May be called twice."""
        self._error = self._error or OSError("closed")
        self._stop()

    # -- private

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _stop(self) -> None:
        with self._lock:
            self._is_closed = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.put(_Signal.END)
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not _Signal.END:
            if isinstance(item, _Signal):
                self._is_poked = False
            else:
                data, give_back = item
                if self._error is None:
                    self._hasher.update(data)
                give_back()
            if self._error is None:
                try:
                    self._read_back()
                except OSError as error:
                    self._error = error

    def _read_back(self) -> None:
        with self._lock:
            position, until = self._promised, self._file.frontier
            # A buffer that was handed over meanwhile lies before what would be read: its turn is first.
            if not self._queue.empty() or position >= until:
                return
            self._promised = until
        scratch = memoryview(bytearray(min(_READ_BACK, until - position)))
        while position < until and self._error is None:
            count = self._file.read(position, scratch[: until - position])
            if count == 0:
                raise OSError("the part file is shorter than what was written to it")
            self._hasher.update(scratch[:count])
            position += count
