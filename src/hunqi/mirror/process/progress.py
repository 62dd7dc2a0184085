"""Tells the workers how the fetches go: each change of a fetch becomes one notice to every connection that follows it.

Fetches change in threads, often; a change only marks its digest, and the event loop sends the state as it is by then.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hunqi.errors import HunqiError
from hunqi.kit.rpc import Payload, Session
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.fetch.state import FetchStatus
from hunqi.oci.digest import Digest

_ENDED_LIMIT: Final = 1024


@dataclass(slots=True)
class _Watch:
    fetch: Fetch
    sessions: set[Session] = field(default_factory=set[Session])


class Progress:
    """The followers of all fetches; its methods are called on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, on_full: Callable[[], None]) -> None:
        """``on_full`` is called when a fetch found the disk full."""
        self._loop = loop
        self._on_full = on_full
        self._epoch = uuid.uuid4().hex[:8]
        self._sequence = itertools.count(1)
        self._watches: dict[Digest, _Watch] = {}
        self._ended: OrderedDict[Digest, str] = OrderedDict()
        self._lock = threading.Lock()
        self._marked: set[Fetch] = set()

    def follow(self, fetch: Fetch, session: Session) -> Payload:
        """Send ``session`` the states of ``fetch`` from now on; return the present one."""
        watch = self._watches.get(fetch.digest)
        if watch is None or watch.fetch is not fetch:
            if watch is not None:
                self._tell_all(watch)
            watch = self._watches[fetch.digest] = _Watch(fetch)
            fetch.subscribe(self._mark)
        state = self.describe(fetch)
        if state["status"] != FetchStatus.RUNNING.value:
            self._tell_all(watch)
        else:
            watch.sessions.add(session)
        return state

    def forget(self, session: Session) -> None:
        """A connection has ended: its readers are gone."""
        for watch in self._watches.values():
            if session in watch.sessions:
                watch.sessions.discard(session)
                watch.fetch.set_readers(id(session), 0)

    def watched(self, digest: Digest) -> Fetch | None:
        """Return the fetch that is followed under ``digest``."""
        watch = self._watches.get(digest)
        return watch.fetch if watch else None

    def describe(self, fetch: Fetch) -> Payload:
        """Return a fetch's state as workers read it."""
        state = fetch.state()
        return {
            "digest": str(fetch.digest),
            "epoch": self._epoch,
            "generation": state.generation,
            "sequence": next(self._sequence),
            "status": state.status.value,
            "size": state.size,
            "extents": [list(extent) for extent in state.extents],
            "kept": [list(extent) for extent in fetch.fill.part.kept],
            "verified": state.verified,
            "error": describe_error(state.error) if state.status is FetchStatus.FAILED else None,
        }

    def stored(self, digest: Digest, size: int) -> Payload:
        """Return the state of a blob that is in the store already.

        To those who follow the fetch that brought it, it is of that fetch: their bytes are not taken back.
        """
        watch = self._watches.get(digest)
        generation = self._ended.get(digest, "stored")
        if watch is not None:
            generation = watch.fetch.state().generation
        return {
            "digest": str(digest),
            "epoch": self._epoch,
            "generation": generation,
            "sequence": next(self._sequence),
            "status": FetchStatus.DONE.value,
            "size": size,
            "extents": [[0, size]],
            "kept": [[0, size]],
            "verified": True,
            "error": None,
        }

    def _tell_all(self, watch: _Watch) -> None:
        """Send the present state to all followers; of an ended fetch it is the last, and nobody follows it any more."""
        fetch = watch.fetch
        state = self.describe(fetch)
        for session in watch.sessions:
            session.notify("progress", str(fetch.digest), state)
        if state["status"] == FetchStatus.RUNNING.value:
            return
        if self._watches.get(fetch.digest) is watch:
            del self._watches[fetch.digest]
        if state["status"] == FetchStatus.DONE.value:
            self._ended[fetch.digest] = state["generation"]
            if len(self._ended) > _ENDED_LIMIT:
                self._ended.popitem(last=False)
        if state["status"] == FetchStatus.NO_SPACE.value:
            self._on_full()

    def _mark(self, fetch: Fetch) -> None:
        with self._lock:
            if fetch in self._marked:
                return
            self._marked.add(fetch)
        self._loop.call_soon_threadsafe(self._tell, fetch)

    def _tell(self, fetch: Fetch) -> None:
        with self._lock:
            self._marked.discard(fetch)
        watch = self._watches.get(fetch.digest)
        if watch is not None and watch.fetch is fetch:
            self._tell_all(watch)


def describe_error(error: Exception | None) -> Payload:
    """Return an error as the other process reads it."""
    if isinstance(error, HunqiError):
        return {"code": error.code, "message": str(error), "data": error_data(error)}
    return {"code": "fetch.error", "message": "the fetch failed", "data": {}}


def error_data(error: HunqiError) -> Payload:
    """Return what of an error's attributes the wire form needs."""
    retry_after_s = getattr(error, "retry_after_s", None)
    return {} if retry_after_s is None else {"retry_after_s": retry_after_s}
