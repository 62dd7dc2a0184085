"""Two revisions side by side: who of the users goes to the new one, and how far that has come.

What rollouts decide is persisted as a ``Shift`` of the deploy; the planner brings the app to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hunqi.apps.asked import Problem, ServiceProgress
from hunqi.apps.lanes import LaneKey, LaneMatch
from hunqi.apps.model import Revision


class Verdict(StrEnum):
    """What is to become of a shift."""

    GO_ON = "go-on"
    PROMOTE = "promote"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What a rollout has decided of a deploy so far. ``number`` grows with each decision."""

    number: int = 0
    weight: int = 0
    matches: tuple[LaneMatch, ...] = ()
    mirror: int = 0
    """Hundredths of a percent of the old revision's requests that the new one gets too; its answers are discarded."""
    key: LaneKey = field(default_factory=LaneKey)
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])
    """Service → tasks of the new revision for now; one that is not named has as many as it is to have at the end."""
    verdict: Verdict = Verdict.GO_ON
    problem: Problem | None = None
    """Why it was aborted."""
    keep_s: float = 600.0
    """How long tasks of an aborted revision are kept for a look."""
    decided_at: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifting:
    """A deploy that moves by decisions, as it stands."""

    app: str
    deploy: str
    shift: Shift
    target: Revision
    stable: Revision
    changed: tuple[str, ...]
    """Services that have tasks of their own in the new lane."""
    postponed: tuple[str, ...] = ()
    """Services that change only at the promotion: two of them may not run side by side."""
    shifting: bool = False
    """Whether every service of the new lane has been ready once, so that decisions may begin."""
    ready: bool = False
    """Whether the new lane has all the tasks that ``shift`` asks for, healthy at every live gateway."""
    in_force: int = -1
    """The number of the last shift by which every live gateway works."""
    wanted: Mapping[str, int] = field(default_factory=dict[str, int])
    """Service of ``changed`` → the tasks that it is to have at the end, with what users and load ask for."""
    services: tuple[ServiceProgress, ...] = ()
    sentence: str = ""


class Shifts(Protocol):
    """The deploys that move by decisions, for the room that decides; implemented by ``hunqi.apps.shifts``."""

    async def under_way(self) -> Sequence[Shifting]:
        """Return every deploy that has a shift and has not ended."""
        ...

    async def find(self, app: str) -> Shifting | None:
        """Return the app's, None if it has none under way."""
        ...

    async def decide(self, app: str, deploy: str, shift: Shift, *, sentence: str = "", actor: str = "hunqi") -> None:
        """Persist a decision, and have the app looked at. Raises ``DeployEndedError``, ``OvertakenError``.

        ``shift.number`` is one more than that of the shift that it follows; deciding the same again changes nothing.
        ``sentence`` says why, for the event; ``shift.decided_at`` is set where it is 0.
        """
        ...
