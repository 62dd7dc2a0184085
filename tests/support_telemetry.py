"""Samples of nodes, as agents would send them, with counts that are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunqi.telemetry.histogram import Histogram
from hunqi.telemetry.live import Live
from hunqi.telemetry.wire import ClusterCounts, CustomValue, HeldCounts, NodeSample, TaskCounts

T0 = 1_700_000_000.0


@dataclass
class Clock:
    """A clock that is set."""

    now: float = T0

    def __call__(self) -> float:
        return self.now


@dataclass
class Node:
    """A node whose gateway and tasks count."""

    name: str
    boot: str = "envoy-1"
    skew_s: float = 0.0
    gateway: bool = True
    requests: dict[tuple[str, str, int], list[float]] = field(default_factory=dict)
    """(app, service, revision) → latencies in ms; negative ones are errors."""
    cpu: dict[tuple[str, str, int, str], float] = field(default_factory=dict)
    held: dict[tuple[str, str], int] = field(default_factory=dict)
    custom: tuple[CustomValue, ...] = ()

    def serve(self, service: str, revision: int, count: int, *, ms: float = 10.0, errors: int = 0) -> None:
        """Count requests to a service of ``shop``."""
        mine = self.requests.setdefault(("shop", service, revision), [])
        mine += [ms] * (count - errors) + [-ms] * errors

    def restart(self) -> None:
        """Have another Envoy take the place of this one."""
        number = int(self.boot.rpartition("-")[2])
        self.boot, self.requests = f"envoy-{number + 1}", {key: [] for key in self.requests}

    def sample(self, at: float) -> NodeSample:
        """Return all counts."""
        clusters = tuple(
            ClusterCounts(
                backend=f"{app}_{service}-r{revision}",
                app=app,
                service=service,
                revision=revision,
                port=80,
                requests=len(values),
                classes={2: sum(value >= 0 for value in values), 5: sum(value < 0 for value in values)},
                latency=Histogram.of(abs(value) for value in values),
                active=1,
            )
            for (app, service, revision), values in self.requests.items()
        )
        tasks = tuple(
            TaskCounts(task=task, app=app, service=service, revision=revision, cpu_s=spent, memory_bytes=2**20)
            for (app, service, revision, task), spent in self.cpu.items()
        )
        held = tuple(
            HeldCounts(app=app, service=service, waiting=waiting) for (app, service), waiting in self.held.items()
        )
        return NodeSample(
            node=self.name,
            at=at + self.skew_s,
            boot=self.boot if self.gateway else "",
            gateway=self.gateway,
            clusters=clusters if self.gateway else (),
            held=held,
            tasks=tasks,
            custom=self.custom,
        )


@dataclass
class Measuring:
    """A ``Live`` that hears nodes, with a clock to set."""

    nodes: dict[str, Node]
    clock: Clock = field(default_factory=Clock)
    expected: set[str] = field(default_factory=set)
    live: Live = field(init=False)

    def __post_init__(self) -> None:
        self.expected = set(self.nodes)
        self.live = Live(lambda: self.expected, clock=self.clock)

    def poll(self, *names: str, after_s: float = 5.0) -> None:
        """Hear the nodes (all if none is named), ``after_s`` later."""
        self.clock.now += after_s
        for name in names or tuple(self.nodes):
            self.live.record(self.nodes[name].sample(self.clock.now))
            self.clock.now += 0.01


def measuring(*names: str) -> Measuring:
    """Return one with these nodes."""
    return Measuring({name: Node(name) for name in names})
