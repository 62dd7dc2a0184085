"""Quotas that an upstream tells: Docker Hub's ``ratelimit-*`` headers and ``Retry-After`` (RFC 9110, 10.2.3).

Docker Hub counts manifest GETs, not HEADs, and answers ``ratelimit-limit: 100;w=21600``, ``ratelimit-remaining:
76;w=21600`` and ``docker-ratelimit-source: <address or account>``. Its abuse limit answers 429 with none of them
(harbor issue 19899).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

MAX_RETRY_AFTER_S: Final = 86400.0
"""Longest ``Retry-After`` that is believed."""

_QUOTA = re.compile(r"\s*(\d{1,12})\s*(?:;\s*w\s*=\s*(\d{1,12}))?")


class Headers(Protocol):
    """Case-insensitive header access, as :class:`http.client.HTTPMessage` gives it."""

    def get(self, name: str, /) -> str | None:
        """Return the first value of ``name``, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """What an answer said of the quota; every part may be missing."""

    limit: int | None
    """Manifest pulls allowed in a window."""
    window_s: int | None
    remaining: int | None
    counted_for: str | None
    """The address or account that is counted (``docker-ratelimit-source``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaState:
    """The last known quota of an upstream; times are seconds of the given clock."""

    rate: RateLimit | None = None
    seen_at_s: float | None = None
    limited_until_s: float | None = None
    """After a 429: when to ask again. None when not limited."""


def parse_rate_limit(headers: Headers | Mapping[str, str]) -> RateLimit | None:
    """Return the quota in ``headers``, or None if they have none; nonsense counts as missing."""
    limit, window_s = _parse_quota(headers.get("ratelimit-limit"))
    remaining, window_too = _parse_quota(headers.get("ratelimit-remaining"))
    if limit is None and remaining is None:
        return None
    counted_for = headers.get("docker-ratelimit-source")
    return RateLimit(
        limit=limit,
        window_s=window_s if window_s is not None else window_too,
        remaining=remaining,
        counted_for=counted_for[:200] if counted_for else None,
    )


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Return the seconds of a ``Retry-After`` (a number or an HTTP date), 0 to a day; None for nonsense."""
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"\d{1,9}", text):
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max((aware - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


def _parse_quota(value: str | None) -> tuple[int | None, int | None]:
    match = _QUOTA.match(value) if value else None
    if match is None:
        return None, None
    return int(match[1]), int(match[2]) if match[2] else None


class QuotaMemory:
    """Remembers the newest quota of one upstream. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._state = QuotaState()

    def note(self, rate: RateLimit | None) -> None:
        """Take in what a good answer said. It ends a limitation only if it tells of pulls that remain: HEAD is never
        limited.
        """
        if rate is None:
            return
        with self._lock:
            limited_until_s = None if rate.remaining else self._state.limited_until_s
            self._state = QuotaState(rate=rate, seen_at_s=self._clock(), limited_until_s=limited_until_s)

    def note_limited(self, rate: RateLimit | None, retry_after_s: float | None, *, default_s: float = 60.0) -> None:
        """Take in a 429; without a ``Retry-After`` the next question is due in ``default_s`` seconds."""
        now = self._clock()
        with self._lock:
            self._state = QuotaState(
                rate=rate or self._state.rate,
                seen_at_s=now if rate else self._state.seen_at_s,
                limited_until_s=now + (retry_after_s if retry_after_s is not None else default_s),
            )

    @property
    def state(self) -> QuotaState:
        """The last known quota."""
        with self._lock:
            return self._state
