"""Rollouts: how an app's newest revision comes to its users."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hunqi.client.model import Deploy, Look, RolloutView
from hunqi.client.paging import every
from hunqi.client.transport import Transport, path_of


class Rollouts:
    """The last rollout of each app."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def all(self) -> AsyncIterator[RolloutView]:
        """Yield the last rollout of each app that the caller may see, by app."""
        return every(self._transport, "/v1/rollouts")

    async def show(self, app: str) -> RolloutView:
        """Return an app's last one."""
        return await self._transport.ask("GET", path_of("apps", app, "rollout"))

    def looks(self, app: str) -> AsyncIterator[Look]:
        """Yield what was seen of it, oldest first."""
        return every(self._transport, path_of("apps", app, "rollout", "looks"))

    async def promote(self, app: str, *, full: bool = False, force: bool = False, reason: str = "") -> RolloutView:
        """Have it go on to the next step; with ``full`` past all, with ``force`` whether ready or not."""
        body = {"full": full, "force": force, "reason": reason}
        return await self._transport.ask("POST", path_of("apps", app, "rollout", "promote"), body=body)

    async def say(self, app: str, verb: str, *, reason: str = "") -> RolloutView:
        """Have it ``pause``, ``resume``, ``approve`` or ``abort``."""
        return await self._transport.ask("POST", path_of("apps", app, "rollout", verb), body={"reason": reason})

    async def retry(self, app: str, *, reason: str = "") -> Deploy:
        """Begin one anew that was aborted or failed."""
        return await self._transport.ask("POST", path_of("apps", app, "rollout", "retry"), body={"reason": reason})

    async def undo(self, app: str, *, reason: str = "") -> Deploy:
        """Go back to the revision that served before."""
        return await self._transport.ask("POST", path_of("apps", app, "rollout", "undo"), body={"reason": reason})
