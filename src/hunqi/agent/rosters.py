"""Who the other agents are: as control told it last, kept on disk so that drains work without control."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from hunqi.errors import HunqiError
from hunqi.kit.codec import dumps, loads
from hunqi.kit.files import write_atomic
from hunqi.nodes.model import Roster

_log: Final = logging.getLogger(__name__)


class RosterFile:
    """The roster of this agent."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "roster.json"
        self._roster = Roster()

    def load(self) -> None:
        """Take up what an earlier agent left."""
        try:
            self._roster = loads(Roster, self._file.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, HunqiError) as error:
            _log.warning("%s cannot be read and is left alone: %s", self._file, error)

    def current(self) -> Roster:
        """Return the last one."""
        return self._roster

    async def take(self, roster: Roster) -> bool:
        """Go by ``roster`` from now on; return whether it is news. Raises ``OSError`` if it cannot be written down."""
        if roster == self._roster:
            return False
        self._roster = roster
        await asyncio.to_thread(write_atomic, self._file, dumps(roster).encode(), mode=0o600)
        return True
