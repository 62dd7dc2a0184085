"""What of a revision runs beside the one that serves: services with tasks of their own, and those that must wait.

Pure, and the same before a deploy begins and while it goes on: it follows from the two revisions alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hunqi.apps.model import Mode, Order, Revision
from hunqi.apps.rollout_spec import RolloutSpec, Strategy

LASTING: Final = frozenset({Mode.REPLICATED, Mode.GLOBAL})


@dataclass(frozen=True, slots=True)
class Split:
    """The services that a revision changes or adds; what it does not name serves both."""

    own: tuple[str, ...] = ()
    """Run beside the old ones from the beginning."""
    postponed: tuple[str, ...] = ()
    """Take the place of the old ones only at the promotion: two of them may not run side by side."""


def split(base: Revision, target: Revision) -> Split:
    """Return what of ``target`` runs beside ``base``. Jobs have no lasting tasks, so theirs may; runs are neither."""
    own: list[str] = []
    postponed: list[str] = []
    for name, service in target.spec.services.items():
        if service.schedule is not None or base.origin.get(name) == target.origin[name]:
            continue
        waits = name in base.spec.services and service.mode in LASTING and service.order is Order.STOP_FIRST
        (postponed if waits else own).append(name)
    return Split(tuple(own), tuple(postponed))


def shifts(base: Revision, target: Revision, rollout: RolloutSpec | None) -> bool:
    """Whether a deploy of ``target`` has anything that can move by decisions: tasks that last, beside the old ones."""
    if rollout is None or rollout.strategy is Strategy.DIRECT:
        return False
    return any(target.spec.services[name].mode in LASTING for name in split(base, target).own)
