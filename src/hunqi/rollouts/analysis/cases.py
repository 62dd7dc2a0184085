"""Which measures look at which services of a rollout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hunqi.apps.model import Mode
from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec
from hunqi.apps.shifting import Shifting
from hunqi.rollouts.analysis.requests import QUANTILES, Case, tests_of
from hunqi.telemetry.errors import NotMeasuredError
from hunqi.telemetry.model import Subject, Telemetry

OF_REQUESTS: Final = frozenset({MeasureKind.SUCCESS_RATE, *QUANTILES})
"""Measures that are tests of the requests that gateways counted."""
_RECENT_S: Final = 600.0


def cases_of(
    telemetry: Telemetry, shifting: Shifting, specs: Sequence[MeasureSpec], *, since: float, now: float
) -> list[Case]:
    """Return a case for each measure and service of ``shifting`` that it looks at.

    A measure that names no services looks at those that changed and have what it measures; if none has, at all of them:
    a measure that sees nothing must not fall silent.
    """
    changed = [
        name
        for name in shifting.changed
        if (service := shifting.target.spec.services.get(name)) is not None
        and service.mode in {Mode.REPLICATED, Mode.GLOBAL}
    ]
    tests = max(1, sum(tests_of(each) for each in specs if each.kind in OF_REQUESTS) * len(changed))

    def visited(case: Case) -> bool:
        return _visited(telemetry, shifting.app, case, start=since - _RECENT_S, end=now)

    def counts(case: Case) -> bool:
        return _counts(telemetry, shifting.app, case, start=since, end=now)

    found: list[Case] = []
    for spec in specs:
        cases = [_case(shifting, spec, name, tests) for name in changed if not spec.services or name in spec.services]
        routed = [case for case in cases if case.routed]
        match spec.kind:
            case _ if spec.services:
                found += cases
            case MeasureKind.PROMQL:
                found.append(_case(shifting, spec, "", tests))
            case MeasureKind.METRIC:
                found += _where(cases, counts)
            case MeasureKind.HTTP:
                found += routed
            case kind if kind in OF_REQUESTS:
                found += _where(routed, visited)
            case _:
                found += cases
    return found


def _case(shifting: Shifting, spec: MeasureSpec, service: str, tests: int) -> Case:
    target, stable = shifting.target, shifting.stable
    known = target.spec.services.get(service)
    return Case(
        spec=spec,
        service=service,
        new=target.origin.get(service, target.number),
        old=stable.origin.get(service) if service else stable.number,
        tests=tests,
        routed=known is not None and known.routed,
    )


def _where(cases: list[Case], holds: Callable[[Case], bool]) -> list[Case]:
    return [case for case in cases if holds(case)] or cases


def _visited(telemetry: Telemetry, app: str, case: Case, *, start: float, end: float) -> bool:
    """Return whether either revision had a request lately; not knowing is no."""
    for revision, begin in ((case.new, start + _RECENT_S), (case.old, start + _RECENT_S), (case.old, start)):
        if revision is not None:
            subject = Subject(app=app, service=case.service, revision=revision)
            try:
                if telemetry.traffic(subject, start=begin, end=end).requests:
                    return True
            except NotMeasuredError:
                continue
    return False


def _counts(telemetry: Telemetry, app: str, case: Case, *, start: float, end: float) -> bool:
    """Return whether the new revision counts the metric."""
    subject = Subject(app=app, service=case.service, revision=case.new)
    try:
        return bool(telemetry.custom(subject, case.spec.query, start=start, end=end))
    except NotMeasuredError:
        return False
