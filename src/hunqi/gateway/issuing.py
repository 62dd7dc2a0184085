"""Sees to it that every host that is routed over https has a certificate, and renews those that run out.

Level-triggered: what is routed, what is held → what to serve, what to make (``certificates.plan_certificates``). The
local authority signs at once, so no host is ever without; an ACME certificate takes its place when it comes. A host
that the ACME authority refuses is tried again later and later, and the reason is kept for whoever asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from hunqi.errors import HunqiError
from hunqi.gateway.certificates import CertificatePlan, Held, plan_certificates
from hunqi.gateway.model import Certificate

ROUND_S: Final = 3600.0
_RETRY_S: Final = 30.0
FIRST_PAUSE: Final = timedelta(minutes=5)
LONGEST_PAUSE: Final = timedelta(hours=12)
_log: Final = logging.getLogger(__name__)


class CertificateStore(Protocol):
    """Where certificates are kept, their keys sealed. Errors are ``HunqiError``."""

    async def load(self) -> Sequence[Held]:
        """Return all that there are, given ones too."""
        ...

    async def save(self, held: Held) -> None:
        """Keep one; those of the same source and hosts before it may go."""
        ...


class Edges(Protocol):
    """The gateways (``hunqi.gateway.publisher.Publisher`` is one)."""

    async def tls_hosts(self, *, other_than: frozenset[str] | None, wait_s: float) -> frozenset[str]:
        """Return the hosts that are routed over https, as soon as they are not ``other_than``, or after ``wait_s``."""
        ...

    def configure(self, *, certificates: Sequence[Certificate]) -> None:
        """Serve these from now on."""
        ...


class Signer(Protocol):
    """The local authority."""

    def issue(self, host: str, *, now: datetime) -> Held:
        """Sign a new key for ``host``."""
        ...


class Issuer(Protocol):
    """An ACME authority."""

    async def issue(self, hosts: Sequence[str]) -> Held:
        """Return a certificate. Raises ``AcmeFailedError``."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the ACME authority gave nothing, and when it is asked again."""

    reason: str
    pause: timedelta
    again_at: datetime


class Issuing:
    """The certificates of the gateways. ``run`` once, where control leads."""

    def __init__(
        self,
        store: CertificateStore,
        edges: Edges,
        signer: Signer,
        issuer: Issuer | None,
        *,
        now: Callable[[], datetime],
    ) -> None:
        """Without an ``issuer`` all hosts have given or local certificates; ``now`` is in UTC."""
        self._store = store
        self._edges = edges
        self._signer = signer
        self._issuer = issuer
        self._now = now
        self._refusals: dict[str, Refusal] = {}
        self._woken = asyncio.Event()
        self._failed = False

    @property
    def refusals(self) -> Mapping[str, Refusal]:
        """Host → why it has no certificate of the ACME authority."""
        return self._refusals

    def wake(self) -> None:
        """A certificate was given or taken away: look at all again."""
        self._woken.set()

    async def run(self) -> None:
        """Keep certificates as they should be, until cancelled."""
        hosts: frozenset[str] | None = None
        while True:
            self._woken.clear()
            hosts = await self._edges.tls_hosts(other_than=hosts, wait_s=0.0)
            try:
                await self.step(hosts)
                self._failed = False
            except HunqiError as error:
                self._failed = True
                _log.warning("certificates cannot be looked at now: %s", error)
            await self._pause(hosts)

    async def step(self, hosts: Collection[str]) -> None:
        """Serve what there is for ``hosts`` and make what is missing. Raises the store's errors."""
        plan = await self._serve(hosts)
        for host in plan.local:
            await self._store.save(await asyncio.to_thread(self._signer.issue, host, now=self._now()))
        if plan.local:
            plan = await self._serve(hosts)
        self._refusals = {host: each for host, each in self._refusals.items() if host in plan.acme}
        for host in plan.acme:
            if await self._ask(host):
                await self._serve(hosts)

    async def _serve(self, hosts: Collection[str]) -> CertificatePlan:
        held = await self._store.load()
        plan = plan_certificates(hosts, held, now=self._now(), acme=self._issuer is not None)
        self._edges.configure(certificates=plan.serve)
        return plan

    async def _ask(self, host: str) -> bool:
        before = self._refusals.get(host)
        if self._issuer is None or (before is not None and self._now() < before.again_at):
            return False
        try:
            held = await self._issuer.issue([host])
        except HunqiError as error:
            pause = min(before.pause * 2, LONGEST_PAUSE) if before else FIRST_PAUSE
            self._refusals[host] = Refusal(str(error), pause, self._now() + pause)
            _log.warning("no certificate for %s, the next try in %s: %s", host, pause, error)
            return False
        self._refusals.pop(host, None)
        await self._store.save(held)
        _log.info("a certificate for %s until %s", host, held.not_after.date())
        return True

    async def _pause(self, hosts: frozenset[str]) -> None:
        """Wait until other hosts are routed, someone wakes us, or it is time to look again."""
        due = [(each.again_at - self._now()).total_seconds() for each in self._refusals.values()]
        wait_s = max(1.0, min([ROUND_S, *due]))
        if self._failed:
            wait_s = min(wait_s, _RETRY_S)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(self._edges.tls_hosts(other_than=hosts, wait_s=wait_s))
            woken = group.create_task(self._woken.wait())
            waiting.add_done_callback(lambda _: woken.cancel())
            woken.add_done_callback(lambda _: waiting.cancel())
