"""Keeps the roster: in memory for whoever speaks to agents, and told to every agent whenever it changes.

Agents tell each other of drains without control, so each must know the others; one that was away is told again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from hunqi.errors import HunqiError
from hunqi.nodes.model import AgentStatus, Roster
from hunqi.nodes.store import NodeStore

ROUND_S: Final = 10.0
"""Every agent is asked how it is that often."""
_SEEN_S: Final = 60.0
"""What is written of it at most that often."""
_log: Final = logging.getLogger(__name__)


class Agents(Protocol):
    """The agents."""

    async def put_roster(self, node: str, roster: Roster) -> None:
        """Tell an agent who the others are."""
        ...

    async def status(self, node: str) -> AgentStatus:
        """Return what an agent says of itself."""
        ...


class Rosters:
    """The roster of the cluster."""

    def __init__(self, store: NodeStore, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._roster = Roster()
        self._statuses: dict[str, AgentStatus] = {}
        self._written: dict[str, datetime] = {}
        self._skews: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._wake = asyncio.Event()

    def current(self) -> Roster:
        """Return the roster, from memory."""
        return self._roster

    def status(self, node: str) -> AgentStatus | None:
        """Return what the node's agent said of itself in the last round, None if it did not answer."""
        return self._statuses.get(node)

    def skew_s(self, node: str) -> float:
        """Return by how many seconds the node's clock was ahead of this one's in the last round, to a second or so."""
        return self._skews.get(node, 0.0)

    def problem(self, node: str) -> str:
        """Return why the node's agent did not answer in the last round, empty if it did."""
        return self._problems.get(node, "")

    def wake(self) -> None:
        """Read it anew soon: somebody joined or left."""
        self._wake.set()

    async def load(self) -> Roster:
        """Read it now and return it."""
        self._roster = await self._store.roster()
        return self._roster

    async def run(self, agents: Agents) -> None:
        """Keep it and tell it, until cancelled."""
        while True:
            try:
                await self.load()
                await self.tell(agents)
            except HunqiError as error:
                _log.warning("the roster is read again soon: %s", error)
            self._wake.clear()
            try:
                async with asyncio.timeout(ROUND_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def tell(self, agents: Agents) -> None:
        """Tell every agent that has another roster; remember who answered."""
        roster = self._roster
        async with asyncio.TaskGroup() as group:
            asked = {each.node: group.create_task(self._tell_one(agents, each.node)) for each in roster.members}
        self._statuses = {node: status for node, task in asked.items() if (status := task.result())}
        now = self._now()
        for node in self._statuses:
            written = self._written.get(node)
            if written is None or (now - written).total_seconds() >= _SEEN_S:
                self._written[node] = now
                await self._store.saw(node, now=now)

    async def look(self, agents: Agents) -> None:
        """Read it and see who answers, telling nobody anything: for a process that does not lead."""
        roster = await self.load()
        async with asyncio.TaskGroup() as group:
            asked = {each.node: group.create_task(self._look_at(agents, each.node)) for each in roster.members}
        self._statuses = {node: status for node, task in asked.items() if (status := task.result())}

    async def _tell_one(self, agents: Agents, node: str) -> AgentStatus | None:
        try:
            status = await self._ask(agents, node)
            if status.roster != self._roster.version:
                await agents.put_roster(node, self._roster)
        except HunqiError as error:
            if node in self._statuses:
                _log.warning("%s", error)
            return None
        return status

    async def _look_at(self, agents: Agents, node: str) -> AgentStatus | None:
        with contextlib.suppress(HunqiError):
            return await self._ask(agents, node)

    async def _ask(self, agents: Agents, node: str) -> AgentStatus:
        asked = self._now().timestamp()
        try:
            status = await agents.status(node)
        except HunqiError as error:
            self._problems[node] = str(error)
            raise
        self._problems.pop(node, None)
        if status.clock:
            self._skews[node] = status.clock - (asked + self._now().timestamp()) / 2
        return status
