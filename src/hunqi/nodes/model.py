"""Nodes of the cluster, as values: who has an agent where, and what is meant to happen to a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


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
    """The name in its certificate: the beginning of its key's fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """All members; ``version`` grows with each change."""

    version: int = 0
    members: tuple[Member, ...] = ()

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
    """Nothing new is placed there."""
    SURGE = "surge"
    """Services that have tasks there get as many more elsewhere, and these must be found healthy."""
    QUIET = "quiet"
    """The tasks there take nothing new; what they have is waited for."""
    DRAIN = "drain"
    """The engine stops them; the surge is taken back."""
    EMPTY = "empty"
    """Nothing runs there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainProgress:
    """Where the emptying of a node is. ``base`` are the replicas of services before it, by Swarm service."""

    step: DrainStep = DrainStep.PAUSE
    surge: Mapping[str, int] = field(default_factory=dict[str, int])
    """Swarm service → replicas that it has more than its app asks for."""
    since: str = ""
    sentence: str = ""
    """What was done last and why, for people."""


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
