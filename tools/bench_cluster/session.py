"""One run of the benchmarks: where to work, how often, whom to tell; and the machines, made when first asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.product import Product, platform
from testbed.swarm import swarm
from testbed.watched import Watched, watched


@dataclass(slots=True, kw_only=True)
class Session:
    """What every scenario is given. The three machines are shared, and left by each scenario as they were."""

    base: Path
    rounds: int
    share: float = 1.0
    """Of the acts and times that the issue of a row asks for; less than 1 to try."""
    say: Callable[[str], None] = field(default=lambda _text: None)
    """Told what is being done."""
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _trio: Product | None = None

    def folder(self, name: str) -> Path:
        """Return a directory of that name, made if it is not there."""
        made = self.base / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def acts(self, wanted: int) -> int:
        """Return how many acts to do of those that are wanted."""
        return max(1, round(wanted * self.share))

    def seconds(self, wanted: float) -> float:
        """Return how long to do what should take so long; three seconds at least."""
        return max(3.0, wanted * self.share)

    def trio(self) -> Product:
        """Return the platform on three machines: two managers, of which the first has control, and a worker."""
        if self._trio is None:
            self.say("three machines: starting Docker and the platform")
            bed = self._stack.enter_context(swarm(3, joined=0))
            made = platform(bed, self.folder("trio"), roles=["manager", "worker"])
            self._trio = self._stack.enter_context(made)
        return self._trio

    def watched(self, name: str, *, rest_s: float = 20.0, **more: Any) -> contextlib.AbstractContextManager[Watched]:
        """Put an app on the three machines under load; see :func:`testbed.watched.watched`."""
        return watched(self.trio(), name, rest_s=self.seconds(rest_s), say=self.say, **more)

    def close(self) -> None:
        """End the machines."""
        self._trio = None
        self._stack.close()
