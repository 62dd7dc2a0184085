"""Reading a blob while it is being fetched: the part file, as far as the fetcher announced it.

One :class:`Follower` per digest serves all readers of this worker. A reader sends what is there, then waits for the
next announcement; it never polls and holds nothing in memory. Announcements and answers of the fetcher overtake each
other here, so each has a number and the latest counts. The last 64 KiB are withheld until the digest is right, and a
reader who got bytes that are no longer there, or of a download that was thrown away (another generation), is cut,
whatever came since, so nobody gets a complete body that is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from hunqi.kit.rpc import RpcError, RpcUnavailableError
from hunqi.mirror.names import Target
from hunqi.mirror.serve.fetcher import FetcherClient, FetchState, FetchStatus, Via
from hunqi.oci.digest import Digest

WITHHELD_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a reader is after: a blob of a repository, from ``start`` on, and the mirrors it came through."""

    target: Target
    digest: Digest
    start: int
    via: Via


class Follower:
    """The progress of one fetch as this worker knows it, and the file it goes to."""

    def __init__(self, state: FetchState, file: BinaryIO | None) -> None:
        self.state = state
        self.file = file
        """``None`` until the fetcher has made it."""
        self.readers = 0
        self._outdated: list[BinaryIO] = []
        self._changed = asyncio.Event()
        self._changes: list[tuple[tuple[int, int], ...]] = []
        """What was left of the announced bytes whenever some were lost."""

    def announce(self, state: FetchState) -> None:
        """Take a new state and wake every reader."""
        if not state.continues(self.state):
            self._changes.append(())
        elif state.epoch != self.state.epoch:
            self._changes.append(state.kept)
        self.state = state
        self.wake()

    @property
    def age(self) -> int:
        """How often what was announced became void, all of it or in part; for :meth:`still_holds`."""
        return len(self._changes)

    def still_holds(self, start: int, end: int, *, since: int) -> bool:
        """Whether the bytes ``[start, end)`` that a reader got since the age ``since`` are those of this fetch still.

        That they are there again says nothing: those that were thrown away may have been wrong.
        """
        return start == end or all(
            any(first <= start and end <= last for first, last in kept) for kept in self._changes[since:]
        )

    def wake(self) -> None:
        """Let every waiting reader look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed(self) -> None:
        """Wait for the next announcement."""
        await self._changed.wait()

    def replace_file(self, file: BinaryIO) -> None:
        """Read from another file; the old one stays open, for a ``sendfile`` may still hold its number."""
        if self.file is not None:
            self._outdated.append(self.file)
        self.file = file

    def close(self) -> None:
        """Close every file; no reader may be left."""
        for file in (self.file, *self._outdated):
            if file is not None:
                file.close()

    def readable_end(self, start: int) -> int:
        """Return up to where the bytes from ``start`` on may be sent now."""
        state, end = self.state, self.present_end(start)
        if state.status is FetchStatus.DONE:
            return state.size or 0
        if state.verified:
            return end
        return start if state.size is None else max(start, min(end, state.size - WITHHELD_BYTES))

    def present_end(self, start: int) -> int:
        """Return up to where there are bytes from ``start`` on, whether they may be sent or not."""
        return next((last for first, last in self.state.extents if first <= start < last), start)


class Followers:
    """The fetches that this worker's clients read."""

    def __init__(self, fetcher: FetcherClient, *, open_file: Callable[[Digest], BinaryIO | None]) -> None:
        self._fetcher = fetcher
        self._open_file = open_file
        self._followers: dict[Digest, Follower] = {}
        self._wanted: dict[Digest, Wanted] = {}
        self._joining: Counter[Digest] = Counter()
        self._early: dict[Digest, FetchState] = {}
        """What was announced of a fetch before the first reader has heard that it joined."""

    def on_progress(self, state: FetchState) -> None:
        """Take a ``progress`` notice."""
        if state.digest in self._joining:
            self._early[state.digest] = state
        follower = self._followers.get(state.digest)
        if follower is None or not state.is_later_than(follower.state):
            return
        if _is_still_opening(state, after=follower.state):
            return
        if follower.file is None or state.generation != follower.state.generation:
            self._reopen(follower, state.digest)
        follower.announce(state)

    @contextlib.asynccontextmanager
    async def follow(self, wanted: Wanted) -> AsyncGenerator[Follower]:
        """Join the fetch of a blob for as long as the context lasts.

        Raises ``RpcError`` when the fetch cannot begin, with the fetcher's own code.
        """
        follower = await self._join(wanted)
        follower.readers += 1
        try:
            yield follower
        finally:
            follower.readers -= 1
            self._fetcher.set_readers(wanted.digest, follower.readers)
            if follower.readers == 0 and self._followers.get(wanted.digest) is follower:
                del self._followers[wanted.digest]
                del self._wanted[wanted.digest]
                follower.close()

    async def rejoin(self) -> None:
        """Ask again for every fetch that has readers, of a fetcher that was started anew."""
        for digest, follower in list(self._followers.items()):
            wanted = self._wanted.get(digest)
            if wanted is None:
                continue
            try:
                state = await self._fetcher.fetch(
                    wanted.target, digest, start=wanted.start, via=wanted.via, readers=follower.readers
                )
            except RpcUnavailableError:
                return
            except RpcError as error:
                follower.announce(replace(follower.state, status=FetchStatus.FAILED, error=error))
            else:
                self.on_progress(state)

    async def _join(self, wanted: Wanted) -> Follower:
        digest = wanted.digest
        self._joining[digest] += 1
        try:
            state = await self._ask(wanted)
            early = self._early.get(digest)
        finally:
            self._joining[digest] -= 1
            if not self._joining[digest]:
                del self._joining[digest]
                self._early.pop(digest, None)
        if early is not None and early.epoch == state.epoch and early.is_later_than(state):
            state = early
        known = self._followers.get(digest)
        if known is not None and _is_refusal(state):
            # A file that others of the same repository have open is worth more; of another one, nothing was proved.
            is_theirs = self._wanted[digest].target == wanted.target
            is_useful = known.state.size is not None and known.state.status is not FetchStatus.FAILED
            return known if is_theirs and is_useful else Follower(state, None)
        if known is not None:
            self.on_progress(state)
            return known
        follower = Follower(state, self._open_file(digest))
        self._followers[digest] = follower
        self._wanted[digest] = wanted
        return follower

    async def _ask(self, wanted: Wanted) -> FetchState:
        known = self._followers.get(wanted.digest)
        readers = (known.readers if known else 0) + 1
        return await self._fetcher.fetch(
            wanted.target, wanted.digest, start=wanted.start, via=wanted.via, readers=readers
        )

    def _reopen(self, follower: Follower, digest: Digest) -> None:
        file = self._open_file(digest)
        if file is not None:
            follower.replace_file(file)


def _is_still_opening(state: FetchState, *, after: FetchState) -> bool:
    """Whether a new fetcher process has not read yet what its predecessor left: that nothing is there means nothing."""
    return state.epoch != after.epoch and state.status is FetchStatus.RUNNING and not state.extents


def _is_refusal(state: FetchState) -> bool:
    """Whether a full disk let no fetch begin: that says nothing about a file which others have open."""
    return state.status is FetchStatus.NO_SPACE and not state.extents


def open_part_or_content(part: Path, content: Path) -> BinaryIO | None:
    """Open the part file of a digest, or what it became; a rename in between is looked at twice."""
    for path in (content, part, content):
        with contextlib.suppress(FileNotFoundError):
            return open(path, "rb", buffering=0)
    return None
