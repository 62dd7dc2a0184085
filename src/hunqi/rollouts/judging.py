"""What the findings of the last look mean for a rollout: abort, stand, go on, or wait. Pure.

A failure aborts whenever it is seen. Everything else only keeps a rollout from going on: errors of the analysis never
count as a success, few requests never as anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hunqi.apps.asked import Problem
from hunqi.apps.rollout_spec import MeasureSpec, Step
from hunqi.rollouts.aims import has_traffic
from hunqi.rollouts.analysis.model import Finding, Outcome
from hunqi.rollouts.model import Rollout, Why
from hunqi.rollouts.moving import aborted, at_step, gone_on, stood
from hunqi.rollouts.presets import ANALYSIS_S, TRAFFIC_KINDS
from hunqi.rollouts.states import Happening, State

ERRORS_S: Final = 600.0
"""How long a rollout stands because its measures cannot be had; then it is aborted: nobody watches over its users."""
PATIENCE_S: Final = 120.0
"""How long at least a step waits beyond its time for requests, or for a verdict."""
LOOK_FAILURES: Final = 4
"""Looks in a row that may come to nothing before that is an error of the analysis."""


def judged(rollout: Rollout, now: float) -> Rollout:
    """Return the rollout after the findings of its last look: aborted, standing, going on, or the same."""
    course = rollout.course
    if course.full or course.direct:
        return rollout
    failed = [each for each in course.findings if each.outcome is Outcome.FAILURE]
    if failed:
        return aborted(rollout, Happening.CONDEMNED, _problem(rollout, failed), now)
    errors = _errors(rollout)
    if rollout.state is State.STEPPING and errors:
        said = f"its measures cannot be had: {errors}. It goes on by itself once they can"
        return stood(rollout, Happening.DOUBTED, Why.ERRORS, said, now)
    pause = course.pause
    if rollout.state is not State.PAUSED or pause is None:
        return rollout
    if pause.why is Why.ERRORS and not errors:
        return gone_on(rollout, Happening.CLEARED, now, sentence="its measures can be had again")
    if pause.why is Why.ERRORS and now - pause.since > ERRORS_S:
        problem = Problem(
            code="rollout.not-measured",
            message=f"its measures could not be had for {ERRORS_S / 60:.0f} minutes: {errors}",
            remedy=f"mend their source, then: hunqi rollout retry {rollout.app}",
        )
        return aborted(rollout, Happening.CONDEMNED, problem, now)
    if pause.why is Why.TRAFFIC and rollout.step is not None and not _lacking(rollout, rollout.step):
        return gone_on(rollout, Happening.CLEARED, now, sentence="enough requests have come")
    return rollout


def stepped_by_measures(rollout: Rollout, step: Step, now: float) -> Rollout:
    """Return the rollout in or after a step of analysis."""
    course = rollout.course
    for_s = step.for_s or ANALYSIS_S
    end = course.since + for_s
    names = ", ".join(each.name for each in _required(rollout, step))
    if not names:
        return at_step(rollout, course.step + 1, Happening.STEPPED, now, sentence="there is nothing to be judged yet")
    if now < end or course.looked_at <= course.since:
        return _said(rollout, f"{names} are looked at for {for_s:g} s")
    lacking = _lacking(rollout, step)
    doubtful = _doubtful(rollout, step)
    if not lacking and not doubtful:
        return at_step(rollout, course.step + 1, Happening.STEPPED, now, sentence=f"{names} are well")
    if now < end + max(PATIENCE_S, 2 * for_s):
        return _said(rollout, f"waiting for a verdict: {'; '.join(doubtful or lacking)}")
    if doubtful:
        said = f"nothing can be said for certain: {'; '.join(doubtful)}"
        return stood(rollout, Happening.DOUBTED, Why.INCONCLUSIVE, f"{said}. {_ways(rollout)}", now)
    said = f"too few requests came to judge by: {'; '.join(lacking)}"
    more = "It goes on by itself once enough have come; a mirror step shows it those of the old revision"
    return stood(rollout, Happening.DOUBTED, Why.TRAFFIC, f"{said}. {more}. {_ways(rollout)}", now)


def _said(rollout: Rollout, sentence: str) -> Rollout:
    return replace(rollout, course=replace(rollout.course, sentence=sentence))


def _ways(rollout: Rollout) -> str:
    return f"hunqi rollout promote {rollout.app} goes on all the same, hunqi rollout abort {rollout.app} ends it"


def _required(rollout: Rollout, step: Step) -> Sequence[MeasureSpec]:
    """Return the measures that a step of analysis waits for: without traffic only those that need none."""
    traffic = has_traffic(rollout.course.shift)
    return [
        each
        for each in rollout.spec.measures
        if (not step.measures or each.name in step.measures) and (traffic or each.kind not in TRAFFIC_KINDS)
    ]


def _lacking(rollout: Rollout, step: Step) -> list[str]:
    """Return what the step has seen too little of."""
    course = rollout.course
    found: list[str] = []
    for spec in _required(rollout, step):
        findings = [each for each in course.findings if each.measure == spec.name]
        if not findings:
            found.append(f"{spec.name} has not been looked at")
        for each in findings:
            since = each.samples_new - course.samples.get(f"{each.measure}/{each.service}", 0)
            if each.outcome is Outcome.WAITING:
                found.append(each.sentence)
            elif spec.kind in TRAFFIC_KINDS and since < spec.min_samples:
                found.append(f"{each.service} had {max(since, 0)} of {spec.min_samples} requests in this step")
    return list(dict.fromkeys(found))


def _doubtful(rollout: Rollout, step: Step) -> list[str]:
    names = {each.name for each in _required(rollout, step)}
    return [
        each.sentence
        for each in rollout.course.findings
        if each.measure in names and each.outcome is Outcome.INCONCLUSIVE
    ]


def _errors(rollout: Rollout) -> str:
    if rollout.course.look_failures > LOOK_FAILURES:
        return rollout.course.look_problem
    return "; ".join(each.sentence for each in rollout.course.findings if each.outcome is Outcome.ERROR)


def _problem(rollout: Rollout, failed: Sequence[Finding]) -> Problem:
    first = failed[0]
    sample = f" ({first.samples_new} requests of the new revision, {first.samples_old} of the old one)"
    told = "; ".join(each.sentence for each in failed)
    at = f"at {rollout.course.shift.weight / 100:g} % of users"
    return Problem(
        code="rollout.measure-failed",
        message=f"{first.measure} of {first.service or 'the app'} fails {at}: {told}"
        + (sample if first.samples_new else ""),
        remedy=f"hunqi rollout show {rollout.app} --plot; mend it and deploy, or: hunqi rollout retry {rollout.app}",
        service=first.service,
    )
