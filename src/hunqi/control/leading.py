"""Who leads, of several control processes on one database; and where the others can reach it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hunqi.nodes.model import Roster
from hunqi.state.leases import Leadership, Leases

LEASE: Final = "control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A control process: by its node, since several may listen at the same address of their own loopback."""

    node: str
    url: str
    """Where its API is for other machines; empty where it listens on loopback only."""

    def __str__(self) -> str:
        return f"{self.node} {self.url}".strip()

    @classmethod
    def parse(cls, text: str) -> Holder:
        """Read what ``str`` wrote."""
        node, _, url = text.partition(" ")
        return cls(node=node, url=url)

    @classmethod
    def at(cls, node: str, host: str, port: int, *, own_address: str) -> Holder:
        """Return the process that listens at ``host``; ``own_address`` (``host:port``) is one of its machine's."""
        if host in {"0.0.0.0", "::"}:  # compared, not listened on
            host = own_address.rpartition(":")[0].strip("[]")
        if _is_loopback(host):
            return cls(node=node, url="")
        return cls(node=node, url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Leading:
    """Who leads (the API's port ``Leader``), as of the last look."""

    def __init__(self, leadership: Leadership, own: Holder, roster: Callable[[], Roster]) -> None:
        self._leadership = leadership
        self._own = own
        self._roster = roster
        self._seen: Holder | None = None
        self._was_seen = False
        self._led = False

    @property
    def leading(self) -> bool:
        """Whether this process does."""
        return self._leadership.lease is not None

    @property
    def address(self) -> str | None:
        """The URL of the one that does; None where nobody does or it cannot be reached from elsewhere."""
        return self._seen.url or None if self._seen else None

    @property
    def machine(self) -> str | None:
        """The name of its machine, None while nobody does."""
        if self._seen is None:
            return None
        member = self._roster().of(self._seen.node)
        return member.name if member else self._seen.node

    @property
    def was_seen(self) -> bool:
        """Whether anybody has led since this process began: from then on somebody does, or will in some seconds."""
        return self._was_seen or self.leading

    @property
    def was_succeeded(self) -> bool:
        """Whether this process led and another does now: what this one remembers is out of date."""
        return self._led and not self.leading and self._seen is not None and self._seen != self._own

    def note_led(self) -> None:
        """Remember that this process has led."""
        self._led = True

    async def look(self, leases: Leases) -> None:
        """See who it is. Raises what ``Database.read`` raises."""
        held = await leases.holder(LEASE)
        self._seen = Holder.parse(held) if held else None
        self._was_seen = self._was_seen or self._seen is not None
