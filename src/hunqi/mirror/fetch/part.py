"""The part file of one fetch: sparse, written in any order by several threads, hashed in order by one at a time.

A connection whose bytes lie at the frontier hashes them from its own buffer. What lies beyond is read back (from the
page cache) by whoever moves the frontier. The hash is taken by try-lock, so connections never wait for one another.
"""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path
from typing import Final

from hunqi.kit.extents import Extents, Interval
from hunqi.mirror.fetch import journal
from hunqi.mirror.fetch.journal import Journal, Span
from hunqi.oci.digest import Digest

_READ_BACK: Final = 1024 * 1024
_CATCH_UP: Final = 4 * 1024 * 1024
"""Bytes that a connection hashes for others after each of its own pieces: its socket must not wait long."""


class PartFile:
    """All methods but ``discard``, ``close`` and ``remove`` may be called from any thread at any time."""

    def __init__(self, path: Path, digest: Digest) -> None:
        self.path = path
        self._journal_path = path.with_suffix(".json")
        self._digest = digest
        self._fd = -1
        self._lock = threading.Lock()
        self._extents = Extents()
        self._by_source: dict[str, Extents] = {}
        self._incarnation = uuid.uuid4().hex
        self._hash_lock = threading.Lock()
        self._hasher = digest.hasher()
        self._hashed = 0
        self._scratch: memoryview | None = None
        self.kept: tuple[Interval, ...] = ()
        """What an earlier process left, as its journal says; set once, by :meth:`open`."""

    def open(self, *, size: int | None) -> Journal | None:
        """Open or create the file; return the journal if it was resumed. ``size`` is the blob's, when known.

        Raises :class:`OSError`.
        """
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        found = journal.load(self._journal_path)
        if found and self._agrees(found, size):
            with self._lock:
                for span in found.spans:
                    self._by_source.setdefault(span.source, Extents()).add(span.start, span.end)
                    self._extents.add(span.start, span.end)
                self._incarnation = found.incarnation
                self.kept = self._extents.as_tuple()
            return found
        self._journal_path.unlink(missing_ok=True)
        os.ftruncate(self._fd, 0)
        return None

    def _agrees(self, found: Journal, size: int | None) -> bool:
        end = max((span.end for span in found.spans), default=0)
        if size is not None and (end > size or found.size not in {None, size}):
            return False
        return os.fstat(self._fd).st_size >= end

    def write(self, position: int, data: memoryview, source: str) -> None:
        """Put ``data`` at ``position``; raises :class:`OSError`. The caller hashes afterwards (:meth:`hash`)."""
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, data[written:], position + written)
        with self._lock:
            self._extents.add(position, position + len(data))
            spans = self._by_source.get(source)
            if spans is None:
                spans = self._by_source[source] = Extents()
            spans.add(position, position + len(data))

    def hash(self, position: int, data: memoryview) -> None:
        """Hash ``data``, just written at ``position``, if it is next; then help a little with what lies behind it."""
        if position == self._hashed and self._hash_lock.acquire(blocking=False):
            try:
                if position == self._hashed:
                    self._hasher.update(data)
                    self._hashed = position + len(data)
            finally:
                self._hash_lock.release()
        self.catch_up(_CATCH_UP)

    def catch_up(self, limit: int | None = None) -> None:
        """Hash up to ``limit`` bytes that are there and come next, unless another thread is at it."""
        done = 0
        while (limit is None or done < limit) and self.frontier > self._hashed:
            if not self._hash_lock.acquire(blocking=limit is None):
                return
            try:
                done += self._hash_piece()
            finally:
                self._hash_lock.release()

    def _hash_piece(self) -> int:
        if self._scratch is None:
            self._scratch = memoryview(bytearray(_READ_BACK))
        length = min(len(self._scratch), self.frontier - self._hashed)
        count = os.preadv(self._fd, [self._scratch[:length]], self._hashed) if length > 0 else 0
        if length > 0 and count == 0:
            raise OSError(f"{self.path} is shorter than what was written to it")
        self._hasher.update(self._scratch[:count])
        self._hashed += count
        return count

    def hexdigest(self) -> str:
        """Return the digest of all up to the frontier."""
        self.catch_up()
        with self._hash_lock:
            return self._hasher.hexdigest()

    @property
    def frontier(self) -> int:
        """The first byte that is missing."""
        with self._lock:
            return self._extents.end_from(0)

    def extents(self) -> Extents:
        """Return a copy of what is there."""
        with self._lock:
            return Extents(self._extents)

    def snapshot(self) -> tuple[str, tuple[Interval, ...]]:
        """Return what is there, and its incarnation: another one after any bytes were thrown away."""
        with self._lock:
            return self._incarnation, self._extents.as_tuple()

    def gaps(self, start: int, end: int) -> tuple[Interval, ...]:
        """Return what of ``[start, end)`` is missing."""
        with self._lock:
            return tuple(self._extents.gaps(start, end))

    def contributors(self) -> frozenset[str]:
        """Return the ids of the sources that something came from."""
        with self._lock:
            return frozenset(source for source, spans in self._by_source.items() if spans)

    def flush(self, *, size: int | None, etags: dict[str, str]) -> None:
        """Bring the data to the disk, then the journal that says so; raises :class:`OSError`."""
        with self._lock:
            incarnation = self._incarnation
            spans = tuple(
                Span(source=source, start=start, end=end)
                for source, extents in self._by_source.items()
                for start, end in extents
            )
        os.fdatasync(self._fd)
        journal.save(self._journal_path, Journal(incarnation=incarnation, size=size, etags=etags, spans=spans))

    def sync(self) -> None:
        """Bring data and size to the disk, before the file is renamed into the store; raises :class:`OSError`."""
        os.fsync(self._fd)

    def discard(self) -> None:
        """Throw all bytes away and begin again; nobody else may be writing. Raises :class:`OSError`."""
        self._journal_path.unlink(missing_ok=True)
        with self._hash_lock, self._lock:
            os.ftruncate(self._fd, 0)
            self._extents.clear()
            self._by_source.clear()
            self._incarnation = uuid.uuid4().hex
            self._hasher = self._digest.hasher()
            self._hashed = 0

    def discard_source(self, source: str) -> None:
        """Throw the bytes of one source away; what was hashed is hashed again. Nobody else may be writing."""
        with self._hash_lock, self._lock:
            for start, end in self._by_source.pop(source, Extents()):
                self._extents.discard(start, end)
            self._incarnation = uuid.uuid4().hex
            self._hasher = self._digest.hasher()
            self._hashed = 0

    def forget_journal(self) -> None:
        """Remove the journal: the part is in the store now."""
        self._journal_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove part and journal; readers that have the file open can read on."""
        self._journal_path.unlink(missing_ok=True)
        self._journal_path.with_suffix(".json.tmp").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
