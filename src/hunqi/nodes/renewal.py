"""New certificates before the old ones end, as control gives them out.

An agent says in its status that a third of a life is left. Control then asks it, over the connection on which each has
seen the other's present certificate, for requests of new keys, which never leave the machine, and signs them for the
name by which it has just authenticated the agent, whatever the requests say. What goes wrong is tried again; the third
of a life is the time for that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from hunqi.errors import HunqiError
from hunqi.nodes import credentials
from hunqi.nodes.authority import ClusterAuthority
from hunqi.nodes.identity import Role, TlsPaths
from hunqi.nodes.model import AgentStatus, Member, Roster
from hunqi.nodes.wire import CertificateRequests, GivenCertificates

LOOK_S: Final = 30.0
_log: Final = logging.getLogger(__name__)


class Agents(Protocol):
    """The agents."""

    async def certificate_requests(self, node: str) -> CertificateRequests:
        """Have an agent make new keys."""
        ...

    async def put_certificates(self, node: str, given: GivenCertificates) -> AgentStatus:
        """Have it use new certificates."""
        ...


class Known(Protocol):
    """What the last round found."""

    def current(self) -> Roster:
        """Return the roster."""
        ...

    def status(self, node: str) -> AgentStatus | None:
        """Return what the node's agent said, None if it did not answer."""
        ...


class Renewals:
    """Certificates of agents and their mirrors; :meth:`run` on the leader only."""

    def __init__(
        self, agents: Agents, authority: ClusterAuthority, known: Known, *, now: Callable[[], datetime]
    ) -> None:
        self._agents = agents
        self._authority = authority
        self._known = known
        self._now = now

    async def run(self) -> None:
        """Renew what is due, until cancelled."""
        while True:
            await self.renew_all()
            await asyncio.sleep(LOOK_S)

    async def renew_all(self) -> None:
        """Renew for every agent that asks for it; one that fails is asked again at the next look."""
        for member in self._known.current().members:
            status = self._known.status(member.node)
            if status is None or not status.renew:
                continue
            try:
                await self.renew(member)
            except HunqiError as error:
                _log.warning("the certificates of %s are not renewed yet: %s", member.name, error)

    async def renew(self, member: Member) -> None:
        """Give the agent of ``member``, and its mirror, certificates of new keys. Raises ``HunqiError``."""
        asked = await self._agents.certificate_requests(member.node)
        now, hosts = self._now(), (_host(member.address),)

        def signed(request: str, role: Role) -> str:
            return self._authority.sign(request, role, name=member.agent, hosts=hosts, now=now) if request else ""

        given = GivenCertificates(agent=signed(asked.agent, Role.AGENT), mirror=signed(asked.mirror, Role.MIRROR))
        await self._agents.put_certificates(member.node, given)
        _log.info("the certificates of %s are renewed", member.name)


def renew_own(paths: TlsPaths, authority: ClusterAuthority, *, now: datetime) -> bool:
    """Renew control's own certificate if a third of its life is left; return whether it was.

    Raises ``IdentityError``, ``AuthorityError``, ``OSError``.
    """
    held = credentials.read_holding(paths.cert)
    if not held.due(now):
        return False
    request, name = credentials.begin(paths), held.identity.name
    credentials.install(paths, authority.sign(request, held.identity.role, name=name, now=now), holder=name)
    return True


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
