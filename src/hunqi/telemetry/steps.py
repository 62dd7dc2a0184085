"""What is in memory, as rows of the history."""

from __future__ import annotations

from collections.abc import Sequence

from hunqi.telemetry.kept import ServiceSeries
from hunqi.telemetry.live import Live, runs
from hunqi.telemetry.rounds import Interval
from hunqi.telemetry.rows import CustomRow, ServiceRow, Step, TaskRow
from hunqi.telemetry.series import Sums


def horizon(live: Live, *, patience_s: float) -> float:
    """Return up to when steps are whole: when all gateways were heard, else ``patience_s`` before the last sample."""
    ended = live.rounds.ended
    if ended is None:
        return 0.0
    return max(live.rounds.measured_until or 0.0, ended - patience_s)


def steps_of(live: Live, *, start: int, end: float, step_s: int) -> list[Step]:
    """Return the steps from ``start`` on that are over at ``end``."""
    found: list[Step] = []
    for at in range(start, int(end) - step_s + 1, step_s):
        step = Step(at)
        rounds = live.rounds.within(at, at + step_s)
        intervals = live.rounds.intervals(at, at + step_s)
        for (app, service), series in live.kept.services.items():
            key = (at, app, service)
            if intervals:
                step.services += _service_rows(key, series, intervals)
            if rounds:
                step.tasks += _task_rows(key, series, rounds)
                step.custom += _custom_rows(key, series, rounds)
        found.append(step)
    return found


def _service_rows(key: tuple[int, str, str], service: ServiceSeries, intervals: Sequence[Interval]) -> list[ServiceRow]:
    at, app, name = key
    seconds = sum(each.end - each.start for each in intervals)
    last = intervals[-1].last
    held = sum(row[0] for _, row in service.held.rows(last, last))
    rows: list[ServiceRow] = []
    for revision, series in sorted(service.revisions.items(), reverse=True):
        if not any(series.presence.overlaps(each.first, each.last) for each in intervals):
            continue
        sums = Sums()
        for run in runs(intervals):
            series.sum_into(sums, run.first, run.last)
        count = sum(each.last - each.first + 1 for each in intervals)
        active = sum(series.active_sum(each.first, each.last) for each in intervals) / count
        latency = sorted(sums.latency.items())
        rows.append(
            ServiceRow(
                at=at,
                app=app,
                service=name,
                revision=revision,
                seconds=round(seconds, 3),
                requests=sums.requests,
                classes=tuple(sums.classes),
                buckets=tuple(bucket for bucket, _ in latency),
                counts=tuple(count for _, count in latency),
                active=round(active, 3),
                held=held if not rows else 0.0,  # it has no revision: the newest one stands for the service
            )
        )
    return rows


def _task_rows(key: tuple[int, str, str], service: ServiceSeries, rounds: range) -> list[TaskRow]:
    at, app, name = key
    rows: list[TaskRow] = []
    for task, series in service.tasks.items():
        values = [row for _, row in series.values.rows(rounds.start, rounds.stop - 1)]
        if values:
            rows.append(
                TaskRow(
                    at=at,
                    app=app,
                    service=name,
                    revision=series.counts.revision,
                    task=task,
                    node=series.node,
                    cpu=round(sum(value[0] for value in values) / len(values), 4),
                    memory=int(sum(value[1] for value in values) / len(values)),
                    ooms=int(values[-1][2]),
                )
            )
    return rows


def _custom_rows(key: tuple[int, str, str], service: ServiceSeries, rounds: range) -> list[CustomRow]:
    at, app, name = key
    rows: list[CustomRow] = []
    for metric, by_task in service.custom.items():
        for (task, labels), series in by_task.items():
            values = [row[0] for _, row in series.values.rows(rounds.start, rounds.stop - 1)]
            if values:
                rows.append(
                    CustomRow(
                        at=at,
                        app=app,
                        service=name,
                        revision=series.revision,
                        task=task,
                        node=series.node,
                        metric=metric,
                        labels=labels,
                        value=sum(values) / len(values),
                    )
                )
    return rows
