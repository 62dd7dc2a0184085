"""The numbers of all workers together, as OpenMetrics.

Workers report their counts every second; of a worker that ended, its last report is kept, so counters never fall.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import generate_latest  # pyright: ignore[reportUnknownVariableType]
from prometheus_client.registry import Collector, CollectorRegistry

from hunqi.kit.rpc import Payload, Session
from hunqi.mirror.serve.accounts import BUCKETS_S


@dataclass(slots=True)
class Totals:
    """Sums over workers."""

    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    sent: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    latency: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, report: Payload) -> None:
        """Add one worker's report."""
        for kind, status, outcome, value in report["requests"]:
            self.requests[kind, str(status), outcome] += value
        for kind, outcome, value in report["bytes"]:
            self.sent[kind, outcome] += value
        for kind, buckets in report["latency"].items():
            known = self.latency.setdefault(kind, [0] * len(buckets))
            self.latency[kind] = [one + other for one, other in zip(known, buckets, strict=True)]
        for kind, value in report["seconds"].items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + value


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the fetcher knows at the moment of a scrape."""

    bytes_by_source: dict[str, int]
    fetches_in_flight: int
    source_up: dict[str, bool]
    source_speed: dict[str, float]
    quota_remaining: dict[str, int]
    quota_limit: dict[str, int]
    cached_bytes: int
    pushed_bytes: int
    part_bytes: int
    cache_max_bytes: int
    evicted_bytes: int
    caching: bool


class Metrics(Collector):
    """Collects reports; :meth:`text` renders them with the state of the world."""

    def __init__(self, world: Callable[[], World]) -> None:
        self._world = world
        self._reports: dict[Session, Payload] = {}
        self._ended = Totals()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def take(self, session: Session, report: Payload) -> None:
        """Take a worker's counts; each report replaces its last one."""
        self._reports[session] = report

    def forget(self, session: Session) -> None:
        """A worker has ended: keep what it counted."""
        report = self._reports.pop(session, None)
        if report is not None:
            self._ended.add(report)

    def text(self) -> str:
        """Return the OpenMetrics document."""
        return str(generate_latest(self._registry), "utf-8")  # pyright: ignore[reportUnknownArgumentType]  # untyped there

    def totals(self) -> Totals:
        """Return the sums over all workers that ever reported."""
        totals = Totals(
            Counter(self._ended.requests),
            Counter(self._ended.sent),
            {kind: list(buckets) for kind, buckets in self._ended.latency.items()},
            dict(self._ended.seconds),
        )
        for report in self._reports.values():
            totals.add(report)
        return totals

    def describe(self) -> Iterable[Metric]:
        """Say nothing at registration: the metrics are made at each scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        totals, world = self.totals(), self._world()
        yield from _requests(totals)
        yield from _sources(world)
        yield from _space(world)
        yield _counter("hunqi_mirror_saved_bytes", "Bytes of blobs that no source had to send", saved_bytes(totals))


_SAVING: Final = frozenset({"hit", "join"})


def saved_bytes(totals: Totals) -> float:
    """Return the bytes of blobs that clients got and no source had to send."""
    return sum(value for (kind, outcome), value in totals.sent.items() if kind == "blob" and outcome in _SAVING)


def _requests(totals: Totals) -> Iterable[Metric]:
    requests = CounterMetricFamily("hunqi_mirror_requests", "Requests", labels=["kind", "status", "outcome"])
    for labels, value in totals.requests.items():
        requests.add_metric(list(labels), value)
    yield requests
    sent = CounterMetricFamily("hunqi_mirror_sent_bytes", "Bytes sent to clients", labels=["kind", "outcome"])
    for labels, value in totals.sent.items():
        sent.add_metric(list(labels), value)
    yield sent
    latency = HistogramMetricFamily("hunqi_mirror_request_seconds", "Time per request", labels=["kind"])
    for kind, buckets in totals.latency.items():
        bounds = [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
        cumulative = [(bound, sum(buckets[: place + 1])) for place, bound in enumerate(bounds)]
        latency.add_metric([kind], cumulative, totals.seconds.get(kind, 0.0))
    yield latency


def _sources(world: World) -> Iterable[Metric]:
    fetched = CounterMetricFamily("hunqi_mirror_fetched_bytes", "Bytes of blobs from sources", labels=["source"])
    for source, value in world.bytes_by_source.items():
        fetched.add_metric([source], value)
    yield fetched
    up = GaugeMetricFamily("hunqi_mirror_source_up", "1 while the source is in use", labels=["source"])
    for source, is_up in world.source_up.items():
        up.add_metric([source], float(is_up))
    yield up
    speed = GaugeMetricFamily("hunqi_mirror_source_bytes_per_second", "Moving average", labels=["source"])
    for source, value in world.source_speed.items():
        speed.add_metric([source], value)
    yield speed
    quota = GaugeMetricFamily("hunqi_mirror_quota_remaining", "Pulls left, as the upstream said", labels=["source"])
    for source, value in world.quota_remaining.items():
        quota.add_metric([source], value)
    yield quota
    limit = GaugeMetricFamily("hunqi_mirror_quota_limit", "Pulls in a window, as the upstream said", labels=["source"])
    for source, value in world.quota_limit.items():
        limit.add_metric([source], value)
    yield limit
    yield _gauge("hunqi_mirror_fetches_in_flight", "Blobs that are being fetched", world.fetches_in_flight)


def _space(world: World) -> Iterable[Metric]:
    yield _gauge("hunqi_mirror_cached_bytes", "Cached content", world.cached_bytes)
    yield _gauge("hunqi_mirror_pushed_bytes", "Pushed content", world.pushed_bytes)
    yield _gauge("hunqi_mirror_part_bytes", "Blobs that are not whole yet", world.part_bytes)
    yield _gauge("hunqi_mirror_cache_max_bytes", "What cached content and parts may take", world.cache_max_bytes)
    yield _gauge("hunqi_mirror_caching", "0 while the disk is full and everything streams through", world.caching)
    yield _counter("hunqi_mirror_evicted_bytes", "Cached content that was evicted", world.evicted_bytes)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def as_payload(totals: Totals) -> dict[str, Any]:
    """Return the sums as a JSON object, for ``operate.stat``."""
    return {
        "requests": sum(value for (kind, _, _), value in totals.requests.items() if kind != "peer"),
        "hits": sum(value for (_, _, outcome), value in totals.requests.items() if outcome == "hit"),
        "misses": sum(value for (_, _, outcome), value in totals.requests.items() if outcome == "miss"),
        "sent_bytes": sum(totals.sent.values()),
        "saved_bytes": saved_bytes(totals),
    }
