"""Pure decisions: whether what is known may be answered, and what a failed question means for it.

The recipe: HEAD after a TTL; stale while revalidating; stale on a network error, 5xx and 429,
never on 401, 403 or 404, since those say that it was taken away. A loop of relays is always an error: an answer would
hide it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, assert_never

MIN_RETRY_AFTER_S: Final = 1.0
MAX_RETRY_AFTER_S: Final = 3600.0
DEFAULT_RETRY_AFTER_S: Final = 60.0
"""For a 429 that names no time."""
REFRESH_FROM: Final = 0.75
"""Share of ``visibility_s`` after which a visibility is refreshed behind the answer."""


class Freshness(Enum):
    """What to do about a name whose last check lies so far back."""

    FRESH = "answer"
    SERVE_AND_REVALIDATE = "answer, and revalidate behind the answer"
    REVALIDATE_FIRST = "revalidate, then answer"
    FETCH = "nothing is known: ask"


class Failure(Enum):
    """Why no source answered."""

    UNKNOWN = "404"
    REFUSED = "401 or 403"
    LIMITED = "429"
    BROKEN = "5xx or nonsense"
    UNREACHABLE = "network"
    LOOP = "a loop of relays"


class OnFailure(Enum):
    """What a failure means for what is known."""

    SERVE_STALE = "answer with what is known and warn"
    FORGET = "forget what is known and fail"
    FAIL = "fail"


def decide(*, age_s: float | None, ttl_s: float, stale_s: float, is_in_trouble: bool) -> Freshness:
    """Return what to do about a name that was last checked ``age_s`` seconds ago (None: never).

    ``is_in_trouble``: the sources are known to fail or to limit us at the moment, so waiting for them would be in vain.
    """
    if age_s is None:
        return Freshness.FETCH
    if age_s < ttl_s:
        return Freshness.FRESH
    if is_in_trouble or age_s < ttl_s + stale_s:
        return Freshness.SERVE_AND_REVALIDATE
    return Freshness.REVALIDATE_FIRST


def on_failure(failure: Failure, *, is_known: bool) -> OnFailure:
    """Return what ``failure`` means for a name; ``is_known`` if an older answer is at hand."""
    match failure:
        case Failure.UNKNOWN | Failure.REFUSED:
            return OnFailure.FORGET
        case Failure.LIMITED | Failure.BROKEN | Failure.UNREACHABLE:
            return OnFailure.SERVE_STALE if is_known else OnFailure.FAIL
        case Failure.LOOP:
            return OnFailure.FAIL
        case _:
            assert_never(failure)


def bound_retry_after(retry_after_s: float | None) -> float:
    """Return for how many seconds a 429 is remembered: what it said within 1 to 3600, a minute if it said nothing."""
    if retry_after_s is None:
        return DEFAULT_RETRY_AFTER_S
    return min(max(retry_after_s, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)


class Evidence(Enum):
    """What an anonymous manifest HEAD says about a repository."""

    PUBLIC = "public"
    PRIVATE = "private"
    NONE = "undecidable"


def judge_refusal(failure: Failure, *, could_use_credentials: bool) -> Evidence:
    """Return what a failed anonymous question says about a repository's visibility.

    A 404 says nothing where the upstream may answer so to strangers only; without credentials of ours we are a stranger
    too and can hold nothing that is not public.
    """
    match failure:
        case Failure.REFUSED:
            return Evidence.PRIVATE
        case Failure.UNKNOWN:
            return Evidence.NONE if could_use_credentials else Evidence.PUBLIC
        case Failure.LIMITED | Failure.BROKEN | Failure.UNREACHABLE | Failure.LOOP:
            return Evidence.NONE
        case _:
            assert_never(failure)


def decide_visibility(*, age_s: float | None, visibility_s: float) -> Freshness:
    """Return what to do about a visibility that was decided ``age_s`` seconds ago (None: never)."""
    if age_s is None:
        return Freshness.FETCH
    if age_s < REFRESH_FROM * visibility_s:
        return Freshness.FRESH
    return Freshness.SERVE_AND_REVALIDATE if age_s < visibility_s else Freshness.REVALIDATE_FIRST
