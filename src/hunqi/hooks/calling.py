"""Calls a webhook over HTTP, once: no redirects, ten seconds, nothing of the answer kept but its status.

Who is no administrator must not make control speak to what only its machine reaches: addresses are looked at where
they are dialled, after names are resolved, so that a name that changes its address gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from hunqi.hooks.model import Hook, body_of, signature
from hunqi.state.events import Event

TIMEOUT_S: Final = 10.0
_OK: Final = range(200, 300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a call: ``problem`` is None when the webhook took it."""

    status: int | None
    problem: str | None


def is_near(address: str) -> bool:
    """Whether ``address`` is one of the machine itself or of its link, where metadata services are."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast


class _Guarded(AbstractResolver):
    """Resolves names, and leaves out what is near."""

    def __init__(self) -> None:
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if far := [each for each in found if not is_near(each["host"])]:
            return far
        raise OSError(None, f"{host} is an address of this machine: only an administrator's webhook may go there")

    async def close(self) -> None:
        await self._resolver.close()


class Caller:
    """Calls webhooks. Use it inside one event loop; :meth:`close` at the end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` tells seconds since the epoch."""
        self._clock = clock
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close the connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def call(self, hook: Hook, key: bytes, event: Event) -> Answer:
        """Tell ``hook`` of ``event``; never raises for what is wrong at the other end."""
        host = urlsplit(hook.url).hostname or ""
        if not hook.trusted and is_near(host):
            return Answer(status=None, problem=f"{host} is an address of this machine: an administrator may go there")
        body, at, message = body_of(event), int(self._clock()), f"{hook.id}-{event.seq}"
        headers = {
            "content-type": "application/json",
            "user-agent": "hunqi",
            "webhook-id": message,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(key, message, at, body),
        }
        try:
            async with self._session(trusted=hook.trusted).post(
                hook.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return Answer(status=None, problem=str(error) or f"no answer within {TIMEOUT_S:.0f} s")
        return Answer(status=status, problem=None if status in _OK else f"it answered {status}")

    def _session(self, *, trusted: bool) -> aiohttp.ClientSession:
        if trusted not in self._sessions:
            options: dict[str, Any] = {} if trusted else {"resolver": _Guarded()}
            self._sessions[trusted] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=32, force_close=True, use_dns_cache=False, **options),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                trust_env=False,
            )
        return self._sessions[trusted]
