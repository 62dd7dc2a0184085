"""This node's certificates, the agent's own and its mirror's: how long they last, and new ones in their place.

Keys are made here and stay here. New certificates count from the next handshake on; connections that are there go on.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from hunqi.agent.errors import BadRequestError
from hunqi.nodes import credentials
from hunqi.nodes.credentials import Holding
from hunqi.nodes.identity import IdentityError, TlsPaths, client_context, reload_context, server_context
from hunqi.nodes.wire import CertificateRequests, GivenCertificates

_log: Final = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return this moment."""
    return datetime.now(UTC)


class Certificates:
    """The two pairs of files, and the contexts that use the agent's."""

    def __init__(self, agent: TlsPaths, mirror: TlsPaths | None, *, now: Callable[[], datetime] = utc_now) -> None:
        """Finish a swap that was cut short; ``mirror`` is None where the machine keeps none. Raises ``OSError``."""
        self._agent = agent
        self._mirror = mirror
        self._now = now
        self._contexts: list[ssl.SSLContext] = []
        self._lock = asyncio.Lock()
        for paths in self._all():
            credentials.settle(paths)
        self._held = self._read()

    def server_context(self) -> ssl.SSLContext:
        """Return a context that serves, strangers too, and keeps up with renewals. Raises ``IdentityError``."""
        self._contexts.append(server_context(self._agent, anonymous=True))
        return self._contexts[-1]

    def client_context(self) -> ssl.SSLContext:
        """Return a context to ask other agents with, that keeps up with renewals. Raises ``IdentityError``."""
        self._contexts.append(client_context(self._agent))
        return self._contexts[-1]

    @property
    def now(self) -> float:
        """This machine's clock, seconds since 1970."""
        return self._now().timestamp()

    @property
    def expires_at(self) -> float:
        """When the first of them ends, seconds since 1970; 0 if none can be read."""
        return min((each.not_after.timestamp() for each in self._held), default=0.0)

    @property
    def renew(self) -> bool:
        """Whether new ones are wanted: a third of a life is left, or the mirror's is not in this agent's name."""
        now, names = self._now(), {each.identity.name for each in self._held}
        return len(self._held) < len(self._all()) or len(names) > 1 or any(each.due(now) for each in self._held)

    async def request(self) -> CertificateRequests:
        """Return requests for new keys, the same ones until they are answered. Raises ``OSError``."""
        async with self._lock:
            agent = await asyncio.to_thread(credentials.begin, self._agent)
            mirror = await asyncio.to_thread(credentials.begin, self._mirror) if self._mirror else ""
            return CertificateRequests(agent=agent, mirror=mirror)

    async def take(self, given: GivenCertificates, *, reload_mirror: Callable[[], Awaitable[None]]) -> None:
        """Use these from now on. Raises ``BadRequestError`` for what was not asked for, ``OSError``."""
        async with self._lock:
            try:
                name = credentials.read_holding(self._agent.cert).identity.name
                await asyncio.to_thread(credentials.install, self._agent, given.agent, holder=name)
                for context in self._contexts:
                    reload_context(context, self._agent)
                if self._mirror and given.mirror:
                    await asyncio.to_thread(credentials.install, self._mirror, given.mirror, holder=name)
                    await reload_mirror()
            except IdentityError as error:
                raise BadRequestError(f"the new certificate is not taken: {error}") from error
            finally:
                self._held = self._read()
        _log.info("new certificates are in use")

    def _all(self) -> tuple[TlsPaths, ...]:
        return (self._agent, self._mirror) if self._mirror else (self._agent,)

    def _read(self) -> tuple[Holding, ...]:
        found: list[Holding] = []
        for paths in self._all():
            try:
                found.append(credentials.read_holding(paths.cert))
            except IdentityError as error:
                _log.warning("%s", error)
        return tuple(found)
