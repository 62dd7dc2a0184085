"""Asking the sources of measures: the only part of the analysis that waits for anything."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from typing import Any, Final

from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec
from hunqi.rollouts.analysis import usage
from hunqi.rollouts.analysis.ports import Answer, Checks, Endings, Queries
from hunqi.rollouts.analysis.readings import Reading, assessed
from hunqi.rollouts.analysis.requests import Case
from hunqi.rollouts.analysis.windows import Window, windows
from hunqi.telemetry.errors import NotMeasuredError
from hunqi.telemetry.model import Subject, TaskUsage, Telemetry, Traffic

PAST_S: Final = (600.0, 120.0)
"""How much of the time before the rollout is asked for; the next where that was not measured."""
_CUSTOM_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything that measures are asked of."""

    telemetry: Telemetry
    queries: Queries
    checks: Checks
    endings: Endings


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When is looked, and since when the new revision is judged."""

    app: str
    since: float
    now: float
    interval_s: float


def past_windows(telemetry: Telemetry, case: Case, moment: Moment) -> list[Window]:
    """Return what the old revision did before the rollout, as far as it was measured; empty if it was not."""
    if case.old is None:
        return []
    subject = Subject(app=moment.app, service=case.service, revision=case.old)
    for length_s in PAST_S:
        start = moment.since - length_s
        try:
            old = telemetry.traffic_by_interval(subject, start=start, end=moment.since)
        except NotMeasuredError:
            continue
        return windows([], old, start=start, length_s=moment.interval_s)
    return []


def new_windows(telemetry: Telemetry, case: Case, moment: Moment, *, start: float) -> list[Window]:
    """Return what both revisions did since ``start``, as far as all gateways have been heard.

    A revision of which nothing was measured had no requests as long as the other one was measured. Raises
    ``NotMeasuredError`` if neither was.
    """
    end = min(moment.now, telemetry.measured_until(moment.app))
    if end <= start:
        return []
    found: list[list[Traffic]] = []
    missing: NotMeasuredError | None = None
    for revision in (case.new, case.old):
        try:
            found.append([] if revision is None else _traffic(telemetry, case, moment, revision, (start, end)))
        except NotMeasuredError as error:
            found.append([])
            missing = error
    if missing is not None and not any(found):
        raise missing
    return windows(found[0], found[1], start=start, length_s=moment.interval_s)


def _traffic(
    telemetry: Telemetry, case: Case, moment: Moment, revision: int, time: tuple[float, float]
) -> list[Traffic]:
    subject = Subject(app=moment.app, service=case.service, revision=revision)
    measured = telemetry.traffic_by_interval(subject, start=time[0], end=time[1])
    return [each for each in measured if each.end <= time[1] + 1e-6]


async def read(sources: Sources, case: Case, moment: Moment, tasks: tuple[int, int]) -> Reading:
    """Return a reading of a measure that is not of requests; ``tasks`` is how many each revision is to have.

    Raises what the sources raise.
    """
    spec = case.spec
    match spec.kind:
        case MeasureKind.PROMQL:
            return await _promql(sources.queries, case, moment)
        case MeasureKind.HTTP:
            return checked(spec, case.service, await _asked(sources.checks, case, moment))
        case MeasureKind.METRIC:
            return _custom(sources.telemetry, case, moment)
        case MeasureKind.RESTARTS:
            return await _restarts(sources.endings, case, moment, tasks)
        case MeasureKind.MEMORY:
            return usage.memory(spec, case.service, _tasks(sources.telemetry, case, moment))
        case _:
            return usage.cpu(spec, case.service, _tasks(sources.telemetry, case, moment))


async def _promql(queries: Queries, case: Case, moment: Moment) -> Reading:
    spec = case.spec

    async def ask(revision: int) -> float | None:
        query = string.Template(spec.query).safe_substitute(
            app=moment.app, service=case.service, revision=str(revision)
        )
        return await queries.value(spec.source, query, at=moment.now)

    new = await ask(case.new)
    compared = spec.compare and case.old is not None and "revision" in string.Template(spec.query).get_identifiers()
    old = await ask(case.old) if compared and case.old is not None else None
    return _valued(spec, spec.name if not case.service else f"{case.service}: {spec.name}", new, old)


def _valued(spec: MeasureSpec, name: str, new: float | None, old: float | None) -> Reading:
    facts = name if new is None else f"{name} is {new:.4g} on the new revision"
    if new is not None and old is not None:
        facts = f"{facts}, {old:.4g} on the old one"
    return assessed(spec, facts, new, old)


async def _asked(checks: Checks, case: Case, moment: Moment) -> Answer:
    path, _, _ = case.spec.query.partition("#")
    return await checks.get(moment.app, case.service, case.new, path or "/")


def checked(spec: MeasureSpec, service: str, answer: Answer) -> Reading:
    """Return what the answer to a check says: 2xx passes; after ``#`` the query may name a value of a JSON answer.

    The value is found by names and positions with dots between: ``/health#queues.0.depth``. A number is held to the
    thresholds; anything else, or a number without thresholds, passes if it is true.
    """
    path, _, place = spec.query.partition("#")
    facts = f"{service}: GET {path or '/'} answered {answer.status}"
    if not 200 <= answer.status < 300:
        return Reading(facts=facts, failed="that is no 2xx", new=0.0, samples_new=1)
    if not place:
        return Reading(facts=facts, new=1.0, samples_new=1)
    try:
        value = _within(json.loads(answer.body), place)
    except (ValueError, LookupError, TypeError):
        return Reading(facts=facts, error=f"there is no {place} in it")
    facts = f"{facts} with {place} = {json.dumps(value)[:80]}"
    thresholds = spec.at_least is not None or spec.at_most is not None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and thresholds:
        return assessed(spec, facts, float(value), None)
    return Reading(facts=facts, failed="" if value else "that is not true", new=float(bool(value)), samples_new=1)


def _within(value: Any, place: str) -> Any:
    for name in place.split("."):
        value = value[int(name) if _is_list(value) else name]
    return value


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _custom(telemetry: Telemetry, case: Case, moment: Moment) -> Reading:
    spec = case.spec
    start = max(moment.since, moment.now - max(_CUSTOM_S, 2 * moment.interval_s))

    def mean(revision: int) -> float | None:
        subject = Subject(app=moment.app, service=case.service, revision=revision)
        tasks = telemetry.custom(subject, spec.query, start=start, end=moment.now)
        values = [sum(point.value for point in points) / len(points) for points in tasks.values() if points]
        return sum(values) / len(values) if values else None

    old: float | None = None
    if spec.compare and case.old is not None:
        try:
            old = mean(case.old)
        except NotMeasuredError:
            old = None
    return _valued(spec, f"{case.service}: {spec.query}", mean(case.new), old)


async def _restarts(endings: Endings, case: Case, moment: Moment, tasks: tuple[int, int]) -> Reading:
    new = await endings.ended(moment.app, case.service, case.new, since=moment.since)
    old: tuple[int, int] | None = None
    if case.old is not None:
        old = (await endings.ended(moment.app, case.service, case.old, since=moment.since), tasks[1])
    return usage.restarts(case.spec, case.service, new=(new, tasks[0]), old=old)


def _tasks(telemetry: Telemetry, case: Case, moment: Moment) -> usage.Tasks:
    start = max(moment.since, moment.now - usage.WINDOW_S)

    def of(revision: int | None) -> list[TaskUsage]:
        if revision is None:
            return []
        subject = Subject(app=moment.app, service=case.service, revision=revision)
        return [task for task in telemetry.usage(subject, start=start, end=moment.now) if task.revision == revision]

    def requests(revision: int | None) -> int:
        if revision is None or not case.routed:
            return 0
        subject = Subject(app=moment.app, service=case.service, revision=revision)
        try:
            return telemetry.traffic(subject, start=start, end=moment.now).requests
        except NotMeasuredError:
            return 0

    return usage.Tasks(
        new=of(case.new), old=of(case.old), requests_new=requests(case.new), requests_old=requests(case.old)
    )
