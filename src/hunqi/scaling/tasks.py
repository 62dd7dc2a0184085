"""The tasks of services as the HPA sees them, with when they became ready: seen, since Docker does not say."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Final

from hunqi.apps.sizing import Sized
from hunqi.scaling.hpa import TaskSeen

_LATELY: Final = 20
_LONGEST_S: Final = 3600.0


@dataclass(slots=True)
class _Service:
    changed: dict[str, tuple[bool, float]] = field(default_factory=dict[str, tuple[bool, float]])
    took: list[float] = field(default_factory=list[float])
    wanted: int = 0
    asked_at: float | None = None
    """When it was last seen to be asked for more; None until it was once."""


class TaskWatch:
    """Follows tasks from look to look."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, str], _Service] = {}

    def seen(self, key: tuple[str, str], sized: Sized, now: float) -> tuple[TaskSeen, ...]:
        """Return the tasks that serve (or will), those that are asked for and do not run among them."""
        service = self._services.setdefault(key, _Service(wanted=sized.wanted))
        if sized.wanted > service.wanted:
            service.asked_at = now
        service.wanted = sized.wanted
        own = [each for each in sized.tasks if each.name == sized.name]
        found: list[TaskSeen] = []
        changed: dict[str, tuple[bool, float]] = {}
        for task in own:
            was = service.changed.get(task.id)
            first = task.since if task.ready else now
            at = first if was is None else was[1] if was[0] == task.ready else now
            if task.ready and (was is None or not was[0]) and service.asked_at is not None:
                service.took = [*service.took, min(_LONGEST_S, now - service.asked_at)][-_LATELY:]
            changed[task.id] = task.ready, at
            found.append(
                TaskSeen(id=task.id, started_at=task.since, ready=task.ready, changed_at=at, pending=task.pending)
            )
        service.changed = changed
        pending = range(len(own), sized.wanted)
        return (*found, *(TaskSeen(id=f"pending {number}", ready=False, pending=True) for number in pending))

    def ready_s(self, key: tuple[str, str]) -> float | None:
        """Return how long tasks took lately from being asked for to being ready, None if none was seen."""
        service = self._services.get(key)
        return median(service.took) if service and service.took else None

    def keep(self, keys: set[tuple[str, str]]) -> None:
        """Forget all others."""
        for key in self._services.keys() - keys:
            del self._services[key]
