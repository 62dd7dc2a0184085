"""What a fetch needs of others: sources to read from, a store to commit to, a memory of who is to blame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hunqi.mirror.sources.health import HealthMemory
from hunqi.mirror.sources.model import RemoteBlob, SourceKind
from hunqi.oci.digest import Digest


class BlobStreamPort(Protocol):
    """The body of one answer; read by one thread, aborted by any."""

    @property
    def status_partial(self) -> bool:
        """Whether the source answered with the range that it was asked for."""
        ...

    @property
    def start(self) -> int:
        """Offset in the blob of the first byte: the asked one, or 0 when the source ignored the range."""
        ...

    @property
    def length(self) -> int | None:
        """Bytes that this answer carries, when the source told."""
        ...

    @property
    def total_size(self) -> int | None:
        """Size of the whole blob in bytes, when the source told."""
        ...

    @property
    def etag(self) -> str | None:
        """The validator of the content, when the source told."""
        ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Read up to ``len(buffer)`` bytes; 0 is the clean end. Raises ``SourceError``."""
        ...

    def abort(self) -> None:
        """Make a read in another thread raise at once."""
        ...

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else cut it. May be called twice."""
        ...


class SourcePort(Protocol):
    """One place that may have the blob."""

    @property
    def id(self) -> str:
        """Stable name of the source, for records and blame."""
        ...

    @property
    def kind(self) -> SourceKind:
        """Peer, relay or upstream: a fetch is spread over sources of one kind only."""
        ...

    def open_blob(
        self, blob: RemoteBlob, /, *, start: int, end: int | None, if_match_etag: str | None
    ) -> BlobStreamPort:
        """Ask for ``[start, end)``, or for all from ``start``; raises ``SourceError``.

        ``start=0, end=None`` asks for the whole without a range.
        """
        ...


Candidates = Callable[[RemoteBlob], Sequence[SourcePort]]
"""The sources of a blob, best first; asked again before each new round of tries. Cheap; called from threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPorts:
    """The world around the fetches. All are called from threads."""

    candidates: Candidates
    commit: Callable[[Path, Digest, int, Sequence[str]], None]
    """``(part_file, digest, size, repository_keys)``: renames the part into the store and links it to them.

    Raises ``StoreFullError`` when the disk is full."""
    adopt: Callable[[Digest, Sequence[str]], bool]
    """Links a blob that the store already has to the repositories; False if it does not have it."""
    blame: Callable[[str, Digest], None]
    """``(source id, digest)``: this source alone gave wrong bytes. For the records: ``health`` is told besides."""
    health: HealthMemory
    """Asked before each request and told of each end."""
