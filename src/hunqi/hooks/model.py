"""Webhooks as values, and the port by which they are asked for.

What is sent follows Standard Webhooks (github.com/standard-webhooks): a JSON body, and headers ``webhook-id``,
``webhook-timestamp`` and ``webhook-signature``, an HMAC-SHA256 over the three with the key that was shown once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

from hunqi.apps.operations import Change
from hunqi.state.events import Event

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how secrets of Standard Webhooks begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A webhook. Without ``app`` it is told of everything; ``kinds`` are patterns (``rollout.*``), none is all."""

    id: str
    app: str | None
    url: str
    kinds: tuple[str, ...]
    trusted: bool
    told: int
    created_at: str
    problem: str | None = None
    """Why the last event was not delivered, if it was not."""
    secret: str = field(default="", repr=False)
    """Shown once, when it is made."""

    def wants(self, event: Event) -> bool:
        """Whether it is to be told of ``event``."""
        ours = self.app is None or event.app == self.app
        return ours and (not self.kinds or any(fnmatchcase(event.kind, each) for each in self.kinds))


@dataclass(frozen=True, slots=True, kw_only=True)
class HookDelivery:
    """An attempt to tell of an event. ``status`` is the answer's, None if there was none."""

    event: int
    at: str
    attempt: int
    status: int | None
    problem: str | None


class Hooks(Protocol):
    """The webhooks of an app, or (``app`` None) of the whole cluster."""

    async def hooks(self, app: str | None) -> Sequence[Hook]:
        """Return them, oldest first, without secrets."""
        ...

    async def add(self, app: str | None, url: str, kinds: Sequence[str], change: Change, *, trusted: bool) -> Hook:
        """Make one that is told of what happens from now on. Raises ``HookRefusedError``."""
        ...

    async def remove(self, app: str | None, hook: str, change: Change) -> None:
        """Forget one. Raises ``HookNotFoundError``."""
        ...

    async def deliveries(self, app: str | None, hook: str, *, limit: int = 50) -> Sequence[HookDelivery]:
        """Return the last attempts, newest first. Raises ``HookNotFoundError``."""
        ...

    async def test(self, app: str | None, hook: str) -> HookDelivery:
        """Tell it of an event ``hook.test`` now, once. Raises ``HookNotFoundError``."""
        ...


def body_of(event: Event) -> bytes:
    """Return what is sent of an event."""
    data: dict[str, Any] = {
        "seq": event.seq,
        "app": event.app,
        "subject": event.subject,
        "actor": event.actor,
        "sentence": event.reason,
        **({"details": dict(event.data)} if event.data else {}),
    }
    whole = {"type": event.kind, "timestamp": event.at, "data": data}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def signature(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature`` for the message called ``message``, at ``timestamp`` (seconds)."""
    signed = f"{message}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
