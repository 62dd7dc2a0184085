"""The thread that leads one fetch: resumes, keeps the right number of connections at work, checks the digest, commits.

Nothing reaches the store before its digest is right. On a wrong one all bytes go: a source that gave them all alone is
blamed and left out; if several gave some, each candidate in turn must give the whole.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from hunqi.errors import DependencyError
from hunqi.mirror.fetch import plan
from hunqi.mirror.fetch.errors import (
    AbandonedError,
    CrashedError,
    DigestMismatchError,
    DiskError,
    NoSourceError,
    StoppedError,
    is_disk_full,
)
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.fetch.flusher import Flusher
from hunqi.mirror.fetch.lane import Lane
from hunqi.mirror.fetch.ports import FetchPorts
from hunqi.mirror.fetch.standings import Key
from hunqi.mirror.fetch.state import FetchStatus
from hunqi.mirror.sources.errors import Blame
from hunqi.mirror.store.errors import StoreFullError
from hunqi.oci.digest import EMPTY_SHA256, EMPTY_SHA512

TICK_S: Final = 0.05
IDLE_TICK_S: Final = 0.25
TRICKLE_TICK_S: Final = 0.005
PACE_S: Final = 1.0
PREDECESSOR_S: Final = 60.0
"""Longest wait for an earlier fetch of the same blob to let go of the part file."""

_log = logging.getLogger(__name__)


class _Outcome(Enum):
    COMPLETE = "complete"
    CHANGED = "changed"
    STOPPED = "stopped"
    ABANDONED = "abandoned"
    GIVEN_UP = "given-up"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverLimits:
    """Seconds."""

    give_up_s: float = 20.0
    """So long without a byte from anyone ends a fetch."""
    flush_s: float = 1.0
    """The journal lags at most about so far behind."""


class Driver:
    """``run`` is the body of the fetch's own thread."""

    def __init__(
        self,
        fetch: Fetch,
        *,
        ports: FetchPorts,
        limits: DriverLimits,
        clock: Callable[[], float],
        predecessor: Fetch | None,
    ) -> None:
        self._fetch = fetch
        self._fill = fetch.fill
        self._part = fetch.fill.part
        self._ports = ports
        self._limits = limits
        self._clock = clock
        self._predecessor = predecessor
        self._flusher = Flusher(self._fill, every_s=limits.flush_s, clock=clock, name=f"flush-{fetch.digest.hex[:12]}")
        self._tried_alone: set[str] = set()
        self._alone: str | None = None
        self._is_stopping = False
        self._paced_at = 0.0
        self._started = 0
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Bring the fetch to its end; never raises."""
        fetch = self._fetch
        try:
            self._run()
        except (OSError, StoreFullError) as error:
            self._end_broken(error)
        except DependencyError as error:
            self._keep(error)
        except Exception as error:
            _log.exception("a fetch failed", extra={"digest": str(fetch.digest)})
            self._end_broken(error)
        finally:
            self._fill.halt()
            self._flusher.stop()
            self._part.close()
            fetch.closed.set()

    def stop(self) -> None:
        """End soon, keeping what was fetched; from any thread."""
        with self._fill.changed:
            self._is_stopping = True
            self._fill.changed.notify_all()

    @property
    def threads(self) -> list[threading.Thread]:
        """Connections that may still be running."""
        return [thread for thread in self._threads if thread.is_alive()]

    def _run(self) -> None:
        fetch = self._fetch
        if self._predecessor is not None:
            self._predecessor.closed.wait(PREDECESSOR_S)
        if self._ports.adopt(fetch.digest, fetch.repos_to_link()):
            self._end_linked()
            return
        fetch.link_all_again()
        self._open()
        while not self._settle(self._download()):
            pass

    def _settle(self, outcome: _Outcome) -> bool:
        """Do what an outcome asks for; True when the fetch has ended."""
        fetch = self._fetch
        match outcome:
            case _Outcome.COMPLETE:
                if not self._is_right():
                    return not self._try_again()
                self._commit()
            case _Outcome.CHANGED:
                self._forget_changed()
                return False
            case _Outcome.STOPPED:
                self._keep(StoppedError(fetch.digest, "the mirror is stopping"))
            case _Outcome.ABANDONED:
                self._keep(AbandonedError(fetch.digest, "all readers left"))
            case _Outcome.GIVEN_UP:
                if self._pass_on():
                    return False
                self._keep(self._why())
            case _Outcome.BROKEN:
                self._end_broken(self._fill.problem or CrashedError(fetch.digest, "broken"))
            case _:
                assert_never(outcome)
        return True

    def _open(self) -> None:
        fill = self._fill
        if self._fetch.digest in {EMPTY_SHA256, EMPTY_SHA512}:
            fill.trust_size(0)
        found = self._part.open(size=fill.size if fill.is_size_trusted else None)
        if found is None:
            return
        with fill.changed:
            fill.etags.update(found.etags)
            if fill.size is None:
                fill.size = found.size
        self._fetch.announce()
        self._flusher.start()

    # -- downloading

    def _download(self) -> _Outcome:
        fill = self._fill
        self._refresh()
        began = refreshed_at = fill.moved_at = self._clock()
        while True:
            with fill.changed:
                now = self._clock()
                outcome = self._outcome(now)
                if outcome is None:
                    self._start_lanes()
                    self._drop_slow(now)
                    fill.changed.wait(self._tick(now))
            if outcome is not None:
                fill.halt()
                fill.wait_quiet()
                fill.announce_pending()
                return outcome
            fill.announce_pending()
            now = self._clock()
            if not fill.claims.running and now - refreshed_at >= TICK_S:
                self._refresh()
                refreshed_at = now
            if fill.received and now - began >= self._limits.flush_s / 2:
                self._flusher.start()

    def _refresh(self) -> None:
        candidates = self._fetch.candidates(self._ports.candidates)
        with self._fill.changed:
            self._fill.standings.refresh(candidates)

    def _outcome(self, now: float) -> _Outcome | None:
        fill = self._fill
        if fill.problem is not None:
            return _Outcome.BROKEN
        if fill.is_complete():
            return _Outcome.COMPLETE
        if self._is_stopping:
            return _Outcome.STOPPED
        if fill.changed_source is not None:
            return _Outcome.CHANGED
        if self._fetch.is_unwanted():
            return _Outcome.ABANDONED
        nobody = not fill.claims.running and fill.standings.next_try_at() is None
        return _Outcome.GIVEN_UP if nobody or now - fill.moved_at > self._limits.give_up_s else None

    def _start_lanes(self) -> None:
        while (claim := self._fill.start(self._started + 1)) is not None:
            self._started += 1
            lane = Lane(self._fill, claim, name=f"fetch-{self._fetch.digest.hex[:12]}-{self._started}")
            self._threads = [*self.threads, lane.thread]
            lane.thread.start()

    def _drop_slow(self, now: float) -> None:
        if now - self._paced_at < PACE_S:
            return
        self._paced_at = now
        standings = self._fill.standings
        for claim, pace in self._fill.claims.paces(now):
            if claim.work is None:
                continue
            key = claim.work.candidate.key
            elsewhere = self._best_elsewhere(key)
            if plan.is_too_slow(pace, best_elsewhere=elsewhere, has_alternative=standings.has_other(now, key)):
                standings.too_slow(key, now)
                self._fill.cancel(claim)

    def _best_elsewhere(self, key: Key) -> float | None:
        health, standings = self._ports.health, self._fill.standings
        states = [health.state(source) for source in standings.others(key[0])]
        rates = [state.speed for state in states if state.down_until_s is None]
        return max((rate for rate in [*rates, standings.best_rate_elsewhere(key)] if rate is not None), default=None)

    def _tick(self, now: float) -> float:
        fill = self._fill
        if fill.pending:
            return TRICKLE_TICK_S
        if not fill.claims.running:
            at = fill.standings.next_try_at()
            return min(max(0.001, (at if at is not None else now) - now), IDLE_TICK_S)
        return TICK_S if fill.size is None or not fill.is_whole_mode() else IDLE_TICK_S

    # -- at the end

    def _is_right(self) -> bool:
        return self._part.hexdigest() == self._fetch.digest.hex

    def _commit(self) -> None:
        fetch, size = self._fetch, self._fill.size or 0
        fetch.set_verified()
        self._flusher.stop()
        self._part.sync()
        self._ports.commit(fetch.part_path, fetch.digest, size, fetch.repos_to_link())
        self._part.forget_journal()
        self._end_linked()

    def _end_linked(self) -> None:
        fetch = self._fetch
        while not fetch.finish(FetchStatus.DONE, only_if_linked=True):
            self._ports.adopt(fetch.digest, fetch.repos_to_link())

    def _try_again(self) -> bool:
        """After a wrong digest: discard, decide who is asked next. False when nobody is left."""
        fetch, standings = self._fetch, self._fill.standings
        contributors = self._part.contributors()
        _log.warning("wrong digest", extra={"digest": str(fetch.digest), "sources": sorted(contributors)})
        error = DigestMismatchError(fetch.digest, f"wrong bytes from {', '.join(sorted(contributors)) or 'nobody'}")
        self._flusher.stop()
        self._part.discard()
        fetch.set_discarded()
        self._refresh()
        culprit = next(iter(contributors)) if len(contributors) == 1 else None
        must_be_alone = self._alone is not None or culprit is None
        with self._fill.changed:
            standings.forgive()
            if culprit is not None:
                standings.exclude(culprit, error)
                self._tried_alone.add(culprit)
            self._alone = standings.next_alone(self._tried_alone) if must_be_alone else None
            standings.only(self._alone)
            nobody = self._alone is None if must_be_alone else standings.next_try_at() is None
        if culprit is not None:
            self._ports.health.failed(culprit, Blame.SOFT)
            self._ports.blame(culprit, fetch.digest)
        if nobody:
            self._part.remove()
            fetch.finish(FetchStatus.FAILED, error)
            return False
        self._fill.resume(forget=None)
        return True

    def _pass_on(self) -> bool:
        """Let the next source try, if each must give the whole alone. False when that is not so, or none is left."""
        standings = self._fill.standings
        with self._fill.changed:
            if self._alone is None:
                return False
            self._tried_alone.add(self._alone)
            self._alone = standings.next_alone(self._tried_alone)
            standings.only(self._alone)
        if self._alone is None:
            return False
        self._flusher.stop()
        self._part.discard()
        self._fetch.set_discarded()
        self._fill.resume(forget=None)
        return True

    def _forget_changed(self) -> None:
        source = self._fill.changed_source
        if source is not None and source in self._part.contributors():
            self._flusher.stop()
            self._part.discard_source(source)
            self._fetch.set_discarded()
        self._fill.resume(forget=source or "")

    def _why(self) -> Exception:
        with self._fill.changed:
            error = self._fill.standings.last_error()
        return error or NoSourceError(self._fetch.digest, "no source could be asked")

    def _keep(self, error: Exception) -> None:
        """End without the blob; part and journal stay for the next fetch."""
        self._flusher.stop()
        if self._part.extents():
            self._fill.flush()
        else:
            self._part.remove()
        self._fetch.finish(FetchStatus.FAILED, error)

    def _end_broken(self, error: Exception) -> None:
        fetch = self._fetch
        self._fill.halt()
        self._fill.wait_quiet()
        self._flusher.stop()
        self._part.remove()
        if is_disk_full(error):
            fetch.finish(FetchStatus.NO_SPACE, DiskError(fetch.digest, f"the disk is full: {error}"))
        elif isinstance(error, OSError):
            fetch.finish(FetchStatus.FAILED, DiskError(fetch.digest, f"the disk failed: {error}"))
        else:
            fetch.finish(FetchStatus.FAILED, CrashedError(fetch.digest, f"{type(error).__name__}: {error}"))
