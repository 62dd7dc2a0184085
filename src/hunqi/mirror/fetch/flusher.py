"""Keeps the journal of one fetch close behind its part file, in a thread of its own: no connection waits for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from hunqi.mirror.fetch.fill import Fill

FLUSH_BYTES: Final = 64 * 1024 * 1024
_LOOK_S: Final = 0.1


class Flusher:
    """Flushes about every ``every_s`` seconds or 64 MiB while anything is new. Used by the driver's thread only."""

    def __init__(self, fill: Fill, *, every_s: float, clock: Callable[[], float], name: str) -> None:
        self._fill = fill
        self._every_s = every_s
        self._clock = clock
        self._name = name
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it runs."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; when this returns, the journal is written no more."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        flushed, flushed_at = self._fill.received, self._clock()
        while not self._stop.wait(min(_LOOK_S, self._every_s / 2)):
            received, now = self._fill.received, self._clock()
            due = now - flushed_at >= self._every_s or received - flushed >= FLUSH_BYTES
            if received > flushed and due and not self._flush():
                return
            if due:
                flushed, flushed_at = received, now

    def _flush(self) -> bool:
        try:
            self._fill.flush()
        except OSError as error:
            self._fill.broke(error)
            return False
        return True
