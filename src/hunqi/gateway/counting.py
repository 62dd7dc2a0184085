"""Requests as a gateway counted them, put together over the Envoys that were in it since we look.

Envoy counts for each cluster, from the start of its process, and forgets a cluster that leaves. Here differences are
added up, so that what is told only ever grows until ``boot`` is another one: which it is after a start of the agent,
and then everything begins at zero.

A request counts once, in the cluster that its route chose, with the answer that the client got: whether it was tried
again or held meanwhile, and a 503 of the gateway's own because nobody could be reached too. A copy (mirror) counts in
the cluster that it went to. What was turned away before a cluster was chosen (redirect, limit, login) counts nowhere,
nor does what the client gave up before an answer began.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from hunqi.gateway.model import RouteTable
from hunqi.telemetry.histogram import Histogram, bucket_of
from hunqi.telemetry.wire import ClusterCounts, HeldCounts

STATS: Final = (
    "/stats?format=json&usedonly&histogram_buckets=detailed"
    r"&filter=^cluster\.[^.]%2B\.upstream_rq_(completed|[1-5]xx|time)$|^server\.uptime$"
)
"""What is asked of Envoy's admin interface: names of clusters have no dot in statistics."""
REMEMBER_S: Final = 600.0
"""How long a cluster that has left the table is told of still."""
_BEFORE: Final = "cluster."
_UPTIME: Final = "server.uptime"
_SLACK_S: Final = 2.0
_ENVOYS: Final = 8
"""Of so many the last reading is kept, those that have gone included."""


@dataclass(slots=True)
class Counted:
    """A cluster's counts: ``classes`` by the first digit of the status, ``latency`` by bucket of our grid."""

    requests: int = 0
    classes: dict[int, int] = field(default_factory=dict[int, int])
    latency: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, now: Counted, base: Counted) -> None:
        """Add what ``now`` has more than ``base``."""
        self.requests += now.requests - base.requests
        _add(self.classes, now.classes, base.classes)
        _add(self.latency, now.latency, base.latency)


@dataclass(frozen=True, slots=True)
class Reading:
    """One Envoy at a moment; clusters are named as statistics name them."""

    uptime_s: float
    clusters: Mapping[str, Counted]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayCounts:
    """All Envoys of a node together. ``problem`` says why one did not answer; what it counted comes with the next."""

    boot: str
    answered: bool
    clusters: tuple[ClusterCounts, ...] = ()
    held: tuple[HeldCounts, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class _Named:
    cluster: str
    app: str
    service: str
    revision: int
    left_at: float = 0.0
    """When the table lost it."""


_NOTHING: Final = Counted()


class Ledger:
    """Adds up what Envoys count. For one event loop."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """``monotonic`` tells seconds."""
        self._monotonic = monotonic
        self._began = monotonic()
        self._last: dict[str, Reading] = {}
        self._totals: dict[str, Counted] = {}
        self._names: dict[str, _Named] = {}
        self.boot = secrets.token_hex(6)
        """Names what began at zero."""

    def name(self, table: RouteTable) -> None:
        """Take in whose the clusters are; those that have left are remembered for ``REMEMBER_S``."""
        now = self._monotonic()
        fresh = {
            each.name.replace(":", "_"): _Named(each.name, each.app, each.service, each.revision)
            for each in table.clusters.values()
        }
        for stat, named in self._names.items():
            if stat not in fresh:
                named.left_at = named.left_at or now
                fresh[stat] = named
        self._names = fresh
        self._forget_old()

    def _forget_old(self) -> None:
        before = self._monotonic() - REMEMBER_S
        for stat in [stat for stat, each in self._names.items() if each.left_at and each.left_at < before]:
            del self._names[stat]
            self._totals.pop(stat, None)

    def take(self, envoy: str, reading: Reading) -> None:
        """Add what ``envoy`` has counted since it was read last, or since it began."""
        base = self._base(self._last.pop(envoy, None), reading)
        self._last[envoy] = reading
        while len(self._last) > _ENVOYS:
            del self._last[next(iter(self._last))]
        for stat, counted in reading.clusters.items():
            was = base.get(stat, _NOTHING)
            if counted.requests < was.requests:  # it left that Envoy and came again
                was = _NOTHING
            total = self._totals.get(stat)
            if total is None:
                total = self._totals[stat] = Counted()
            if counted != was:
                total.add(counted, was)

    def _base(self, before: Reading | None, now: Reading) -> Mapping[str, Counted]:
        """Return what of ``now`` is no news."""
        if before is None:
            # One that is older than this ledger has told an earlier one; nobody knows how much.
            return now.clusters if now.uptime_s > self._monotonic() - self._began + _SLACK_S else {}
        return before.clusters if now.uptime_s >= before.uptime_s else {}

    def counts(self) -> tuple[ClusterCounts, ...]:
        """Return the sums of all clusters that are known by name, those without any request too."""
        self._forget_old()
        return tuple(self._told(named, self._totals.get(stat, _NOTHING)) for stat, named in self._names.items())

    @staticmethod
    def _told(named: _Named, total: Counted) -> ClusterCounts:
        backend, _, port = named.cluster.rpartition(":")
        return ClusterCounts(
            backend=backend,
            app=named.app,
            service=named.service,
            revision=named.revision,
            port=int(port),
            requests=total.requests,
            classes=dict(total.classes),
            latency=Histogram(dict(total.latency)),
        )


def parse_counts(answer: bytes) -> Reading:
    """Return what an answer to ``STATS`` says. Raises ``ValueError`` if it is none."""
    clusters: dict[str, Counted] = {}
    uptime_s = 0.0
    said: Any = orjson.loads(answer)
    for each in said.get("stats", ()):
        if (name := each.get("name")) is None:
            for histogram in each["histograms"].get("details", ()):
                stat = histogram["name"].removeprefix(_BEFORE).rpartition(".")[0]
                _latencies(clusters.setdefault(stat, Counted()).latency, histogram.get("totals", ()))
        elif name == _UPTIME:
            uptime_s = float(each["value"])
        else:
            stat, _, kind = name.removeprefix(_BEFORE).rpartition(".upstream_rq_")
            counted = clusters.setdefault(stat, Counted())
            if kind == "completed":
                counted.requests = int(each["value"])
            else:
                counted.classes[int(kind[0])] = int(each["value"])
    return Reading(uptime_s, clusters)


def _latencies(counts: dict[int, int], totals: Any) -> None:
    for each in totals:
        bucket = grid_bucket(each["lower_bound"], each["width"])
        counts[bucket] = counts.get(bucket, 0) + int(each["count"])


@functools.lru_cache(maxsize=4096)
def grid_bucket(lower_ms: float, width_ms: float) -> int:
    """Return the bucket of our grid for one of Envoy's: that of its middle.

    Envoy drops what is below a millisecond and keeps two digits, so its buckets are at least 1 ms wide, and from 10 ms
    on at most a tenth of their value: the middle is within 0.5 ms or 5 % of every value in it.
    """
    return bucket_of(lower_ms + max(width_ms, 1.0) / 2)


def _add(total: dict[int, int], now: Mapping[int, int], base: Mapping[int, int]) -> None:
    for key, count in now.items():
        more = count - base.get(key, 0)
        if more > 0:
            total[key] = total.get(key, 0) + more
