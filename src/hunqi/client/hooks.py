"""Webhooks; those without an app are told of the whole cluster's events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from hunqi.client.model import Hook, HookDelivery
from hunqi.client.paging import every
from hunqi.client.transport import Transport, path_of


class Hooks:
    """Webhooks."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def hooks(self, app: str | None = None) -> AsyncIterator[Hook]:
        """Yield webhooks, without secrets."""
        return every(self._transport, _path(app))

    async def add(self, url: str, *, app: str | None = None, kinds: Sequence[str] = (), reason: str = "") -> Hook:
        """Make one; its ``secret`` is in the answer, and never shown again."""
        body = {"url": url, "kinds": list(kinds), "reason": reason}
        return await self._transport.ask("POST", _path(app), body=body)

    async def remove(self, hook: str, *, app: str | None = None) -> None:
        """Forget one."""
        await self._transport.ask("DELETE", _path(app, hook))

    def deliveries(self, hook: str, *, app: str | None = None) -> AsyncIterator[HookDelivery]:
        """Yield the last attempts, newest first."""
        return every(self._transport, _path(app, hook, "deliveries"))

    async def test(self, hook: str, *, app: str | None = None) -> HookDelivery:
        """Tell it of an event ``hook.test``, once."""
        return await self._transport.ask("POST", _path(app, hook, "test"), body={})


def _path(app: str | None, *rest: str) -> str:
    return path_of("hooks", *rest) if app is None else path_of("apps", app, "hooks", *rest)
