"""Rows of the history, put back into memory."""

from __future__ import annotations

from hunqi.telemetry.kept import Kept
from hunqi.telemetry.rounds import Rounds
from hunqi.telemetry.rows import Step
from hunqi.telemetry.series import CustomSeries, Sums
from hunqi.telemetry.wire import TaskCounts


def restore(step: Step, rounds: Rounds, kept: Kept) -> None:
    """Put a step back, later than all that is there, as one interval."""
    seconds = max((row.seconds for row in step.services), default=0.0) or 10.0
    end = step.at + seconds
    if rounds.ended is not None and end <= rounds.ended:
        return
    start = max(float(step.at), rounds.ended or 0.0)
    number = rounds.add_measured(start, end)
    for row in step.services:
        series = kept.requests(row.app, row.service, row.revision)
        if series is not None:
            series.presence.note(number)
            latency = dict(zip(row.buckets, row.counts, strict=True))
            series.append(number, Sums(row.requests, list(row.classes), latency, row.active))
        if row.held:
            kept.note_held((row.app, row.service), number, round(row.held))
    for row in step.tasks:
        counts = TaskCounts(
            task=row.task,
            app=row.app,
            service=row.service,
            revision=row.revision,
            cpu_s=0.0,
            memory_bytes=row.memory,
            ooms=row.ooms,
        )
        if (task := kept.task(counts, row.node)) is not None:
            task.values.append(number, (row.cpu, row.memory, row.ooms))
    for row in step.custom:
        where = (row.app, row.service, row.metric, row.task, row.labels)
        made = CustomSeries(row.revision, grows=False, node=row.node)
        if (custom := kept.custom(where, made)) is not None:
            custom.values.append(number, (row.value,))
