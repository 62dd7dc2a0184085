"""What one fetch has learnt of its sources: who may be asked now, who must wait, who is out, and when to give up."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hunqi.mirror.fetch.errors import DigestMismatchError
from hunqi.mirror.fetch.ports import SourcePort
from hunqi.mirror.sources.errors import (
    CredentialsUnavailable,
    Forbidden,
    LoopDetected,
    NotFound,
    RangeNotSatisfiable,
    SourceServerError,
    TooManyRequests,
    Unauthorized,
    most_telling,
)
from hunqi.mirror.sources.model import RemoteBlob, SourceKind

MAX_FAILURES: Final = 4
"""A source that failed so often in a row, without moving the fetch on, is not asked again by this fetch."""
BACK_OFF_S: Final = 0.1
MAX_BACK_OFF_S: Final = 5.0
LONGEST_WAIT_S: Final = 5.0
"""A source that asks to be left alone for longer (429) is out for this fetch."""
_FINAL: Final = (CredentialsUnavailable, Forbidden, LoopDetected, NotFound, RangeNotSatisfiable, Unauthorized)

Key = tuple[str, str | None, str]
"""Source id, upstream, repository: a source may refuse a blob in one repository and give it in another."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A source, and the repository through which it is asked."""

    source: SourcePort
    blob: RemoteBlob

    @property
    def key(self) -> Key:
        """What tells candidates apart."""
        return self.source.id, self.blob.upstream, self.blob.repository


@dataclass(slots=True)
class _Standing:
    failures: int = 0
    not_before: float = 0.0
    error: Exception | None = None
    is_out: bool = False
    is_rangeless: bool = False
    rate: float | None = None


