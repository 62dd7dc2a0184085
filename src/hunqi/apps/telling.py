"""What of the reconciler's steps is told: the events of those done at the engine."""

from __future__ import annotations

from hunqi.apps.state import AppRecord
from hunqi.apps.steps import (
    CreateNetwork,
    CreatePayload,
    PutService,
    RemoveNetwork,
    RemovePayload,
    RemoveService,
    ScaleService,
    Step,
)
from hunqi.apps.store import Kept


def event_of(step: Step, kept: Kept) -> tuple[str, AppRecord, str, str]:
    """Return kind, app, sentence and subject of the event of a step at the engine."""
    match step:
        case PutService():
            kind = "service.repaired" if step.repair else "service.started"
        case ScaleService():
            kind = "service.scaled"
        case RemoveService():
            kind = "service.removed"
        case CreateNetwork():
            kind = "network.created"
        case RemoveNetwork():
            kind = "network.removed"
        case CreatePayload():
            kind = f"{step.kind}.created"
        case RemovePayload():
            kind = f"{step.kind}.removed"
        case _:
            kind = "app.changed"
    subject = kept.deploy.id if kept.deploy is not None else getattr(step, "name", "")
    return kind, kept.app, step.sentence, subject
