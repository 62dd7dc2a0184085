"""Follows one Envoy: what is in force, what is healthy, how many requests are open.

Envoy's admin interface has no events, so it is asked: once a second when nothing is going on, twenty times a second
while somebody waits for a change (a new table, a drain, held requests), and less often where the answer is dear.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from hunqi.gateway.admin import Admin, AdminUnreachableError, Host

IDLE_S: Final = 1.0
ATTENTIVE_S: Final = 0.05
_ATTENTION_S: Final = 5.0
"""How long attention lasts after it was last asked for."""
_SHARE: Final = 5
"""At least this many times as long as a question took is waited before the next."""
_STATE: Final = r"(version_text|cluster_manager\.warming_clusters|total_listeners_warming|update_rejected)$"


@dataclass(frozen=True, slots=True)
class Found:
    """What an Envoy answered last. ``running`` is False when it did not."""

    running: bool
    hosts: tuple[Host, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far Envoy is with what was written."""

    missing: frozenset[str]
    """Versions not yet taken in."""
    warming: bool
    rejected: bool


class Watch:
    """Asks one Envoy again and again and tells ``tell`` of every answer that differs from the one before."""

    def __init__(self, admin: Admin, tell: Callable[[Found], Awaitable[None]]) -> None:
        """``tell`` is called in the task of ``run``."""
        self._admin = admin
        self._tell = tell
        self._wake = asyncio.Event()
        self._attentive_until = 0.0
        self._rejected: Mapping[str, int] = {}

    def attend(self, for_s: float = _ATTENTION_S) -> None:
        """Ask often from now on, for ``for_s`` seconds."""
        self._attentive_until = max(self._attentive_until, time.monotonic() + for_s)
        self._wake.set()

    async def run(self) -> None:
        """Ask for ever. Ends only by cancellation."""
        last: Found | None = None
        while True:
            began = time.monotonic()
            found = await self._ask()
            if found != last:
                last = found
                await self._tell(found)
            took = time.monotonic() - began
            interval = ATTENTIVE_S if time.monotonic() < self._attentive_until else IDLE_S
            await self._pause(max(interval, took * _SHARE), took)

    async def progress(self, versions: Collection[str]) -> Progress:
        """Say which of ``versions`` are not in force yet. Raises ``AdminUnreachableError``."""
        said = await self._admin.stats(_STATE)
        texts = {str(value) for value in said.values()}
        rejected = {name: int(value) for name, value in said.items() if name.endswith("update_rejected") and value}
        grown = any(count > self._rejected.get(name, 0) for name, count in rejected.items())
        warming = any(value for name, value in said.items() if name.endswith("warming") or "warming_cl" in name)
        return Progress(frozenset(versions) - texts, warming=bool(warming), rejected=grown)

    async def note_rejections(self) -> None:
        """Count rejections from here: what was refused before is no news. Raises ``AdminUnreachableError``."""
        said = await self._admin.stats(r"update_rejected$")
        self._rejected = {name: int(value) for name, value in said.items()}

    async def _ask(self) -> Found:
        try:
            return Found(running=True, hosts=tuple(await self._admin.hosts()))
        except AdminUnreachableError:
            return Found(running=False)

    async def _pause(self, interval_s: float, floor_s: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(interval_s):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(max(ATTENTIVE_S, floor_s))
