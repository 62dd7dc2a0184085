"""The measures of requests, success rate and latency: what is bad about a request, and what a trial of it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec
from hunqi.rollouts.analysis import sentences
from hunqi.rollouts.analysis.model import Finding, Outcome
from hunqi.rollouts.analysis.past import Past
from hunqi.rollouts.analysis.trial import AT_LEAST_WINDOWS, SUSPICION, Bad, Stakes, Tally, Trial
from hunqi.rollouts.analysis.windows import Side, Window
from hunqi.telemetry.histogram import LAST, PER_DECADE, bucket_of, upper_ms

QUANTILES: Final = {MeasureKind.P50: 0.5, MeasureKind.P95: 0.95, MeasureKind.P99: 0.99}
MARGIN_SHARE: Final = 0.001
"""One more failure in a thousand requests is no reason to abort, however sure it is."""
MARGIN_MS: Final = 2.0
"""Nor are two milliseconds."""
UNCOMPARED_AT_LEAST: Final = 0.95
"""What is asked of the success rate of a service that the old revision does not have, where the file asks nothing."""
_FURTHER: Final = {MeasureKind.P50: (0,), MeasureKind.P95: (0, 4), MeasureKind.P99: (0, 4, 8)}
"""Thresholds, in buckets above the quantile: 1, 1.5 and 2.2 times as long, so that a tail that alone moved is seen."""
_PAST_OF_TAIL: Final = 2.0
"""Requests beyond the quantile that the past must have before it gives thresholds."""
_WARM_UP_S: Final = 5.0
"""Connections are made and caches filled: the first seconds say nothing of latencies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A measure of one service: whose, and with how much of the rollout's chance of a false abort."""

    spec: MeasureSpec
    service: str
    new: int
    """The revision of its Swarm service."""
    old: int | None
    """That of the stable one; None if the stable revision has no such service."""
    tests: int
    """How many tests the whole rollout makes."""
    routed: bool = True
    """Whether the gateways send it traffic."""

    @property
    def quantile(self) -> float | None:
        """Which latency; None for the success rate."""
        return QUANTILES.get(self.spec.kind)

    @property
    def stakes(self) -> Stakes:
        """What it takes to condemn."""
        threshold = _threshold(self)
        return Stakes(
            needed=math.log(self.tests / (1 - self.spec.confidence)),
            null=1.0 if self.quantile is not None else 1.0 + self.spec.tolerance,
            threshold=threshold,
            failure_limit=self.spec.failure_limit,
        )


def _threshold(case: Case) -> float | None:
    """Return the share of requests that may break what the file asks of the new revision alone."""
    if case.quantile is not None:
        return None if case.spec.at_most is None else 1 - case.quantile
    at_least = case.spec.at_least
    if at_least is None and case.spec.at_most is None and case.old is None:
        at_least = UNCOMPARED_AT_LEAST
    if at_least is None:
        return None
    return min(max(1 - at_least, 1e-6), 1 - 1e-6)


def tests_of(spec: MeasureSpec) -> int:
    """Return how many tests a measure makes on a service: by comparison, by threshold."""
    return max(1, int(spec.compare) + int(spec.at_least is not None or spec.at_most is not None))


def bad_of(case: Case, window: Window, past: Past) -> Bad:
    """Return what is bad in ``window`` by what ``past`` knew."""
    quantile = case.quantile
    if quantile is None:
        return Bad(
            new=(window.new.errors,),
            old=(window.old.errors,),
            new_total=window.new.requests,
            old_total=window.old.requests,
            comparable=case.spec.compare and case.old is not None,
            over=window.new.errors,
        )
    at = past.quantile_bucket(quantile)
    total = sum(past.latency.values())
    known = case.spec.compare and case.old is not None and at is not None
    known = known and total * (1 - quantile) >= _PAST_OF_TAIL
    thresholds = [(at or 0) + further for further in _FURTHER[case.spec.kind]] if known else []
    return Bad(
        new=tuple(window.new.latency.above(_tolerated(bucket, case.spec.tolerance)) for bucket in thresholds),
        old=tuple(window.old.latency.above(bucket) for bucket in thresholds),
        new_total=window.new.latency.total,
        old_total=window.old.latency.total,
        comparable=known,
        over=window.new.latency.above(bucket_of(case.spec.at_most)) if case.spec.at_most is not None else 0,
    )


def _tolerated(bucket: int, tolerance: float) -> int:
    """Return the bucket that is to the new revision what ``bucket`` is to the old."""
    further = math.ceil(math.log10(1 + tolerance) * PER_DECADE - 1e-9)
    return min(LAST - 1, max(bucket + further, bucket_of(upper_ms(min(bucket, LAST - 1)) + MARGIN_MS)))


def remember(case: Case, trial: Trial, windows: Sequence[Window]) -> Trial:
    """Return ``trial`` with the old revision's ``windows`` in its past, in which nothing is judged."""
    for window in windows:
        trial = trial.learned(window, bad_of(case, window, trial.past))
    return trial


