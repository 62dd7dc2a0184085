"""The part file of one fetch: sparse, written in any order by several threads, hashed in order beside them."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from hunqi.kit.extents import Extents, Interval
from hunqi.mirror.fetch import journal
from hunqi.mirror.fetch.journal import Journal, Span
from hunqi.mirror.fetch.running_hash import RunningHash
from hunqi.oci.digest import Digest


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
        self._hash = RunningHash(self, digest)
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
            self._hash.catch_up()
            return found
        self._journal_path.unlink(missing_ok=True)
        os.ftruncate(self._fd, 0)
        return None

    def _agrees(self, found: Journal, size: int | None) -> bool:
        end = max((span.end for span in found.spans), default=0)
        if size is not None and (end > size or found.size not in {None, size}):
            return False
        return os.fstat(self._fd).st_size >= end

    def write(
        self, position: int, data: memoryview, source: str, *, give_back: Callable[[], None] | None = None
    ) -> bool:
        """Put ``data`` at ``position``; raises :class:`OSError`.

        True when the buffer is still being hashed: ``give_back`` is called, perhaps already, when it may be used again.
        Without ``give_back`` nobody keeps it.
        """
        is_kept = give_back is not None and self._hash.offer(position, data, give_back)
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, data[written:], position + written)
        with self._lock:
            self._extents.add(position, position + len(data))
            spans = self._by_source.get(source)
            if spans is None:
                spans = self._by_source[source] = Extents()
            spans.add(position, position + len(data))
        self._hash.catch_up()
        return is_kept

    def read(self, position: int, buffer: memoryview) -> int:
        """Fill ``buffer`` with what stands at ``position``; return the count of bytes. Raises :class:`OSError`."""
        return os.preadv(self._fd, [buffer], position)

    def hexdigest(self) -> str:
        """Return the digest of all up to the frontier, when nobody writes; raises :class:`OSError`."""
        return self._hash.hexdigest()

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
        self._hash.close()
        with self._lock:
            os.ftruncate(self._fd, 0)
            self._extents.clear()
            self._by_source.clear()
            self._incarnation = uuid.uuid4().hex
        self._hash = RunningHash(self, self._digest)

    def discard_source(self, source: str) -> None:
        """Throw the bytes of one source away; what was hashed is hashed again. Nobody else may be writing."""
        self._hash.close()
        with self._lock:
            for start, end in self._by_source.pop(source, Extents()):
                self._extents.discard(start, end)
            self._incarnation = uuid.uuid4().hex
        self._hash = RunningHash(self, self._digest)
        self._hash.catch_up()

    def forget_journal(self) -> None:
        """Remove the journal: the part is in the store now."""
        self._journal_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove part and journal; readers that have the file open can read on."""
        self._journal_path.unlink(missing_ok=True)
        self._journal_path.with_suffix(".json.tmp").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and end the hashing. May be called twice."""
        self._hash.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
