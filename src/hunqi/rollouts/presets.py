"""What a rollout does where the file says no more than its strategy."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hunqi.apps.lanes import ALL_USERS
from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec, RolloutSpec, Step, StepKind, Strategy

ANALYSIS_S: Final = 30.0
"""How long an analysis lasts that does not say so."""
_WEIGHTS: Final = ((500, 20.0), (1000, 60.0), (2500, 15.0), (5000, 15.0))
"""A weight, and how long it is looked at: a bad one is out before over 10 % of users are concerned (ADR 0015)."""

MEASURES: Final = (
    MeasureSpec(name="success-rate", kind=MeasureKind.SUCCESS_RATE),
    MeasureSpec(name="p50", kind=MeasureKind.P50),
    MeasureSpec(name="p95", kind=MeasureKind.P95),
    MeasureSpec(name="p99", kind=MeasureKind.P99),
    MeasureSpec(name="restarts", kind=MeasureKind.RESTARTS, at_most=0.0, compare=False),
    MeasureSpec(name="memory", kind=MeasureKind.MEMORY),
)
"""Comparisons, so that a broken old revision can be replaced by one that is no worse."""

AT_ONCE: Final = (
    MeasureSpec(name="success-rate", kind=MeasureKind.SUCCESS_RATE, at_least=0.99, compare=False),
    MeasureSpec(name="restarts", kind=MeasureKind.RESTARTS, at_most=0.0, compare=False),
)
"""Thresholds: once all users have moved there is no old revision to compare with."""

TRAFFIC_KINDS: Final = frozenset({MeasureKind.SUCCESS_RATE, MeasureKind.P50, MeasureKind.P95, MeasureKind.P99})
"""Measures that need requests."""


def resolved(spec: RolloutSpec) -> RolloutSpec:
    """Return the spec with all its steps and measures."""
    measures = spec.measures or (AT_ONCE if spec.strategy is Strategy.BLUE_GREEN else MEASURES)
    match spec.strategy:
        case Strategy.GRAY:
            steps = spec.steps or weights_of(_WEIGHTS)
        case Strategy.BLUE_GREEN:
            unseen = Step(kind=StepKind.ANALYSIS, for_s=15.0)
            steps = (
                Step(kind=StepKind.SCALE, percent=100),
                *(spec.steps or (unseen,)),
                Step(kind=StepKind.WEIGHT, weight=ALL_USERS),
                Step(kind=StepKind.ANALYSIS, for_s=60.0),
            )
        case Strategy.DIRECT:
            steps = ()
    return replace(spec, steps=steps, measures=measures)


def weights_of(weights: tuple[tuple[int, float], ...]) -> tuple[Step, ...]:
    """Return a weight and an analysis for each of ``weights``, in hundredths of a percent and seconds."""
    return tuple(
        step
        for weight, for_s in weights
        for step in (Step(kind=StepKind.WEIGHT, weight=weight), Step(kind=StepKind.ANALYSIS, for_s=for_s))
    )
