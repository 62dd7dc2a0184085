"""The table of downloads: one fetch per digest, a bounded number of them at work, the others in line.

Thread-safe; lives in the fetcher process. What a client waits for goes before read-ahead, which has a bound of its own.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hunqi.mirror.fetch.driver import Driver, DriverLimits
from hunqi.mirror.fetch.errors import StoppedError, TooManyFetchesError
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.fetch.fill import Fill
from hunqi.mirror.fetch.part import PartFile
from hunqi.mirror.fetch.ports import FetchPorts
from hunqi.mirror.fetch.standings import Standings
from hunqi.mirror.fetch.state import FetchStatus
from hunqi.mirror.settings import SMALL_BLOB, SMALL_PARALLEL, FetchSettings
from hunqi.mirror.sources.model import RemoteBlob
from hunqi.oci.digest import Digest

MAX_WAITING: Final = 10_000
"""Fetches in line; a join beyond that is refused."""


class Fetches:
    """``clock`` is monotonic, in seconds. ``data_dir/parts`` is created if it is not there."""

    def __init__(
        self,
        *,
        data_dir: Path,
        ports: FetchPorts,
        settings: FetchSettings,
        limits: DriverLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._parts_dir: Final = data_dir / "parts"
        self._parts_dir.mkdir(parents=True, exist_ok=True)
        self._ports = ports
        self._settings = settings
        self._limits = limits or DriverLimits()
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._lock = threading.Lock()
        self._table: dict[Digest, Fetch] = {}
        self._drivers: dict[Fetch, Driver] = {}
        self._threads: dict[Fetch, threading.Thread] = {}
        self._waiting: dict[Fetch, None] = {}
        self._leftover: list[threading.Thread] = []
        self._is_stopped = False

    def join(self, blob: RemoteBlob, *, repo: str, size: int | None, background: bool = False) -> Fetch:
        """Return the running fetch of ``blob``, or begin one; ``repo`` (a repository key) is linked at its commit.

        ``size`` is the manifest's, in bytes; ``background`` marks read-ahead. An ended fetch is never returned.
        Raises :class:`TooManyFetchesError` or :class:`StoppedError`. Does no I/O.
        """
        with self._lock:
            if self._is_stopped:
                raise StoppedError(blob.digest, "the mirror is stopping")
            fetch = self._table.get(blob.digest)
            if fetch is not None and fetch.add(blob, repo):
                if fetch.is_background and not background:
                    fetch.is_background = False
                    self._admit()
                return fetch
            if len(self._waiting) >= MAX_WAITING:
                raise TooManyFetchesError(blob.digest, f"{MAX_WAITING} fetches wait already")
            fetch = self._create(blob, repo, size, background, predecessor=fetch)
            self._admit()
            return fetch

    def get(self, digest: Digest) -> Fetch | None:
        """Return the fetch of ``digest``, if one is running or in line."""
        with self._lock:
            fetch = self._table.get(digest)
        return fetch if fetch is not None and fetch.state().status is FetchStatus.RUNNING else None

    def active(self) -> list[Fetch]:
        """Return the fetches that are running or in line."""
        with self._lock:
            return [*self._table.values()]

    def part_bytes(self) -> int:
        """Return the bytes that all part files take up on the disk."""
        return sum(size for _, size, _ in self._files())

    def collect_leftovers(self, max_age_s: float) -> int:
        """Remove the files of downloads that nobody touched for ``max_age_s`` seconds; return the bytes freed."""
        oldest, freed = time.time() - max_age_s, 0
        for path, size, modified in self._files():
            with self._lock:
                busy = any(fetch.part_path.stem == path.name.partition(".")[0] for fetch in self._table.values())
                if not busy and modified < oldest:
                    path.unlink(missing_ok=True)
                    freed += size
        return freed

    def stop(self, deadline_s: float) -> bool:
        """End all fetches, keeping parts and journals; True if all threads ended within ``deadline_s`` seconds."""
        until = self._clock() + deadline_s
        with self._lock:
            self._is_stopped = True
            waiting = [*self._waiting]
            self._waiting.clear()
            for fetch in waiting:
                self._drop(fetch)
            drivers = [*self._drivers.values()]
            threads = [*self._threads.values()]
        for fetch in waiting:
            fetch.finish(FetchStatus.FAILED, StoppedError(fetch.digest, "the mirror is stopping"))
            fetch.closed.set()
        for driver in drivers:
            driver.stop()
        for thread in threads:
            thread.join(max(0.0, until - self._clock()))
        with self._lock:
            threads += self._leftover
        for thread in threads:
            thread.join(max(0.0, until - self._clock()))
        return not any(thread.is_alive() for thread in threads)

    # -- private; the lock is held but for _run and _files

    def _create(
        self, blob: RemoteBlob, repo: str, size: int | None, background: bool, *, predecessor: Fetch | None
    ) -> Fetch:
        part = PartFile(self._parts_dir / f"{blob.digest.algorithm}-{blob.digest.hex}.part", blob.digest)

        def make_fill(announce: Callable[[], None]) -> Fill:
            standings = Standings(self._rng)
            return Fill(
                part,
                standings,
                health=self._ports.health,
                settings=self._settings,
                clock=self._clock,
                announce=announce,
            )

        fetch = Fetch(blob, part=part, make_fill=make_fill, settings=self._settings, clock=self._clock)
        fetch.is_background = background
        if size is not None:
            fetch.fill.trust_size(size)
        fetch.add(blob, repo)
        self._table[blob.digest] = fetch
        self._waiting[fetch] = None
        self._drivers[fetch] = Driver(
            fetch, ports=self._ports, limits=self._limits, clock=self._clock, predecessor=predecessor
        )
        return fetch

    def _admit(self) -> None:
        while (fetch := self._next()) is not None:
            del self._waiting[fetch]
            thread = threading.Thread(
                target=self._run, args=(fetch,), name=f"fetch-{fetch.digest.hex[:12]}", daemon=True
            )
            self._threads[fetch] = thread
            thread.start()

    def _next(self) -> Fetch | None:
        if self._is_stopped or len(self._threads) >= self._settings.parallel:
            return None
        first = next((fetch for fetch in self._waiting if not fetch.is_background), None)
        if first is not None:
            return first
        ahead = sum(1 for fetch in self._threads if fetch.is_background)
        following = next(iter(self._waiting), None)
        if following is None:
            return None
        is_small = (following.fill.size or SMALL_BLOB + 1) <= SMALL_BLOB
        return following if ahead < (SMALL_PARALLEL if is_small else self._settings.read_ahead_parallel) else None

    def _run(self, fetch: Fetch) -> None:
        driver = self._drivers[fetch]
        driver.run()
        with self._lock:
            self._leftover = [thread for thread in self._leftover if thread.is_alive()] + driver.threads
            del self._threads[fetch]
            self._drop(fetch)
            self._admit()

    def _drop(self, fetch: Fetch) -> None:
        self._drivers.pop(fetch, None)
        if self._table.get(fetch.digest) is fetch:
            del self._table[fetch.digest]

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        for path in self._parts_dir.iterdir():
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            yield path, found.st_blocks * 512, found.st_mtime
