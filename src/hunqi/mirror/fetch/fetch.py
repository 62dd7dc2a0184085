"""One download of one blob, as its readers see it: joined, watched and waited for from any thread.

The work is done by its driver (:mod:`hunqi.mirror.fetch.driver`) and connections; this is the board that they write on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hunqi.mirror.fetch.fill import Fill
from hunqi.mirror.fetch.part import PartFile
from hunqi.mirror.fetch.ports import Candidates
from hunqi.mirror.fetch.standings import Candidate
from hunqi.mirror.fetch.state import FetchState, FetchStatus
from hunqi.mirror.settings import FetchSettings, OnDisconnect
from hunqi.mirror.sources.model import RemoteBlob
from hunqi.oci.digest import Digest

GRACE_S: Final = 1.0
"""So long a fetch without readers goes on before the policy is applied: a client that reconnects loses nothing."""

_log = logging.getLogger(__name__)


class Fetch:
    """Created by :class:`~hunqi.mirror.fetch.fetches.Fetches` only."""

    def __init__(
        self,
        blob: RemoteBlob,
        *,
        part: PartFile,
        make_fill: Callable[[Callable[[], None]], Fill],
        settings: FetchSettings,
        clock: Callable[[], float],
    ) -> None:
        self.digest: Final[Digest] = blob.digest
        self.part_path: Final[Path] = part.path
        self.is_background = False
        self.closed = threading.Event()
        """Set when the last thread of this fetch has let go of its files."""
        self._settings = settings
        self._clock = clock
        self._changed = threading.Condition()
        self._blobs: list[RemoteBlob] = []
        self._repos: dict[str, None] = {}
        self._linked = 0
        self._subscribers: dict[object, Callable[[Fetch], None]] = {}
        self._readers: dict[Hashable, int] = {}
        self._unread_since: float | None = None
        self._status = FetchStatus.RUNNING
        self._error: Exception | None = None
        self._verified = False
        self.fill: Final = make_fill(self.announce)

    # -- for readers

    @property
    def repo(self) -> str:
        """The repository that it was begun for; those that joined need not have the blob."""
        with self._changed:
            return next(iter(self._repos))

    def state(self) -> FetchState:
        """Return how the fetch stands now."""
        with self._changed:
            generation, extents = self.fill.part.snapshot()
            return FetchState(
                status=self._status,
                size=self.fill.size,
                extents=extents,
                generation=generation,
                verified=self._verified,
                error=self._error,
                bytes_by_source=MappingProxyType(dict(self.fill.bytes_by_source)),
            )

    def subscribe(self, callback: Callable[[Fetch], None]) -> Callable[[], None]:
        """Have ``callback`` called from threads after every change; it must be quick and not raise.

        Returns the function that ends this. A call may still be under way when it returns.
        """
        token = object()
        with self._changed:
            self._subscribers[token] = callback

        def unsubscribe() -> None:
            with self._changed:
                self._subscribers.pop(token, None)

        return unsubscribe

    def want(self, start: int, end: int) -> None:
        """A reader waits for ``[start, end)``: if nobody fetches that yet, a connection goes there first."""
        self.fill.want(start, end)

    def set_readers(self, key: Hashable, count: int) -> None:
        """``key`` (a worker) has ``count`` readers now. When all have left, the ``on_disconnect`` policy is applied."""
        with self._changed:
            before = sum(self._readers.values())
            if count > 0:
                self._readers[key] = count
            else:
                self._readers.pop(key, None)
            if self._readers:
                self._unread_since = None
            elif before:
                self._unread_since = self._clock()

    def wait(self, timeout_s: float) -> FetchState:
        """Wait for the end, at most ``timeout_s`` seconds; return the state then."""
        deadline = self._clock() + timeout_s
        with self._changed:
            while self._status is FetchStatus.RUNNING and (left_s := deadline - self._clock()) > 0:
                self._changed.wait(left_s)
        return self.state()

    # -- for the table and the driver

    def add(self, blob: RemoteBlob, repo: str) -> bool:
        """Join: another repository to ask through and to link to. False when the fetch has ended."""
        with self._changed:
            if self._status is not FetchStatus.RUNNING:
                return False
            if blob not in self._blobs:
                self._blobs.append(blob)
            self._repos[repo] = None
            self._unread_since = None
            return True

    def candidates(self, of: Candidates) -> list[Candidate]:
        """Return the sources of all repositories that joined, the first one's first."""
        with self._changed:
            blobs = tuple(self._blobs)
        return [Candidate(source, blob) for blob in blobs for source in of(blob)]

    def repos_to_link(self) -> Sequence[str]:
        """Return the repositories that joined since the last call."""
        with self._changed:
            repos = tuple(self._repos)[self._linked :]
            self._linked += len(repos)
            return repos

    def link_all_again(self) -> None:
        """What ``repos_to_link`` gave could not be linked: the blob is not stored yet."""
        with self._changed:
            self._linked = 0

    def is_unwanted(self) -> bool:
        """Whether the last reader left long enough ago and the policy says not to finish."""
        policy = self._settings.on_disconnect
        with self._changed:
            since = self._unread_since
            if since is None or policy is OnDisconnect.FINISH or self._clock() - since < GRACE_S:
                return False
            if policy is OnDisconnect.STOP:
                return True
            size = self.fill.size
            return size is None or self.fill.part.extents().total * 100 < size * self._settings.finish_percent

    def set_verified(self) -> None:
        """The digest is right."""
        with self._changed:
            self._verified = True
        self.announce()

    def set_discarded(self) -> None:
        """Bytes that were announced are gone: tell the readers."""
        self.announce()

    def finish(self, status: FetchStatus, error: Exception | None = None, *, only_if_linked: bool = False) -> bool:
        """End the fetch; with ``only_if_linked`` not while repositories wait to be linked. True when it has ended."""
        with self._changed:
            if only_if_linked and self._linked < len(self._repos):
                return False
            if self._status is FetchStatus.RUNNING:
                self._status, self._error = status, error
            self._changed.notify_all()
        self.announce()
        return True

    def announce(self) -> None:
        """Call all subscribers."""
        with self._changed:
            callbacks = tuple(self._subscribers.values())
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                _log.exception("a reader's callback failed", extra={"digest": str(self.digest)})
