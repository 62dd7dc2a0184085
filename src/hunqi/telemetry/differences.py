"""What happened at one node between two of its samples: differences of counts that only grow.

Counts decide, not clocks: a node's clock may be set back, and an answer may come twice or late. A sample is taken for
old if its Envoy was succeeded already, or if its clock is behind the last one's while any count is lower. A count that
is lower though the clock went on began anew at zero, and so did all counts of an Envoy that took another's place. (A
node is asked again only when it has answered, so no answer of before its clock was set back comes after that.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hunqi.telemetry.wire import ClusterCounts, CustomValue, HeldCounts, NodeSample, TaskCounts

CLASSES: Final = (1, 2, 3, 4, 5)
_BOOTS: Final = 8
"""So many Envoys that were succeeded are remembered of a node."""
_REFUSED: Final = 2
"""So many are taken for late ones if each is newer than the one before; then the clock was set back, and counts too."""
_CLOCKS_AGREE: Final = 0.5
"""A node's own measure of time is believed if it differs from the leader's by at most this share."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to a Swarm service at one gateway since the sample before. ``classes`` are by ``CLASSES``."""

    counts: ClusterCounts
    requests: int
    classes: tuple[int, ...]
    latency: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Used:
    """A task now, with its CPU in cores since the sample before."""

    counts: TaskCounts
    cpu_cores: float


@dataclass(frozen=True, slots=True)
class Counted:
    """A value of an app's own metric: of a gauge as it is, of a counter per second."""

    source: CustomValue
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Between two samples of a node. Without ``since`` there is none before this one: only gauges are known."""

    node: str
    at: float
    """When this one was received, by the clock of whoever received it."""
    since: float | None
    gateway: bool
    """Whether the gateway's requests of this time are known."""
    began: bool
    """Whether the gateway was heard now but not before: what it did meanwhile is unknown."""
    requests: tuple[Requests, ...] = ()
    held: tuple[HeldCounts, ...] = ()
    used: tuple[Used, ...] = ()
    custom: tuple[Counted, ...] = ()


@dataclass(slots=True)
class NodeCounts:
    """What a node counted as of its last sample."""

    node: str
    last: NodeSample | None = None
    received: float = 0.0
    _boot: str | None = None
    _refused: list[float] = field(default_factory=list[float])
    _former: deque[str] = field(default_factory=lambda: deque(maxlen=_BOOTS))
    _clusters: dict[tuple[str, int], ClusterCounts] = field(default_factory=dict[tuple[str, int], ClusterCounts])
    _tasks: dict[str, TaskCounts] = field(default_factory=dict[str, TaskCounts])
    _custom: dict[tuple[str, str, str], float] = field(default_factory=dict[tuple[str, str, str], float])

    def take(self, sample: NodeSample, received: float) -> Change | None:
        """Return what happened since the last sample; None for one that was taken already or is older."""
        if self._is_old(sample):
            return None
        known = sample.gateway and self._boot is not None
        change = Change(
            node=self.node,
            at=received,
            since=self.received if self.last is not None else None,
            gateway=known,
            began=sample.gateway and not known,
            requests=self._requests(sample) if known else (),
            held=sample.held if sample.gateway else (),
            used=self._used(sample, self._elapsed(sample, received)),
            custom=self._counted(sample, self._elapsed(sample, received)),
        )
        self._keep(sample, received)
        return change

    def _is_old(self, sample: NodeSample) -> bool:
        last = self.last
        if last is None:
            return False
        if sample == last or (sample.gateway and sample.boot in self._former):
            return True
        succeeds = sample.gateway and sample.boot != self._boot
        if succeeds or sample.at > last.at or not self._has_fallen(sample):
            self._refused = []
            return False
        goes_on = bool(self._refused) and sample.at > self._refused[-1]
        self._refused = [*self._refused, sample.at] if goes_on else [sample.at]
        return len(self._refused) <= _REFUSED

    def _has_fallen(self, sample: NodeSample) -> bool:
        """Whether any count is lower than it was."""
        for each in sample.clusters:
            before = self._clusters.get((each.backend, each.port))
            if before is not None and each.requests < before.requests:
                return True
        return any(
            (before := self._tasks.get(each.task)) is not None and each.cpu_s < before.cpu_s for each in sample.tasks
        )

    def _elapsed(self, sample: NodeSample, received: float) -> float | None:
        """Return the seconds since the last sample: by the node's clock, unless that was set meanwhile."""
        if self.last is None:
            return None
        own, seen = sample.at - self.last.at, received - self.received
        if seen <= 0:
            return own if own > 0 else None
        return own if abs(own - seen) <= max(_CLOCKS_AGREE * seen, 1.0) and own > 0 else seen

    def _requests(self, sample: NodeSample) -> tuple[Requests, ...]:
        same = sample.boot == self._boot
        return tuple(
            difference(each, self._clusters.get((each.backend, each.port)) if same else None)
            for each in sample.clusters
        )

    def _used(self, sample: NodeSample, elapsed: float | None) -> tuple[Used, ...]:
        if not elapsed:
            return ()
        found: list[Used] = []
        for each in sample.tasks:
            before = self._tasks.get(each.task)
            if before is None:
                continue
            spent = each.cpu_s - before.cpu_s if each.cpu_s >= before.cpu_s else each.cpu_s
            found.append(Used(each, max(0.0, spent) / elapsed))
        return tuple(found)

    def _counted(self, sample: NodeSample, elapsed: float | None) -> tuple[Counted, ...]:
        found: list[Counted] = []
        for each in sample.custom:
            if not each.grows:
                found.append(Counted(each, each.value))
                continue
            before = self._custom.get((each.task, each.metric, each.labels))
            if before is None or not elapsed:
                continue
            grown = each.value - before if each.value >= before else each.value
            found.append(Counted(each, grown / elapsed))
        return tuple(found)

    def _keep(self, sample: NodeSample, received: float) -> None:
        if sample.gateway:
            if self._boot is not None and sample.boot != self._boot:
                self._former.append(self._boot)
                self._clusters = {}
            self._boot = sample.boot
            self._clusters |= {(each.backend, each.port): each for each in sample.clusters}
            if len(self._clusters) > 2 * len(sample.clusters) + 100:  # of services that were removed
                self._clusters = {(each.backend, each.port): each for each in sample.clusters}
        self._tasks = {each.task: each for each in sample.tasks}
        self._custom = {(each.task, each.metric, each.labels): each.value for each in sample.custom if each.grows}
        self.last = sample
        self.received = received


def difference(now: ClusterCounts, before: ClusterCounts | None) -> Requests:
    """Return what was counted since ``before``, all of it if the counts began anew or there is none before."""
    latency = now.latency.counts
    classes = tuple(now.classes.get(each, 0) for each in CLASSES)
    if before is None:
        return Requests(now, now.requests, classes, latency)
    earlier = before.latency.counts
    grown = tuple(count - before.classes.get(each, 0) for each, count in zip(CLASSES, classes, strict=True))
    requests = now.requests - before.requests
    slower = {bucket: count - earlier.get(bucket, 0) for bucket, count in latency.items()}
    fell = any(bucket not in latency for bucket, count in earlier.items() if count)
    if requests < 0 or min(grown) < 0 or fell or any(count < 0 for count in slower.values()):
        return Requests(now, now.requests, classes, latency)
    return Requests(now, requests, grown, {bucket: count for bucket, count in slower.items() if count})
