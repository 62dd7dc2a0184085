"""What the steps so far ask for: who goes to the new revision, and how many tasks that needs.

A ``match`` holds until the next one. A ``mirror`` holds until the next one or until a weight comes, since real users
judge from then on. A ``scale`` is the least that there is: what the traffic needs is there in any case, so that a scale
that was meant for few users is never all that many users have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hunqi.apps.lanes import ALL_USERS, LaneMatch
from hunqi.apps.model import Mode
from hunqi.apps.rollout_spec import Step, StepKind
from hunqi.apps.shifting import Shift, Shifting


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a step is to come to."""

    weight: int = 0
    matches: tuple[LaneMatch, ...] = ()
    mirror: int = 0
    percent: int = 0
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])

    def taken(self, step: Step) -> Aim:
        """Return what is aimed at once ``step`` has come."""
        match step.kind:
            case StepKind.WEIGHT:
                return replace(self, weight=step.weight, mirror=0)
            case StepKind.MATCH:
                return replace(self, matches=step.matches)
            case StepKind.MIRROR:
                return replace(self, mirror=step.mirror)
            case StepKind.SCALE:
                return replace(self, percent=step.percent or 0, replicas=step.replicas)
            case StepKind.PAUSE | StepKind.ANALYSIS | StepKind.APPROVE | StepKind.RUN:
                return self


END = Aim(weight=ALL_USERS, percent=100)
"""What the last step of every rollout comes to."""


def aim_of(steps: tuple[Step, ...], number: int) -> Aim:
    """Return what step ``number`` (from 0) is to come to, those before it taken in."""
    if number >= len(steps):
        return END
    aim = Aim()
    for step in steps[: number + 1]:
        aim = aim.taken(step)
    return aim


def tasks_for(aim: Aim, shifting: Shifting) -> dict[str, int]:
    """Return how many tasks of the new revision each changed service needs; one that needs all of them is left out."""
    whole = [each.users for each in aim.matches if each == LaneMatch(users=each.users)]
    share = min(ALL_USERS, max(aim.weight, *whole, 0) + aim.mirror)
    found: dict[str, int] = {}
    for name in shifting.changed:
        service = shifting.target.spec.services.get(name)
        if service is None or service.mode is not Mode.REPLICATED:
            continue
        wanted = shifting.wanted.get(name, service.replicas)
        least = max(share, aim.percent * 100)
        needed = max(-(-wanted * least // ALL_USERS), aim.replicas.get(name, 0), 1)
        if needed < wanted:
            found[name] = needed
    return found


def grown(before: Mapping[str, int], needed: Mapping[str, int]) -> dict[str, int]:
    """Return the tasks of both: of each service the more, all of them where either has all."""
    return {name: max(before[name], count) for name, count in needed.items() if name in before}


def has_traffic(shift: Shift) -> bool:
    """Whether anything comes to the new revision by it."""
    return shift.weight > 0 or bool(shift.matches) or shift.mirror > 0
