"""Nodes of the cluster, as values: who has an agent where, and what is meant to happen to a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node with an agent."""

    node: str
    """The id of the node in the Swarm."""
    name: str
    """Its host name."""
    address: str
    """``host:port`` of its agent."""
    agent: str
    """The name in its certificate, and in its mirror's: the beginning of its first key's fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """All members; ``version`` grows with each change."""

    version: int = 0
    members: tuple[Member, ...] = ()

    @property
    def agents(self) -> frozenset[str]:
        """The names of all agents."""
        return frozenset(each.agent for each in self.members)

    def of(self, node: str) -> Member | None:
        """Return the member on the Swarm's node ``node``."""
        return next((each for each in self.members if each.node == node), None)


class Intent(StrEnum):
    """What a node is meant to be; persisted before anything is done."""

    ACTIVE = "active"
    DRAIN = "drain"
    REMOVE = "remove"


class DrainStep(StrEnum):
    """How far the emptying of a node is; each is entered before what it says is done."""

    PAUSE = "pause"
    """Nothing new is placed there; what to surge is reckoned."""
    SURGE = "surge"
    """Services that have tasks there get as many more elsewhere, and these must be found healthy."""
    DRAIN = "drain"
    """The engine stops the tasks there, each by way of a drain in every gateway."""
    RETURN = "return"
    """The surge is taken back: what goes are the engine's replacements that it has held back so far."""
    EMPTYING = "emptying"
    """The last tasks there are on their way out."""
    EMPTY = "empty"
    """Nothing of the apps runs there any more."""
    ACTIVATE = "activate"
    """It takes tasks again, and what was started elsewhere meanwhile goes."""
    CAUGHT = "caught"
    """Somebody else drained it: one more elsewhere at once, since the engine holds replacements back."""
    RELEASE = "release"
    """What was started then goes."""


SURGING: Final = frozenset({DrainStep.SURGE, DrainStep.DRAIN, DrainStep.CAUGHT})
"""The steps in which services are meant to have more replicas than their apps ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """A service in surge: it had ``base`` replicas, and is to have ``more`` besides."""

    base: int
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainProgress:
    """Where the emptying of a node is."""

    step: DrainStep = DrainStep.PAUSE
    surge: Mapping[str, Extra] = field(default_factory=dict[str, Extra])
    """By Swarm service."""
    since: float = 0.0
    """Seconds since 1970 at which the step was entered."""
    force: bool = False
    """Whether services that cannot be healthy elsewhere are stopped all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """What control remembers of a node. ``address`` and ``agent`` are empty for one without an agent."""

    node: str
    name: str
    address: str = ""
    agent: str = ""
    intent: Intent = Intent.ACTIVE
    progress: DrainProgress | None = None
    joined_at: str = ""
    seen_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """What an agent says of itself."""

    node: str
    version: str
    table: int
    """The version of the last table that it took, 0 for none."""
    roster: int
    gateway: bool
    """Whether its gateway runs."""
    draining: tuple[str, ...] = ()
    """Tasks that it has out of its gateway by itself."""
    problem: str = ""
    expires_at: float = 0.0
    """When the first of its certificates ends, seconds since 1970; 0 if it does not say."""
    renew: bool = False
    """Whether it wants new ones."""
    clock: float = 0.0
    """Its clock at the answer, seconds since 1970; 0 if it does not say."""
    engine: str = ""
    """Why its Docker is of no use now, in a sentence; empty if it answers."""
