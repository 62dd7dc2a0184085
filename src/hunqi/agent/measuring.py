"""One sample of this node: its gateway's counts, what its tasks use, what they count themselves.

Made when it is asked for and never else. What cannot be measured now is a sentence in it, and no zero.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from hunqi.agent.ports import Gateway
from hunqi.agent.reports import Reports
from hunqi.agent.scraping import Scraping
from hunqi.agent.usage import TaskBook
from hunqi.gateway.counting import GatewayCounts
from hunqi.nodes.wire import ScrapeOrder
from hunqi.telemetry.wire import ClusterCounts, NodeSample

GATEWAY_S: Final = 2.0


class Measuring:
    """Measures. For one event loop."""

    def __init__(
        self, gateway: Gateway, reports: Reports, book: TaskBook, scraping: Scraping, *, clock: Callable[[], float]
    ) -> None:
        """``clock`` tells seconds since 1970."""
        self._gateway = gateway
        self._reports = reports
        self._book = book
        self._scraping = scraping
        self._clock = clock
        self._boot = ""

    async def sample(self, node: str, order: ScrapeOrder) -> NodeSample:
        """Return the node's sample, with the values of those tasks that ``order`` names."""
        at = self._clock()
        async with asyncio.TaskGroup() as group:
            counting = group.create_task(self._count())
            await self._book.refresh()
            using = group.create_task(self._book.usage())
            scraping = group.create_task(self._scraping.scrape(order.targets))
        counts, (tasks, unread), (custom, failed) = counting.result(), using.result(), scraping.result()
        problems = [each for each in (counts.problem, self._book.problem) if each]
        self._boot = counts.boot or self._boot
        return NodeSample(
            node=node,
            at=at,
            boot=self._boot,
            gateway=counts.answered,
            clusters=self._with_active(counts.clusters) if counts.answered else (),
            held=counts.held,
            tasks=tuple(tasks),
            custom=tuple(custom),
            problems=(*problems, *unread, *failed),
        )

    async def _count(self) -> GatewayCounts:
        try:
            async with asyncio.timeout(GATEWAY_S):
                return await self._gateway.count()
        except TimeoutError:
            problem = f"the gateway does not say within {GATEWAY_S:.0f} s what it has counted"
            return GatewayCounts(boot="", answered=False, problem=problem)

    def _with_active(self, clusters: tuple[ClusterCounts, ...]) -> tuple[ClusterCounts, ...]:
        """Requests that are open are counted at the tasks: Envoy's count of a cluster has those twice that waited."""
        active: dict[str, int] = {}
        for each in self._reports.latest.endpoints:
            if each.active_requests:
                active[each.cluster] = active.get(each.cluster, 0) + each.active_requests
        if not active:
            return clusters
        return tuple(
            replace(each, active=active[name]) if (name := f"{each.backend}:{each.port}") in active else each
            for each in clusters
        )
