"""Judging requests: who is condemned, who is not, after how many, and in which words."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec
from hunqi.rollouts.analysis.model import Finding, Outcome, concluded, overall
from hunqi.rollouts.analysis.requests import Case, judge, remember
from hunqi.rollouts.analysis.trial import Trial
from hunqi.rollouts.analysis.windows import Side, Window, windows
from hunqi.telemetry.histogram import Histogram
from hunqi.telemetry.model import Traffic

RATE = MeasureSpec(name="success-rate", kind=MeasureKind.SUCCESS_RATE)
FAST, SLOW = [10.0] * 90 + [40.0] * 9 + [80.0], [10.0] * 90 + [160.0] * 9 + [320.0]


def case(spec: MeasureSpec = RATE, *, old: int | None = 7) -> Case:
    return Case(spec=spec, service="web", new=8, old=old, tests=4)


def of_errors(*counts: tuple[int, int, int, int], start: float = 0.0) -> list[Window]:
    """Windows of five seconds: requests and errors of the new, then of the old."""
    return [
        Window(
            start=start + 5 * place,
            end=start + 5 * place + 5,
            new=Side(requests=new, errors=new_bad),
            old=Side(requests=old, errors=old_bad),
        )
        for place, (new, new_bad, old, old_bad) in enumerate(counts)
    ]


def of_latencies(new: Sequence[float], old: Sequence[float], *, times: int, start: float = 0.0) -> list[Window]:
    sides = [Side(requests=len(each), latency=Histogram.of(each)) for each in (new, old)]
    return [
        Window(start=start + 5 * place, end=start + 5 * place + 5, new=sides[0], old=sides[1]) for place in range(times)
    ]


def judged(spec: MeasureSpec, found: list[Window], *, old: int | None = 7) -> Finding:
    trial = remember(case(spec, old=old), Trial(), of_errors(*[(0, 0, 950, 1)] * 20, start=-100.0))
    return judge(case(spec, old=old), trial, found, since=0.0)[1]


def test_five_percent_of_errors_are_condemned_in_words_that_say_why() -> None:
    finding = judged(RATE, of_errors(*[(50, 3, 950, 1)] * 8))

    assert finding.outcome is Outcome.FAILURE
    assert finding.sentence == (
        "web: 6.0 % of 150 requests failed on revision 8, 0.11 % of 2,850 on revision 7 in the same 15 s: "
        "worse with more than 99.5 % confidence"
    )
    assert finding.numbers["evidence"] == 1.0


def test_few_requests_neither_condemn_nor_acquit() -> None:
    assert judged(RATE, of_errors((3, 3, 950, 0))).outcome is Outcome.WAITING
    assert judged(RATE, of_errors(*[(9, 0, 950, 0)] * 11)).outcome is Outcome.WAITING
    assert judged(RATE, of_errors(*[(10, 0, 950, 0)] * 10)).outcome is Outcome.SUCCESS
    assert judged(RATE, []).outcome is Outcome.WAITING


def test_one_event_condemns_nobody_however_many_requests_it_hits() -> None:
    finding = judged(RATE, of_errors(*[(50, 0, 950, 1)] * 3, (50, 50, 950, 1), *[(50, 0, 950, 1)] * 20))

    assert finding.outcome is not Outcome.FAILURE


def test_what_hits_both_at_once_condemns_nobody() -> None:
    finding = judged(RATE, of_errors(*[(50, 0, 950, 1)] * 5, *[(50, 10, 950, 190)] * 12, *[(50, 0, 950, 1)] * 5))

    assert finding.outcome is Outcome.SUCCESS


def test_errors_come_in_clumps_in_the_old_one_too_and_then_weigh_less() -> None:
    clumped = of_errors(*[(0, 0, 950, 40 if place % 8 == 0 else 0) for place in range(40)], start=-200.0)
    trial = remember(case(), Trial(), clumped)
    found = of_errors(*[(50, 3 if place % 4 == 0 else 0, 950, 0) for place in range(8)])

    weighed = judge(case(), trial, found, since=0.0)[1].numbers["evidence"]

    assert weighed < 0.5 * judged(RATE, found).numbers["evidence"]  # the same where the old one's come one by one


def test_one_more_in_a_thousand_is_doubtful_but_no_reason_to_abort() -> None:
    finding = judged(RATE, of_errors(*[(50_000, 30, 50_000, 5)] * 12))

    assert finding.outcome is Outcome.INCONCLUSIVE
    assert finding.sentence.endswith("looks worse, but that is not sure enough to abort")


def test_failures_within_the_limit_are_tolerated() -> None:
    spec = MeasureSpec(name="success-rate", kind=MeasureKind.SUCCESS_RATE, failure_limit=1)

    once = judged(spec, of_errors(*[(50, 3, 950, 1)] * 5))
    twice = judged(spec, of_errors(*[(50, 3, 950, 1)] * 12))

    assert once.outcome is Outcome.INCONCLUSIVE
    assert "failure 1 of 1 tolerated" in once.sentence
    assert twice.outcome is Outcome.FAILURE


def test_initial_delay_is_not_judged() -> None:
    spec = MeasureSpec(name="success-rate", kind=MeasureKind.SUCCESS_RATE, initial_delay_s=40)

    assert judged(spec, of_errors(*[(50, 10, 950, 1)] * 8)).outcome is Outcome.WAITING
    assert judged(spec, of_errors(*[(50, 10, 950, 1)] * 16)).outcome is Outcome.FAILURE


def test_threshold_condemns_where_there_is_nothing_to_compare_with() -> None:
    found = of_errors(*[(100, 20, 0, 0)] * 6)
    finding = judged(RATE, found, old=None)

    assert finding.outcome is Outcome.FAILURE
    assert finding.sentence.startswith("web: 20 % of 300 requests failed on revision 8 in 15 s: more than the 5.0 %")
    assert judged(RATE, of_errors(*[(100, 1, 0, 0)] * 6), old=None).outcome is Outcome.SUCCESS


def test_threshold_of_a_share_holds_at_every_look() -> None:
    spec = MeasureSpec(name="ok", kind=MeasureKind.SUCCESS_RATE, at_least=0.99, compare=False)

    assert judged(spec, of_errors(*[(100, 1, 900, 9)] * 12)).outcome is Outcome.SUCCESS
    assert judged(spec, of_errors(*[(100, 2, 900, 9)] * 3)).outcome is Outcome.INCONCLUSIVE
    assert judged(spec, of_errors(*[(100, 5, 900, 45)] * 12)).outcome is Outcome.FAILURE


@pytest.mark.parametrize(
    ("kind", "new", "outcome"),
    [
        (MeasureKind.P95, SLOW, Outcome.FAILURE),
        (MeasureKind.P99, SLOW, Outcome.FAILURE),
        (MeasureKind.P50, SLOW, Outcome.SUCCESS),
        (MeasureKind.P99, FAST, Outcome.SUCCESS),
        (MeasureKind.P99, [each * 1.2 for each in FAST], Outcome.SUCCESS),
        (MeasureKind.P50, [each * 2 for each in FAST], Outcome.FAILURE),
    ],
)
def test_latency_is_judged_at_its_own_quantile(kind: MeasureKind, new: list[float], outcome: Outcome) -> None:
    spec = MeasureSpec(name=kind.value, kind=kind)
    trial = remember(case(spec), Trial(), of_latencies([], FAST * 8, times=20, start=-100.0))

    finding = judge(case(spec), trial, of_latencies(new, FAST * 8, times=12), since=0.0)[1]

    assert finding.outcome is outcome, finding.sentence


def test_a_tail_that_alone_moved_is_found_by_p99() -> None:
    spec = MeasureSpec(name="p99", kind=MeasureKind.P99)
    trial = remember(case(spec), Trial(), of_latencies([], FAST * 8, times=20, start=-100.0))

    finding = judge(case(spec), trial, of_latencies([*FAST[:-2], 320.0, 320.0], FAST * 8, times=12), since=0.0)[1]

    assert finding.outcome is Outcome.FAILURE
    assert "p99 was 348 ms for 400 requests on revision 8, 42.2 ms for 3,200" in finding.sentence


def test_latency_threshold() -> None:
    spec = MeasureSpec(name="p95", kind=MeasureKind.P95, at_most=50, compare=False)

    assert judge(case(spec), Trial(), of_latencies(SLOW, [], times=12), since=0.0)[1].outcome is Outcome.FAILURE
    assert judge(case(spec), Trial(), of_latencies(FAST, [], times=12), since=0.0)[1].outcome is Outcome.SUCCESS


def test_what_is_remembered_is_json_small_and_enough() -> None:
    spec = MeasureSpec(name="p99", kind=MeasureKind.P99)
    found = of_latencies(FAST, FAST * 8, times=400)
    whole = judge(case(spec), Trial(), found, since=0.0)[1]
    trial = Trial()
    for window in found:
        trial = judge(case(spec), trial, [window], since=0.0)[0]
        text = json.dumps(trial.kept())
        trial = Trial.of(json.loads(text))
        assert len(text) < 3000

    finding = judge(case(spec), trial, [], since=0.0)[1]

    assert finding.sentence == whole.sentence
    assert finding.samples_new == whole.samples_new == 100 * 399
    assert finding.numbers["evidence"] == pytest.approx(whole.numbers["evidence"], abs=0.01)


def test_each_interval_is_in_one_window() -> None:
    def intervals(count: int, length_s: float, offset: float = 0.0) -> list[Traffic]:
        return [
            Traffic(start=offset + place * length_s, end=offset + (place + 1) * length_s, requests=1)
            for place in range(count)
        ]

    new, old = intervals(23, 2.0), intervals(23, 2.0)
    found = windows(new, old, start=0.0, length_s=5.0)

    assert [window.new.requests for window in found] == [window.old.requests for window in found] == [3] * 7
    assert found[-1].end == 42.0
    assert windows(new[21:], old[21:], start=42.0, length_s=5.0) == []
    assert windows(intervals(2, 5.0, 60.0), [], start=0.0, length_s=5.0)[0].end == 65.0


def test_the_gravest_finding_counts() -> None:
    def finding(outcome: Outcome) -> Finding:
        return Finding(measure="m", service="web", outcome=outcome, sentence="")

    assert overall(map(finding, Outcome)) is Outcome.FAILURE
    assert overall(map(finding, (Outcome.SUCCESS, Outcome.WAITING))) is Outcome.WAITING
    assert concluded(map(finding, (Outcome.SUCCESS, Outcome.WAITING))) is Outcome.INCONCLUSIVE
    assert overall([]) is Outcome.SUCCESS
