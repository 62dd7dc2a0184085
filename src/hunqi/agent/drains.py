"""Taking tasks out of this node's gateway: mark, wait until the gateway works by it, wait until nothing is open.

The last healthy endpoint of a service stays in until another serves, for a part of the time that there is; after that
requests are held by the gateway as the route says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping
from typing import Final

from hunqi.agent.reports import Reports
from hunqi.agent.tables import Tables
from hunqi.gateway.model import GatewayReport

KEEP_MARK_S: Final = 3600.0
"""A mark outlives its drain: the task is never taken in again, and ids are not used twice."""
SUCCESSOR_PART: Final = 0.5
"""That part of a drain's time may be spent on waiting for a successor of the last endpoint."""
UNKNOWN_S: Final = 10.0
"""An agent that has just started finds its gateway within that; one that is still not found by then serves nothing."""
_log: Final = logging.getLogger(__name__)


class Drains:
    """Drains at this node's gateway."""

    def __init__(self, tables: Tables, reports: Reports) -> None:
        self._tables = tables
        self._reports = reports

    async def drain(self, tasks: Collection[str], *, timeout_s: float) -> Mapping[str, int]:
        """Take ``tasks`` out; return those with requests open after ``timeout_s``, with how many. None if idle.

        Cancelled, it leaves the marks where they are.
        """
        busy: dict[str, int] = {}
        marked = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._await_successor(tasks, timeout_s=timeout_s * SUCCESSOR_PART)
                number = await self._tables.mark(tasks, for_s=KEEP_MARK_S)
                marked = True
                await self._await_idle(tasks, number, busy)
                return {}
        if not marked:
            await self._tables.mark(tasks, for_s=KEEP_MARK_S)
        _log.info("drained for %g s, still busy: %s", timeout_s, busy)
        return busy

    async def _await_successor(self, tasks: Collection[str], *, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._tables.addresses(tasks):
                    await self._reports.look()
                    if not self._tables.leaves_none(tasks, self._reports.healthy):
                        return

    async def _await_idle(self, tasks: Collection[str], number: int, busy: dict[str, int]) -> None:
        idle_looks = 0
        since = asyncio.get_running_loop().time()
        # Twice: the gateway's workers take a new set of endpoints a moment after it has said so.
        while idle_looks < 2:
            addresses = {task: self._tables.addresses([task]) for task in tasks}
            if not any(addresses.values()):
                busy.clear()
                return
            report = await self._reports.look()
            if not report.running and self._is_surely_down(report, since):
                busy.clear()
                return
            is_known = report.running and report.version >= number
            counts = {task: self._reports.busy(addresses[task]) for task in tasks}
            busy.clear()
            busy.update({task: count for task, count in counts.items() if count or not is_known})
            idle_looks = 0 if busy else idle_looks + 1

    def _is_surely_down(self, report: GatewayReport, since: float) -> bool:
        """Whether a gateway that does not run serves nothing: one with a problem may do so, and be found soon."""
        if self._reports.failed or report.problem:
            return asyncio.get_running_loop().time() - since > UNKNOWN_S
        return True
