"""The text of a join token: where to knock, whom to find there, and the secret that opens.

``hj1.`` and base64url of: 32 bytes, the SHA-256 of the cluster's authority; 32 bytes of secret; then UTF-8
``name@host:port`` of the agents that let joins through, with commas between. The names are those in the agents'
certificates, so that no other agent of the cluster can pass for one that hands out managers' tokens.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hunqi.nodes.errors import JoinTokenError

_PREFIX: Final = "hj1."
_BYTES: Final = 32
_MOST_CHARACTERS: Final = 2048
_DOOR: Final = re.compile(r"(?P<agent>[0-9a-f]{32})@(?P<address>[\[\]A-Za-z0-9_.:-]+:[0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinDoor:
    """An agent that lets joins through: the name in its certificate, and ``host:port``."""

    agent: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A join token, read."""

    ca_fingerprint: str
    secret: str = field(repr=False)
    doors: tuple[JoinDoor, ...]

    def __str__(self) -> str:
        """Return the text; it is secret."""
        where = ",".join(f"{each.agent}@{each.address}" for each in self.doors)
        packed = bytes.fromhex(self.ca_fingerprint) + bytes.fromhex(self.secret) + where.encode()
        return _PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def make(cls, ca_fingerprint: str, doors: Iterable[JoinDoor]) -> JoinToken:
        """Make one with a new secret."""
        return cls(ca_fingerprint=ca_fingerprint, secret=secrets.token_hex(_BYTES), doors=tuple(doors))

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Read one. Raises ``JoinTokenError``."""
        stripped = "".join(text.split())
        if not stripped.startswith(_PREFIX) or len(stripped) > _MOST_CHARACTERS:
            raise JoinTokenError(f"this is no join token: it begins with {_PREFIX}; make one with `hunqi node token`")
        body = stripped.removeprefix(_PREFIX)
        try:
            packed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            where = packed[2 * _BYTES :].decode("ascii")
        except ValueError as error:
            raise JoinTokenError("this join token is damaged: copy it whole") from error
        found = [_DOOR.fullmatch(part) for part in where.split(",")]
        doors = tuple(JoinDoor(agent=each["agent"], address=each["address"]) for each in found if each)
        if len(doors) != len(found):
            raise JoinTokenError("this join token is damaged: copy it whole")
        return cls(ca_fingerprint=packed[:_BYTES].hex(), secret=packed[_BYTES : 2 * _BYTES].hex(), doors=doors)
