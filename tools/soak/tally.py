"""What the load saw."""

from __future__ import annotations

import threading
from collections import Counter

_NOTES = 30


class Tally:
    """Counts by name, answers by kind and status, and notes on what must not be; safe from any thread."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.counts: Counter[str] = Counter()
        self.answers: Counter[tuple[str, int]] = Counter()
        """By what was asked for and status; 0 is a connection that was refused or closed without an answer."""
        self.notes: list[str] = []
        self._lock = threading.Lock()

    def count(self, name: str) -> None:
        """Count one more."""
        with self._lock:
            self.counts[name] += 1

    def answer(self, kind: str, status: int, *, outcome: str) -> None:
        """Count one answer."""
        with self._lock:
            self.answers[kind, status] += 1
            self.counts[outcome] += 1

    def defect(self, kind: str, text: str) -> None:
        """Count and note what must not be."""
        with self._lock:
            self.counts[kind] += 1
            if len(self.notes) < _NOTES:
                self.notes.append(f"{kind}: {text}")

    def share_whole(self) -> float:
        """Return how many of the finished answers were whole; those that the client itself left do not count."""
        whole = self.counts["whole"]
        return whole / max(1, whole + self.counts["cut"] + self.counts["refused"])

    def line(self) -> str:
        """Return the counts in a line."""
        names = ("whole", "cut", "refused", "left", "pushed", "aborted", "resumed", "deleted", "killed", "faults")
        return ", ".join(f"{self.counts[name]} {name}" for name in names)
