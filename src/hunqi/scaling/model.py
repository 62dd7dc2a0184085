"""What elastic scaling has decided and why, and what it remembers: values that are kept, shown and tested."""

from __future__ import annotations

from dataclasses import dataclass, field

from hunqi.apps.scale_spec import ScaleSpec
from hunqi.scaling.hpa import Memory, Proposal
from hunqi.scaling.latency import LatencyMemory
from hunqi.scaling.panic import Panic


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What history foretells, as far as it is used. ``on`` is the back-test's word, ``held`` that of the last hours."""

    on: bool = False
    replicas: int | None = None
    for_at: float = 0.0
    """The moment that it is for."""
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many tasks of a service the machines have room for; None where nothing is reserved."""

    most: int | None = None
    missing: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What the loop must not forget of a service over a restart of control. Times are seconds since the epoch."""

    hpa: Memory = field(default_factory=Memory)
    panic: Panic = field(default_factory=Panic)
    latency: LatencyMemory = field(default_factory=LatencyMemory)
    active_at: float | None = None
    """When it was last seen to have something to do."""
    begun_at: float | None = None
    """When it first had a task under this loop."""
    at_zero: bool = False
    """Whether it was this loop that took its last task."""
    told_short: bool = False
    """Whether the present shortage has been told."""
    ready_s: float = 30.0
    """How long its tasks took lately from being asked for to being ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What came of one look at a service, with every number behind it."""

    app: str
    service: str
    at: float
    current: int
    ready: int
    wanted: int
    low: int
    high: int
    proposals: tuple[Proposal, ...] = ()
    asked: int | None = None
    """The largest that measures ask for, before windows and policies; None where they are not heeded."""
    stable: int | None = None
    """What the stabilisation windows left of it."""
    allowed: int | None = None
    """What the policies left of that."""
    panic: bool = False
    foreseen: Foreseen | None = None
    room: int | None = None
    short: int = 0
    """How many it would have more if machines had room."""
    sentence: str = ""
    because: tuple[str, ...] = ()
    """Step by step, each in a sentence: why not more and why not fewer."""

    @property
    def changes(self) -> bool:
        """Whether the service is to have another size."""
        return self.wanted != self.current


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """A service that load moves. ``origin`` is ``file`` or ``set`` (by a user, in place of the file's)."""

    app: str
    service: str
    spec: ScaleSpec
    origin: str
    current: int
    ready: int
    sentence: str
    last: Decision | None = None
    foretold: tuple[str, ...] = ()
    """What the back-tests of its history said."""
