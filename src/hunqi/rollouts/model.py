"""A rollout as it is kept: what is meant, how far it is, and what was seen. Nothing here acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from hunqi.apps.asked import Deploy, Problem, Run
from hunqi.apps.rollout_spec import RolloutSpec, Step
from hunqi.apps.shifting import Shift, Shifting
from hunqi.rollouts.analysis.model import Finding
from hunqi.rollouts.states import State


class Phase(StrEnum):
    """How far a step is."""

    SCALING = "scaling"
    """The new revision gets the tasks that the step's traffic needs."""
    SHIFTING = "shifting"
    """Every gateway takes the step's traffic in."""
    WAITING = "waiting"
    """The step's clock runs."""


class Why(StrEnum):
    """Why a rollout stands."""

    STEP = "step"
    USER = "user"
    INCONCLUSIVE = "inconclusive"
    TRAFFIC = "traffic"
    """Too few requests came."""
    ERRORS = "errors"
    """Measures cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Since when and why a rollout stands."""

    why: Why
    since: float
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How far a rollout is. Times in seconds since the epoch."""

    step: int = 0
    """The number of the step, from 0; that of the steps together is the last one, which every rollout has: 100 %."""
    phase: Phase = Phase.SCALING
    since: float = 0.0
    """When the phase began."""
    shift: Shift = field(default_factory=Shift)
    """What was decided last: persisted here before it is decided there."""
    in_force: int = -1
    """The number of the decision by which every live gateway was seen to work last."""
    traffic_since: float | None = None
    """When the first requests could come to the new revision."""
    pause: Pause | None = None
    full: bool = False
    """Whether nothing is judged any more and the steps that are left are skipped."""
    direct: bool = False
    """Whether there are no steps at all: a way back within the window, or a strategy that has none."""
    looked_at: float = 0.0
    look_failures: int = 0
    """Looks in a row that came to nothing because of an error."""
    look_problem: str = ""
    memory: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The analysis's own."""
    findings: tuple[Finding, ...] = ()
    """Of the last look."""
    samples: Mapping[str, int] = field(default_factory=dict[str, int])
    """Measure and service → requests of the new revision that had been seen when the step's clock began."""
    run: str = ""
    """The id of the step's run."""
    run_problem: str = ""
    """Why it cannot be started at all."""
    told: bool = False
    """Whether the last lines of the tasks were added to the problem."""
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout as it lies in the database. ``spec`` has all steps and measures, defaults too."""

    id: str
    app: str
    deploy: str
    revision: int
    stable: int
    state: State
    spec: RolloutSpec
    course: Course
    problem: Problem | None
    actor: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None

    @property
    def step(self) -> Step | None:
        """The step under way, None for the last one."""
        return self.spec.steps[self.course.step] if self.course.step < len(self.spec.steps) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is observed of a rollout: its deploy under way, or how it ended, and its step's run."""

    shifting: Shifting | None
    ended: Deploy | None = None
    run: Run | None = None
    run_lines: tuple[str, ...] = ()
    """What a run that failed wrote last."""
    run_problem: str = ""
    """Why the run cannot be started at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A look that was kept, for plots and for those who ask later."""

    seq: int
    at: float
    state: State
    step: int
    weight: int
    mirror: int
    findings: tuple[Finding, ...] = ()
    problem: str = ""
    """Why nothing could be found."""
