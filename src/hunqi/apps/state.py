"""What is persisted of an app besides its revisions: what is wanted of it, and where its deploys are.

Everything that the reconciler does follows from these and from what it observes, so that it can be killed between any
two steps. ``Intent`` changes by what users say, ``Progress`` by what a deploy has reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from hunqi.apps.model import DeployState, Note
from hunqi.apps.operations import Problem, Replacing, ServiceProgress
from hunqi.apps.shifting import Shift

MAX_REPLICAS: Final = 1000
"""Of one service."""


class Desired(StrEnum):
    """What a user wants an app to be."""

    RUNNING = "running"
    STOPPED = "stopped"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What users and the planner have decided of an app beside its revisions."""

    scale: Mapping[str, int] = field(default_factory=dict[str, int])
    """Service → replicas that a user has set; a file that says another number than the one before ends it."""
    auto: Mapping[str, int] = field(default_factory=dict[str, int])
    """Service → replicas that elastic scaling asks for; stands before ``scale``, and goes when it is switched off."""
    pins: Mapping[str, str] = field(default_factory=dict[str, str])
    """Local volume (a key of the spec's) → the id of the node that holds it; chosen once."""
    maintenance: str | None = None
    remove_volumes: bool = False
    actor: str = ""
    """Who asked for the last change of these."""

    @property
    def replicas(self) -> Mapping[str, int]:
        """Service → replicas that it is to have, where that is not the number of its file."""
        return {**self.scale, **self.auto}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a deploy is."""

    started: Mapping[str, float] = field(default_factory=dict[str, float])
    """Service → when its new Swarm service was first seen, in seconds since the epoch."""
    changed_at: float = 0.0
    """When the deploy came into its state."""
    sentence: str = ""
    services: tuple[ServiceProgress, ...] = ()
    replacing: Replacing | None = None
    notes: tuple[Note, ...] = ()
    shift: Shift | None = None
    """What a rollout has decided of it; None switches as soon as all is ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRecord:
    """An app as it lies in the database."""

    name: str
    team: str
    desired: Desired
    live: int | None
    """The revision that serves."""
    intent: Intent
    generation: int
    """Grows with each change that a user makes."""
    created_at: datetime
    updated_at: datetime

    def asleep(self, service: str) -> bool:
        """Whether elastic scaling has put ``service`` to sleep: it runs nothing until somebody asks for it."""
        return self.desired is Desired.RUNNING and self.intent.auto.get(service) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployRecord:
    """A deploy as it lies in the database."""

    id: str
    app: str
    revision: int
    from_revision: int | None
    state: DeployState
    progress: Progress
    problem: Problem | None
    actor: str
    reason: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
