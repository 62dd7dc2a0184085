"""Joins as control answers them: a token buys one key a certificate and the Swarm's token of the role.

Two calls with the same body: the first gives what joining the Swarm needs, the second names the node in the Swarm and
makes it a member. Both may be repeated by the same key until the token expires, so a machine that crashed in between
just joins again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import Node, SwarmSettings
from hunqi.nodes.authority import ClusterAuthority, key_name
from hunqi.nodes.errors import JoinTokenError, NodeRefusedError
from hunqi.nodes.identity import Role
from hunqi.nodes.model import Member, Roster
from hunqi.nodes.store import NodeStore
from hunqi.nodes.tokens import JoinDoor, JoinToken

DEFAULT_VALID: Final = timedelta(hours=1)
LONGEST_VALID: Final = timedelta(days=7)
ROLES: Final = frozenset({"manager", "worker"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """What a machine sends. ``host`` is the address at which other machines reach it."""

    secret: str = field(repr=False)
    name: str
    host: str
    agent_port: int
    agent_request: str
    """A certificate request, PEM, of the agent's key."""
    mirror_request: str
    """The same of the mirror's key."""
    node: str = ""
    """The id in the Swarm, once it is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinAnswer:
    """What it gets."""

    cluster: str
    role: str
    ca: str
    agent_certificate: str
    mirror_certificate: str
    swarm_token: str = field(repr=False)
    managers: tuple[str, ...]
    """``address:port`` of the Swarm's managers."""
    roster: Roster
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was chosen once for the whole cluster: ports, ranges."""


class SwarmView(Protocol):
    """The Swarm, as a manager sees it."""

    async def inspect(self) -> SwarmSettings:
        """Return it with its join tokens."""
        ...


class NodesView(Protocol):
    """The nodes, as a manager sees them."""

    async def inspect(self, node: str, /) -> Node:
        """Return one. Raises ``NotFoundError``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinWorld:
    """What answering needs."""

    store: NodeStore
    authority: ClusterAuthority
    swarm: SwarmView
    nodes: NodesView
    managers: Callable[[], Awaitable[tuple[str, ...]]]
    """``address:port`` of the Swarm's managers."""
    settings: Mapping[str, Any]
    now: Callable[[], datetime]


class Joins:
    """Makes join tokens and answers joins."""

    def __init__(self, world: JoinWorld) -> None:
        self._world = world

    async def issue(self, role: str, *, doors: tuple[JoinDoor, ...], valid: timedelta = DEFAULT_VALID) -> JoinToken:
        """Make a token for one machine. Raises ``NodeRefusedError``."""
        if role not in ROLES:
            raise NodeRefusedError(f"{role[:20]!r} is no role: a node is a manager or a worker")
        if not timedelta(0) < valid <= LONGEST_VALID:
            raise NodeRefusedError("a join token is valid for a week at most")
        if not doors:
            raise NodeRefusedError("no other machine can reach this one: run `hunqi up --advertise ADDRESS` here first")
        token = JoinToken.make(self._world.authority.fingerprint, doors)
        await self._world.store.add_token(token.secret, role, expires_at=self._world.now() + valid)
        return token

    async def answer(self, request: JoinRequest) -> JoinAnswer:
        """Answer a machine that joins; with ``node`` it becomes a member.

        Raises ``JoinTokenError``, ``AuthorityError``, ``NodeRefusedError``, and the errors of engine and state.
        """
        world = self._world
        now = world.now()
        key = key_name(request.agent_request)
        if key_name(request.mirror_request) == key:
            raise NodeRefusedError("agent and mirror must have keys of their own")
        token = await world.store.use_token(request.secret, key, now=now)
        hosts = (request.host,)
        agent_certificate = world.authority.sign(request.agent_request, Role.AGENT, hosts=hosts, now=now)
        mirror_certificate = world.authority.sign(request.mirror_request, Role.MIRROR, name=key, hosts=hosts, now=now)
        if request.node:
            await self._admit(request, key)
        swarm = await world.swarm.inspect()
        return JoinAnswer(
            cluster=world.authority.cluster,
            role=token.role,
            ca=world.authority.ca_pem,
            agent_certificate=agent_certificate,
            mirror_certificate=mirror_certificate,
            swarm_token=swarm.manager_token if token.role == "manager" else swarm.worker_token,
            managers=await world.managers(),
            roster=await world.store.roster(),
            settings=world.settings,
        )

    async def _admit(self, request: JoinRequest, key: str) -> None:
        try:
            node = await self._world.nodes.inspect(request.node)
        except NotFoundError as error:
            raise JoinTokenError(
                f"the Swarm has no node {request.node[:40]!r}: the machine is in another Swarm"
            ) from error
        if node.id != request.node or node.hostname != request.name:
            raise JoinTokenError(f"the Swarm's node {request.node[:40]!r} is another machine: {node.hostname}")
        host = f"[{request.host}]" if ":" in request.host else request.host
        member = Member(node=node.id, name=node.hostname, address=f"{host}:{request.agent_port}", agent=key)
        await self._world.store.put_member(member, now=self._world.now())
