"""What is decided about freshness, failures and visibility, as tables and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.mirror.resolve.plan import (
    Evidence,
    Failure,
    Freshness,
    OnFailure,
    bound_retry_after,
    decide,
    decide_visibility,
    judge_refusal,
    on_failure,
)

seconds = st.floats(min_value=0, max_value=1e7)


@pytest.mark.parametrize(
    ("age_s", "is_in_trouble", "expected"),
    [
        (None, False, Freshness.FETCH),
        (None, True, Freshness.FETCH),
        (0.0, False, Freshness.FRESH),
        (59.9, False, Freshness.FRESH),
        (59.9, True, Freshness.FRESH),
        (60.0, False, Freshness.SERVE_AND_REVALIDATE),
        (359.9, False, Freshness.SERVE_AND_REVALIDATE),
        (360.0, False, Freshness.REVALIDATE_FIRST),
        (360.0, True, Freshness.SERVE_AND_REVALIDATE),
        (1e9, True, Freshness.SERVE_AND_REVALIDATE),
    ],
)
def test_age_decides_between_answering_and_asking(
    age_s: float | None, is_in_trouble: bool, expected: Freshness
) -> None:
    assert decide(age_s=age_s, ttl_s=60.0, stale_s=300.0, is_in_trouble=is_in_trouble) is expected


@given(age_s=seconds, ttl_s=seconds, stale_s=seconds, is_in_trouble=st.booleans())
def test_nobody_waits_for_sources_that_are_in_trouble_and_nothing_past_its_ttl_is_fresh(
    age_s: float, ttl_s: float, stale_s: float, is_in_trouble: bool
) -> None:
    decision = decide(age_s=age_s, ttl_s=ttl_s, stale_s=stale_s, is_in_trouble=is_in_trouble)
    assert (decision is Freshness.FRESH) == (age_s < ttl_s)
    assert decision is not Freshness.FETCH
    if is_in_trouble:
        assert decision is not Freshness.REVALIDATE_FIRST


@pytest.mark.parametrize(
    ("failure", "known", "unknown"),
    [
        (Failure.UNKNOWN, OnFailure.FORGET, OnFailure.FORGET),
        (Failure.REFUSED, OnFailure.FORGET, OnFailure.FORGET),
        (Failure.LIMITED, OnFailure.SERVE_STALE, OnFailure.FAIL),
        (Failure.BROKEN, OnFailure.SERVE_STALE, OnFailure.FAIL),
        (Failure.UNREACHABLE, OnFailure.SERVE_STALE, OnFailure.FAIL),
        (Failure.LOOP, OnFailure.FAIL, OnFailure.FAIL),
    ],
)
def test_stale_is_for_failures_and_not_for_refusals(failure: Failure, known: OnFailure, unknown: OnFailure) -> None:
    assert on_failure(failure, is_known=True) is known
    assert on_failure(failure, is_known=False) is unknown


def test_every_failure_has_a_decision() -> None:
    for failure in Failure:
        assert isinstance(on_failure(failure, is_known=True), OnFailure)
        assert isinstance(judge_refusal(failure, could_use_credentials=True), Evidence)


@pytest.mark.parametrize(
    ("retry_after_s", "expected"), [(None, 60.0), (0.0, 1.0), (-5.0, 1.0), (30.0, 30.0), (1e6, 3600.0)]
)
def test_a_limit_is_remembered_within_bounds(retry_after_s: float | None, expected: float) -> None:
    assert bound_retry_after(retry_after_s) == expected


@pytest.mark.parametrize(
    ("failure", "with_credentials", "without"),
    [
        (Failure.REFUSED, Evidence.PRIVATE, Evidence.PRIVATE),
        (Failure.UNKNOWN, Evidence.NONE, Evidence.PUBLIC),
        (Failure.LIMITED, Evidence.NONE, Evidence.NONE),
        (Failure.BROKEN, Evidence.NONE, Evidence.NONE),
        (Failure.UNREACHABLE, Evidence.NONE, Evidence.NONE),
        (Failure.LOOP, Evidence.NONE, Evidence.NONE),
    ],
)
def test_only_an_answer_to_a_stranger_decides_visibility(
    failure: Failure, with_credentials: Evidence, without: Evidence
) -> None:
    assert judge_refusal(failure, could_use_credentials=True) is with_credentials
    assert judge_refusal(failure, could_use_credentials=False) is without


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (None, Freshness.FETCH),
        (0.0, Freshness.FRESH),
        (2699.0, Freshness.FRESH),
        (2700.0, Freshness.SERVE_AND_REVALIDATE),
        (3599.0, Freshness.SERVE_AND_REVALIDATE),
        (3600.0, Freshness.REVALIDATE_FIRST),
    ],
)
def test_visibility_is_renewed_before_it_ends(age_s: float | None, expected: Freshness) -> None:
    assert decide_visibility(age_s=age_s, visibility_s=3600.0) is expected