class Standings:
    """Not thread-safe: guarded by its fetch's lock. Times are of the fetch's clock, in seconds."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._candidates: tuple[Candidate, ...] = ()
        self._by_key: dict[Key, _Standing] = {}
        self._alone: str | None = None

    def refresh(self, candidates: Sequence[Candidate]) -> None:
        """Take the present candidates, best first."""
        seen: dict[Key, Candidate] = {}
        for candidate in candidates:
            seen.setdefault(candidate.key, candidate)
        self._candidates = tuple(seen.values())
        for key in seen:
            self._by_key.setdefault(key, _Standing())

    def choose(self, now: float, busy: Mapping[Key, int], present: Key | None = None) -> Candidate | None:
        """Return whom a connection asks next; ``busy`` counts the connections to each, ``present`` is its last one.

        Connections spread over the candidates of the first available one's kind and repository.
        """
        available = self._available(now)
        if not available:
            return None
        first = available[0]
        if first.source.kind is SourceKind.PEER:
            # The owner downloads what it lacks; another peer, asked beside it, would download it again.
            return first
        pool = [one for one in available if one.source.kind is first.source.kind and one.blob == first.blob]
        if busy:
            pool = [one for one in pool if not self._by_key[one.key].is_rangeless]
        if not pool:
            return None
        load = {one.key: (self._by_key[one.key].failures, busy.get(one.key, 0)) for one in pool}
        best = min(pool, key=lambda one: load[one.key])
        for one in pool:
            if one.key == present and load[one.key] <= load[best.key]:
                return one
        return best

    def _available(self, now: float) -> list[Candidate]:
        return [one for one in self._eligible() if self._by_key[one.key].not_before <= now]

    def _eligible(self) -> list[Candidate]:
        return [
            one for one in self._candidates if self._alone in {None, one.source.id} and not self._by_key[one.key].is_out
        ]

    def next_try_at(self) -> float | None:
        """Return when the earliest candidate may be asked; None when none is left."""
        return min((self._by_key[one.key].not_before for one in self._eligible()), default=None)

    def has_other(self, now: float, key: Key) -> bool:
        """Whether another source than ``key``'s could be asked now."""
        return any(one.source.id != key[0] and not self._by_key[one.key].failures for one in self._available(now))

    def failed(self, key: Key, error: Exception, now: float, *, moved: bool) -> None:
        """Note a failure; ``moved`` says that it brought bytes first, which forgives the earlier ones."""
        standing = self._by_key[key]
        standing.error = error
        standing.failures = 1 if moved else standing.failures + 1
        delay = min(BACK_OFF_S * 2 ** (standing.failures - 1), MAX_BACK_OFF_S)
        standing.not_before = now + delay * self._rng.uniform(0.5, 1.0)
        if isinstance(error, TooManyRequests) and error.retry_after_s is not None:
            standing.not_before = max(standing.not_before, now + error.retry_after_s)
            standing.is_out = error.retry_after_s > LONGEST_WAIT_S
        if isinstance(error, _FINAL) or standing.failures >= MAX_FAILURES:
            standing.is_out = True

    def postpone(self, key: Key, until: float) -> None:
        """Do not ask before ``until``."""
        self._by_key[key].not_before = until

    def is_retrying(self, key: Key) -> bool:
        """Whether the source answered this very fetch with a 5xx: its own back-off decides, not others' failures."""
        return isinstance(self._by_key[key].error, SourceServerError)

    def give_up(self, key: Key, error: Exception) -> None:
        """Ask this candidate no more."""
        standing = self._by_key[key]
        standing.is_out, standing.error = True, standing.error or error

    def others(self, source_id: str) -> set[str]:
        """Return the ids of the other sources that may still be asked."""
        return {one.source.id for one in self._eligible()} - {source_id}

    def too_slow(self, key: Key, now: float) -> None:
        """Note that a source crawled while another one could be asked: it comes last for a while."""
        standing = self._by_key[key]
        standing.failures += 1
        standing.not_before = now + MAX_BACK_OFF_S

    def forgive(self) -> None:
        """Let every source that was not excluded for wrong bytes or by its own final answer be asked again."""
        for standing in self._by_key.values():
            standing.not_before = 0.0
            if not isinstance(standing.error, (*_FINAL, DigestMismatchError)):
                standing.failures, standing.is_out = 0, False

    def moved(self, key: Key) -> None:
        """Note that a source gave what it was asked for."""
        self._by_key[key].failures = 0

    def note_rate(self, key: Key, rate: float) -> None:
        """Remember the bytes a second of one connection."""
        self._by_key[key].rate = rate

    def best_rate_elsewhere(self, key: Key) -> float | None:
        """Return the best remembered rate of one connection to another source that may still be asked."""
        rates = [self._by_key[one.key].rate for one in self._eligible() if one.source.id != key[0]]
        return max((rate for rate in rates if rate is not None), default=None)

    def set_rangeless(self, key: Key) -> None:
        """Note that a source ignores ranges."""
        self._by_key[key].is_rangeless = True

    def is_rangeless(self, key: Key) -> bool:
        """Whether a source is known to ignore ranges."""
        return self._by_key[key].is_rangeless

    def exclude(self, source_id: str, error: Exception) -> None:
        """Ask a source no more."""
        for key, standing in self._by_key.items():
            if key[0] == source_id:
                standing.is_out, standing.error = True, error

    def only(self, source_id: str | None) -> None:
        """Ask this source alone from now on; None lifts that."""
        self._alone = source_id

    def next_alone(self, tried: Collection[str]) -> str | None:
        """Return the best source id outside of ``tried`` that may still be asked."""
        return next(
            (
                one.source.id
                for one in self._candidates
                if one.source.id not in tried and not self._by_key[one.key].is_out
            ),
            None,
        )

    def last_error(self) -> Exception | None:
        """Return what the candidates' last errors say together; where others were asked, peers have no say."""
        heard = [one for one in self._candidates if one.source.kind is not SourceKind.PEER] or self._candidates
        return most_telling([error for one in heard if (error := self._by_key[one.key].error) is not None])
