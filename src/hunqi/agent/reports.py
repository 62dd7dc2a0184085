"""What this node's gateway has, asked of it only while somebody wants to know.

One loop asks: often while something is on its way (a table that is not yet in force, endpoints that are not yet
healthy, a drain), once a second while somebody merely waits for changes, never otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Generator
from typing import Final

from hunqi.agent.ports import Gateway
from hunqi.agent.tables import Tables
from hunqi.errors import HunqiError
from hunqi.gateway.model import GatewayReport
from hunqi.nodes.wire import Report

FAST_S: Final = 0.05
SLOW_S: Final = 1.0
HOT_S: Final = 20.0
"""After a change that long is asked often, while it has not come to rest."""
OBSERVE_S: Final = 5.0
_log: Final = logging.getLogger(__name__)


class Reports:
    """The latest report, and waits for the next."""

    def __init__(self, gateway: Gateway, tables: Tables, *, node: str, monotonic: Callable[[], float]) -> None:
        """``monotonic`` tells seconds."""
        self._gateway = gateway
        self._tables = tables
        self._monotonic = monotonic
        self._latest = GatewayReport(node=node, version=0, running=False, endpoints=())
        self._boot = secrets.token_hex(4)
        self._count = 0
        self._seen = 0
        self._is_looking = False
        self._waiters = 0
        self._urgent = 0
        self._number = 0
        self._hot_until = 0.0
        self.failed = False
        """Whether the last look got no answer, so that nothing is known."""
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._looked = asyncio.Event()

    @property
    def seq(self) -> str:
        """Names the state that was reported last; another after every change, and after every start."""
        return f"{self._boot}.{self._count}"

    @property
    def latest(self) -> GatewayReport:
        """What was found last; its version is our own number."""
        return self._latest

    @property
    def healthy(self) -> frozenset[tuple[str, str, int]]:
        """(cluster, address, port) of the endpoints that the gateway finds healthy."""
        return frozenset((each.cluster, each.address, each.port) for each in self._latest.endpoints if each.healthy)

    def busy(self, addresses: frozenset[tuple[str, str, int]]) -> int:
        """Return how many requests are open at ``addresses``, as of the last look."""
        return sum(
            each.active_requests
            for each in self._latest.endpoints
            if (each.cluster, each.address, each.port) in addresses
        )

    async def wait(self, after: str, *, wait_s: float) -> Report:
        """Return the report once it differs from ``after``, or after ``wait_s``."""
        with self._interest():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    if self._seen == 0:
                        await self.look()
                    while self.seq == after:
                        await self._news.wait()
            return Report(seq=self.seq, report=self._tables.translate(self._latest))

    async def look(self) -> GatewayReport:
        """Return a report that was asked for after this call; asks often while somebody is in here."""
        self._urgent += 1
        try:
            with self._interest():
                target = self._seen + (2 if self._is_looking else 1)
                while self._seen < target:
                    await self._looked.wait()
            return self._latest
        finally:
            self._urgent -= 1

    async def run(self) -> None:
        """Ask the gateway while somebody is interested, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wake_for_held())
            await self._observe_forever()

    async def _wake_for_held(self) -> None:
        """A request that waits for a task of a service at zero is news at once."""
        while True:
            await self._gateway.waits_anew()
            self.wake()

    async def _observe_forever(self) -> None:
        while True:
            if self._waiters == 0:
                self._wanted.clear()
                await self._wanted.wait()
            await self._observe()
            with contextlib.suppress(TimeoutError):
                # A new waiter must not sit out a slow pause.
                self._wanted.clear()
                async with asyncio.timeout(FAST_S if self._is_hot() else SLOW_S):
                    await self._wanted.wait()
                    await asyncio.sleep(FAST_S)

    @contextlib.contextmanager
    def _interest(self) -> Generator[None]:
        self._waiters += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._waiters -= 1

    def wake(self) -> None:
        """Ask soon: something has changed."""
        self._wanted.set()

    async def _observe(self) -> None:
        self._is_looking = True
        try:
            async with asyncio.timeout(OBSERVE_S):
                report = await self._gateway.observe()
            self.failed = False
        except (HunqiError, TimeoutError, OSError) as error:
            self.failed = True
            report = GatewayReport(
                node=self._latest.node, version=0, running=False, endpoints=(), problem=str(error) or "no answer"
            )
        finally:
            self._is_looking = False
        before = self._signature(self._latest)
        self._latest = report
        self._seen += 1
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()
        if self._seen == 1 or self._signature(report) != before:
            self._count += 1
            news, self._news = self._news, asyncio.Event()
            news.set()

    def _signature(self, report: GatewayReport) -> object:
        """Return what of a report is news: not how busy an endpoint is, but whether one that drains has come idle."""
        draining = self._tables.draining()
        endpoints = frozenset(
            (
                each.cluster,
                each.address,
                each.port,
                each.healthy,
                each.failure,
                (each.cluster, each.address, each.port) in draining and each.active_requests == 0,
            )
            for each in report.endpoints
        )
        return (report.version, report.running, report.problem, report.held, endpoints)

    def _is_hot(self) -> bool:
        now = self._monotonic()
        if self._tables.number != self._number:
            self._number, self._hot_until = self._tables.number, now + HOT_S
        if self._urgent:
            return True
        return now < self._hot_until and not self._is_settled()

    def _is_settled(self) -> bool:
        draining = self._tables.draining()
        return self._latest.version >= self._tables.number and all(
            each.healthy or (each.cluster, each.address, each.port) in draining for each in self._latest.endpoints
        )
