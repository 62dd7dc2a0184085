"""The steps that a plan is made of. Each is idempotent and says in a sentence what it does and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from hunqi.apps.model import DeployState
from hunqi.apps.operations import Problem, ServiceProgress
from hunqi.apps.serving import Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNetwork:
    """Make the network that key ``network`` of revision ``revision`` names."""

    revision: int
    network: str
    name: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePayload:
    """Make the secret or config (``kind``) ``name`` of the stored bytes with this ``digest``."""

    kind: str
    key: str
    revision: int
    name: str
    digest: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutService:
    """Create the Swarm service ``name``, or bring it to what ``revision`` says of ``service``."""

    name: str
    service: str
    revision: int
    replicas: int
    sentence: str
    node: str | None = None
    """The id of the node that its volumes tie it to."""
    repair: bool = False
    """Whether it puts right what somebody else changed or removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleService:
    """Change only the replicas of a Swarm service, whatever revision it is of."""

    name: str
    replicas: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveService:
    """Remove a Swarm service that nothing is served by any more."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNetwork:
    """Remove a network that no service is on."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePayload:
    """Remove a secret or config that no service uses."""

    kind: str
    name: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveVolumes:
    """Remove the app's volumes from the nodes that hold them."""

    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PinVolumes:
    """Record on which node each volume lies."""

    pins: Mapping[str, str]
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteStarted:
    """Record that the new Swarm service of ``service`` has been seen."""

    service: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """Bring the deploy under way into another state; ``live`` makes that revision the one that serves."""

    state: DeployState
    sentence: str
    live: int | None = None
    awake: tuple[str, ...] = ()
    """Services that slept and were started to show their health: they stay awake until they are put to sleep again."""
    problem: Problem | None = None
    """Why a rollout ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """End the deploy under way: what serves goes on, what is new is removed."""

    service: str
    code: str
    sentence: str
    remedy: str
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Remove the app from the database: nothing is left of it in the Swarm."""

    sentence: str


Step: TypeAlias = (
    CreateNetwork
    | CreatePayload
    | PutService
    | ScaleService
    | RemoveService
    | RemoveNetwork
    | RemovePayload
    | RemoveVolumes
    | PinVolumes
    | NoteStarted
    | Advance
    | Fail
    | Forget
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now. Steps are in order and may be done one after the other; none means wait, or that all is well."""

    steps: tuple[Step, ...]
    serving: Serving | None
    """What the gateways are to do; None means that they forget the app."""
    sentence: str
    services: tuple[ServiceProgress, ...] = ()
    settled: bool = False
    """Whether all is as it should be."""
    wake_in_s: float | None = None
    """When to look again though nothing happened."""
    awaits_spread: frozenset[str] | None = None
    """Images that enough nodes are to hold."""
    awaits_force: bool = False
    awaits_drained: Mapping[str, float] = field(default_factory=dict[str, float])
    """Backend → how long to wait for its requests."""
