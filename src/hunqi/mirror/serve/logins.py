"""Passwords are checked off the event loop, in threads of their own: guessing them must not hold up anything else.

A check costs tens of milliseconds of a core, so few run at once, few wait in line (of one client still fewer, so that
one that guesses does not lock out the others), and equal questions at the same time are asked once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from hunqi.mirror.access.gate import Gate
from hunqi.mirror.access.model import Caller
from hunqi.mirror.access.passwords import PARALLEL_CHECKS, PasswordCheckError

MAX_WAITING: Final = 64
MAX_WAITING_OF_CLIENT: Final = 16


class Logins:
    """Who it is that shows a password; used on one event loop."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._threads = ThreadPoolExecutor(PARALLEL_CHECKS, thread_name_prefix="login")
        self._waiting = 0
        self._by_client: Counter[str] = Counter()
        self._running: dict[tuple[str, ...], asyncio.Future[Caller]] = {}

    async def authenticate(self, header: str | None, *, client: str | None) -> Caller:
        """Return what :meth:`Gate.authenticate` returns, or raise as it does; ``client`` is the sender's address."""
        return await self._once((header or "",), lambda: self._gate.authenticate(header), client or "-")

    async def login(self, name: str, password: str, *, client: str | None) -> Caller:
        """Return what :meth:`Gate.login` returns, or raise as it does."""
        return await self._once((name, password), lambda: self._gate.login(name, password), client or "-")

    async def _once(self, key: tuple[str, ...], check: Callable[[], Caller], client: str) -> Caller:
        running = self._running.get(key)
        if running is None:
            running = self._begin(key, check, client)
        # Not awaited itself: a client that leaves must not take the answer from those who asked the same.
        await asyncio.wait([running])
        return running.result()

    def _begin(self, key: tuple[str, ...], check: Callable[[], Caller], client: str) -> asyncio.Future[Caller]:
        if self._waiting >= MAX_WAITING or self._by_client[client] >= MAX_WAITING_OF_CLIENT:
            raise PasswordCheckError("too many passwords are being checked: try again later")
        running = asyncio.get_running_loop().run_in_executor(self._threads, check)
        self._waiting += 1
        self._by_client[client] += 1
        self._running[key] = running

        def end(done: asyncio.Future[Caller]) -> None:
            self._waiting -= 1
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]
            del self._running[key]
            if not done.cancelled():
                done.exception()  # nobody may be left to hear it

        running.add_done_callback(end)
        return running
