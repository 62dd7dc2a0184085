"""Readings and their limits: a source that is down is an error, and never a success."""

from __future__ import annotations

import json
import math

import pytest

from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec
from hunqi.rollouts.analysis.gathering import checked
from hunqi.rollouts.analysis.model import Outcome
from hunqi.rollouts.analysis.ports import Answer
from hunqi.rollouts.analysis.readings import Reading, Series, assessed


def spec(**values: float) -> MeasureSpec:
    return MeasureSpec(name="queue", kind=MeasureKind.METRIC, **values)  # pyright: ignore[reportArgumentType]


def outcomes(of: MeasureSpec, *readings: Reading) -> list[Outcome]:
    series, found = Series(), list[Outcome]()
    for place, reading in enumerate(readings):
        series = Series.of(json.loads(json.dumps(series.after(reading, of, at=5.0 * place).kept())))
        found.append(series.outcome)
    return found


GOOD, BAD = Reading(facts="queue is 1"), Reading(facts="queue is 9", failed="more than is allowed")
DOWN = Reading(facts="queue", error="no answer")


def test_failures_more_than_the_limit_condemn_for_good() -> None:
    assert outcomes(spec(failure_limit=2), BAD, GOOD, BAD, BAD, GOOD) == [
        Outcome.INCONCLUSIVE,
        Outcome.SUCCESS,
        Outcome.INCONCLUSIVE,
        Outcome.FAILURE,
        Outcome.FAILURE,
    ]


def test_errors_in_a_row_more_than_the_limit_are_an_error_until_it_answers_again() -> None:
    assert outcomes(spec(error_limit=1), DOWN, GOOD, DOWN, DOWN, GOOD) == [
        Outcome.WAITING,
        Outcome.SUCCESS,
        Outcome.WAITING,
        Outcome.ERROR,
        Outcome.SUCCESS,
    ]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_number_is_an_error(value: float | None) -> None:
    assert assessed(spec(at_most=5), "queue", value, 1.0).error != ""


@pytest.mark.parametrize(
    ("of", "new", "old", "failed"),
    [
        (spec(at_most=5), 6.0, None, True),
        (spec(at_most=5), 5.0, None, False),
        (spec(at_least=5), 4.0, None, True),
        (spec(), 1.3, 1.0, True),
        (spec(), 1.2, 1.0, False),
        (spec(), 0.1, 1.0, False),
        (spec(at_least=0), 0.1, 1.0, True),
        (spec(compare=False, at_most=5), 4.0, 1.0, False),
    ],
)
def test_thresholds_and_comparison(of: MeasureSpec, new: float, old: float | None, *, failed: bool) -> None:
    assert bool(assessed(of, "queue", new, old).failed) is failed


def test_what_nothing_is_asked_of_is_inconclusive() -> None:
    assert outcomes(spec(), assessed(spec(), "queue", 1.0, None)) == [Outcome.INCONCLUSIVE]


@pytest.mark.parametrize(
    ("query", "answer", "failed", "error"),
    [
        ("/health", Answer(status=200), False, False),
        ("/health", Answer(status=503), True, False),
        ("/health", Answer(status=302), True, False),
        ("/health#db.ok", Answer(status=200, body=b'{"db": {"ok": true}}'), False, False),
        ("/health#db.ok", Answer(status=200, body=b'{"db": {"ok": false}}'), True, False),
        ("/health#queues.1.depth", Answer(status=200, body=b'{"queues": [{"depth": 1}, {"depth": 9}]}'), True, False),
        ("/health#queues.0.depth", Answer(status=200, body=b'{"queues": [{"depth": 1}, {"depth": 9}]}'), False, False),
        ("/health#nothing", Answer(status=200, body=b"{}"), False, True),
        ("/health#x", Answer(status=200, body=b"\xff<html>"), False, True),
    ],
)
def test_checks(query: str, answer: Answer, *, failed: bool, error: bool) -> None:
    reading = checked(MeasureSpec(name="ok", kind=MeasureKind.HTTP, query=query, at_most=5), "web", answer)

    assert (bool(reading.failed), bool(reading.error)) == (failed, error)
