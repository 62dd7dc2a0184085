"""What rollouts need of other rooms, besides ``apps.shifting.Shifts`` and ``apps.operations``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hunqi.apps.rollout_spec import MeasureSpec
from hunqi.apps.shifting import Shifting
from hunqi.rollouts.analysis.model import Looked, Memory


class Analyst(Protocol):
    """Who looks at the new revision and at the old one; implemented by ``rollouts.analysis``."""

    async def look(
        self, shifting: Shifting, specs: Sequence[MeasureSpec], memory: Memory, *, since: float, now: float
    ) -> Looked:
        """Return what the measures say by ``now`` of the traffic since ``since`` (seconds since the epoch).

        ``memory`` is what the look before handed out. A source that is down is a finding; raises a
        ``DependencyError`` where nothing at all could be looked at.
        """
        ...
