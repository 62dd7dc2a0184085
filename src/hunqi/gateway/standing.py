"""What the gateways of the nodes said last, and what follows from it taken together. Pure but for the clock."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from hunqi.apps.serving import HealthReport
from hunqi.gateway.model import GatewayReport

Place = tuple[str, str, int]
"""A cluster's endpoint: cluster, address, port."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A report, and when it was heard."""

    report: GatewayReport
    heard_at: float


class Standings:
    """The last reports by node."""

    def __init__(self, monotonic: Callable[[], float], *, live_s: float) -> None:
        """Who was not heard of for ``live_s`` does not count."""
        self._monotonic = monotonic
        self._live_s = live_s
        self._by_node: dict[str, Standing] = {}
        self._down: frozenset[str] = frozenset()

    def hear(self, node: str, standing: Standing) -> None:
        """Take in what a gateway said."""
        self._by_node[node] = standing

    def forget(self, node: str) -> None:
        """A node has left."""
        self._by_node.pop(node, None)

    def set_down(self, nodes: Collection[str]) -> None:
        """Take in which nodes the Swarm finds down: their gateways do not count, whatever they said last."""
        self._down = frozenset(nodes)

    def live(self) -> dict[str, Standing]:
        """Return those that count."""
        since = self._monotonic() - self._live_s
        return {
            node: each
            for node, each in self._by_node.items()
            if each.report.running and each.heard_at >= since and node not in self._down
        }

    def all_at(self, version: int) -> bool:
        """Whether there are live gateways and all work by ``version`` or a later one."""
        live = self.live()
        return bool(live) and all(each.report.version >= version for each in live.values())

    def idle(self, version: int, places: Collection[Place]) -> bool:
        """Whether each live gateway works by ``version`` and has no request open at ``places``."""
        return all(
            each.report.version >= version
            and not any(
                found.active_requests and (found.cluster, found.address, found.port) in places
                for found in each.report.endpoints
            )
            for each in self.live().values()
        )

    def health(self, backend: str, endpoints: Collection[tuple[str, str, str, int]]) -> HealthReport:
        """Return what the live gateways find of ``endpoints`` (task, cluster, address, port), all ports of a task."""
        live = self.live()
        failures: dict[str, str] = {}
        for node, each in live.items():
            found = {(one.cluster, one.address, one.port): one for one in each.report.endpoints}
            for task, *place in endpoints:
                cluster, address, port = place
                known = found.get((str(cluster), str(address), int(port)))
                if known is None:
                    failures.setdefault(task, f"the gateway of node {node} does not know it yet")
                elif not known.healthy:
                    failures[task] = (
                        f"port {port}, asked by the gateway of node {node}: {known.failure or 'not healthy'}"
                    )
        tasks = {task for task, *_ in endpoints}
        healthy = frozenset(tasks - failures.keys()) if live else frozenset[str]()
        return HealthReport(backend=backend, gateways=len(live), healthy=healthy, failures=failures)