def judge(case: Case, trial: Trial, windows: Sequence[Window], *, since: float) -> tuple[Trial, Finding]:
    """Return ``trial`` after ``windows``, and what it says; windows before ``since`` and its delay only teach."""
    stakes = case.stakes
    delay_s = max(case.spec.initial_delay_s, _WARM_UP_S if case.quantile is not None else 0.0)
    for window in windows:
        if window.start < since + delay_s - 1e-6:
            trial = remember(case, trial, [window])
            continue
        trial = trial.after(window, bad_of(case, window, trial.past), stakes)
        if _worse(case, trial) or trial.over.log >= stakes.needed:
            reason = _condemned(case, trial, compared=_worse(case, trial))
            trial = trial.failed(reason)
    return trial, _finding(case, trial)


def _worse(case: Case, trial: Trial) -> bool:
    """Return whether it is shown to be worse, and by enough to matter."""
    if trial.compared < case.stakes.needed:
        return False
    told, tolerance = trial.told, 1 + case.spec.tolerance
    new, old = _value(case, told.new), _value(case, told.old)
    if new is None or old is None:
        return False
    return new > old * tolerance + (MARGIN_SHARE if case.quantile is None else 0.0)


def _value(case: Case, side: Side) -> float | None:
    """Return the failed share, or the latency in milliseconds; None without requests."""
    if case.quantile is not None:
        return side.latency.quantile_ms(case.quantile)
    return side.errors / side.requests if side.requests else None


def _facts(case: Case, told: Tally) -> str:
    revisions = (case.new, case.old if case.spec.compare else None)
    if case.quantile is None:
        return sentences.failing(case.service, told, revisions)
    return sentences.lasting(case.service, told, revisions, quantile=case.quantile)


def _condemned(case: Case, trial: Trial, *, compared: bool) -> str:
    sure = f"with more than {case.spec.confidence * 100:g} % confidence"
    facts = _facts(case, trial.told)
    if compared:
        return f"{facts}: worse {sure}"
    return f"{facts}: more than {_asked(case)} {sure}"


def _asked(case: Case) -> str:
    if case.quantile is not None:
        return f"the {sentences.milliseconds(case.spec.at_most or 0.0)} that are allowed"
    return f"the {sentences.percent(case.stakes.threshold or 0.0)} that may fail"


def _finding(case: Case, trial: Trial) -> Finding:
    outcome, sentence = _verdict(case, trial)
    told, stakes = trial.told, case.stakes
    values = {"new": _value(case, told.new), "old": _value(case, told.old)}
    evidence = max(trial.compared, trial.over.log if stakes.threshold is not None else -math.inf, 0.0)
    numbers = {
        **{name: value for name, value in values.items() if value is not None},
        "evidence": 1.0 if outcome is Outcome.FAILURE else min(1.0, evidence / stakes.needed),
        "failures": float(trial.failures),
        "clumping": trial.clumps,
    }
    return Finding(
        measure=case.spec.name,
        service=case.service,
        outcome=outcome,
        sentence=sentence,
        numbers=numbers,
        samples_new=trial.samples_new,
        samples_old=trial.samples_old,
    )


def _verdict(case: Case, trial: Trial) -> tuple[Outcome, str]:
    spec, told = case.spec, trial.told
    if trial.failures > spec.failure_limit:
        return Outcome.FAILURE, trial.reason
    if not told.windows:
        return Outcome.WAITING, f"{case.service}: nothing was measured on revision {case.new} since the start"
    facts = _facts(case, told)
    if trial.samples_new < spec.min_samples or trial.windows < AT_LEAST_WINDOWS:
        requests = f"{sentences.count(trial.samples_new)} of {sentences.count(spec.min_samples)} requests"
        return Outcome.WAITING, (
            f"{facts}: too little to judge by, {requests} and {trial.windows} of {AT_LEAST_WINDOWS} intervals"
        )
    comparing = spec.compare and case.old is not None
    if comparing and (not trial.against or trial.samples_old < spec.min_samples):
        return Outcome.WAITING, f"{facts}: too little of revision {case.old} to compare it with"
    if trial.failures:
        return Outcome.INCONCLUSIVE, f"{trial.reason} (failure {trial.failures} of {spec.failure_limit} tolerated)"
    if comparing and trial.compared >= SUSPICION:
        return Outcome.INCONCLUSIVE, f"{facts}: looks worse, but that is not sure enough to abort"
    value = _value(case, told.new)
    if case.stakes.threshold is not None and value is not None and value > _limit(case):
        return Outcome.INCONCLUSIVE, f"{facts}: more than {_asked(case)}, but that is not sure enough to abort"
    return Outcome.SUCCESS, f"{facts}: {_acquitted(case, told)}"


def _limit(case: Case) -> float:
    if case.quantile is not None:
        return upper_ms(bucket_of(case.spec.at_most or 0.0))
    return case.stakes.threshold or 0.0


def _acquitted(case: Case, told: Tally) -> str:
    if case.quantile is not None:
        return "nothing speaks against it"
    return (
        "nothing speaks against it, and with 95 % confidence at most "
        f"{sentences.percent(upper_share(told.new.errors, told.new.requests))} fail"
    )


def upper_share(bad: int, total: int) -> float:
    """Return the upper end of Wilson's one-sided 95 % interval of a share; for telling, not for deciding."""
    if not total:
        return 1.0
    z, share = 1.645, bad / total
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return min(1.0, (share + z * z / (2 * total) + spread) / (1 + z * z / total))
