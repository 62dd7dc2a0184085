"""What all parts of the fake share: its clock, ids, the store's index, and who listens to its events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from hunqi.engine.model import Event

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Ledger:
    """``clock`` returns seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock: Final = clock
        self.index = 10
        self.listeners: Final[set[Callable[[Event], None]]] = set()
        self._ids = 0

    def new_id(self) -> str:
        """Return an id in the form of Swarm's: 25 characters."""
        self._ids += 1
        return f"f{self._ids:024x}"

    def bump(self) -> int:
        """Return the next index of the store."""
        self.index += 1
        return self.index

    def stamp(self) -> str:
        """Return the clock's time as the API writes it."""
        at = EPOCH + timedelta(seconds=self.clock())
        return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"

    def tell(self, kind: str, action: str, id_: str, name: str, **more: str) -> None:
        """Send an event of the Swarm's scope."""
        time_ns = int((EPOCH.timestamp() + self.clock()) * 1e9)
        event = Event(
            kind=kind, action=action, id=id_, attributes={"name": name, **more}, time_ns=time_ns, scope="swarm"
        )
        for listener in tuple(self.listeners):
            listener(event)
