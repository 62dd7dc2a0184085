"""Bearer tokens: what a caller may do, signed (HS256) with a key that all processes of a data directory share.

The claims are those of distribution's "Token Authentication Implementation", with the repositories by their keys in the
store instead of by the client's names, so that a token keeps its meaning if a name comes to mean something else.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import jwt

from hunqi.errors import UserError
from hunqi.mirror.access.model import Action, Scope, ScopeKind
from hunqi.mirror.access.private_file import create_private

SERVICE: Final = "hunqi"
"""Issuer and audience; the ``service`` of the challenge."""
_KEY_BYTES: Final = 32
_SKEW_S: Final = 60
_REMEMBERED: Final = 1024


class TokenInvalid(UserError):
    """A bearer token that this mirror did not issue, or that was changed."""

    code: ClassVar[str] = "access.token_invalid"


class TokenExpired(TokenInvalid):
    """A bearer token whose time is over; the client asks for another."""

    code: ClassVar[str] = "access.token_expired"


class TokenKeyError(UserError):
    """The file of the key cannot be used."""

    code: ClassVar[str] = "access.token_key"


class Issued(NamedTuple):
    """A new token, for how many seconds it is good, and since when (seconds since the epoch)."""

    token: str
    expires_in_s: int
    issued_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token says."""

    subject: str | None
    scopes: frozenset[Scope]
    expires_at: int = field(compare=False)
    """Seconds since the epoch."""


class TokenIssuer:
    """Issues and verifies tokens; safe to use from several threads.

    ``key_file`` is created (0600) by whichever process needs it first; removing it and restarting makes all tokens
    invalid. Raises :class:`TokenKeyError`.
    """

    def __init__(self, key_file: Path, *, ttl_s: float = 300.0, clock: Callable[[], float] = time.time) -> None:
        self._key = _load_key(key_file)
        self._ttl_s = max(1, int(ttl_s))
        self._clock = clock
        self._lock = threading.Lock()
        self._verified: OrderedDict[str, Claims] = OrderedDict()

    def issue(self, subject: str | None, scopes: Iterable[Scope]) -> Issued:
        """Return a token for ``subject`` (``None``: anybody) that carries exactly ``scopes``."""
        now = int(self._clock())
        claims: dict[str, Any] = {
            "iss": SERVICE,
            "aud": SERVICE,
            "iat": now,
            "exp": now + self._ttl_s,
            "jti": secrets.token_hex(8),
            "access": [_scope_to_json(scope) for scope in scopes],
        }
        if subject is not None:
            claims["sub"] = subject
        return Issued(jwt.encode(claims, self._key, algorithm="HS256"), self._ttl_s, now)

    def verify(self, token: str) -> Claims:
        """Return what ``token`` says; raise :class:`TokenInvalid` or :class:`TokenExpired`."""
        with self._lock:
            claims = self._verified.get(token)
        if claims is None:
            claims = self._decode(token)
        if claims.expires_at <= self._clock():
            raise TokenExpired("the token has expired: ask for another")
        with self._lock:
            self._verified[token] = claims
            if len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        return claims

    def _decode(self, token: str) -> Claims:
        try:
            payload = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                audience=SERVICE,
                issuer=SERVICE,
                options={"require": ["exp", "iat", "aud", "iss"], "verify_exp": False, "verify_iat": False},
            )
            claims = Claims(
                subject=payload.get("sub"),
                scopes=frozenset(_scope_from_json(entry) for entry in payload["access"]),
                expires_at=int(payload["exp"]),
            )
            issued_at = int(payload["iat"])
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise TokenInvalid("the token was not issued by this mirror: ask for another") from error
        if issued_at > self._clock() + _SKEW_S:
            raise TokenInvalid("the token was issued in the future: check the clock of this machine")
        return claims


def _load_key(path: Path) -> bytes:
    try:
        text = create_private(path, lambda: secrets.token_hex(_KEY_BYTES).encode())
    except OSError as error:
        raise TokenKeyError(f"the key of the tokens cannot be read or made at {path}: {error.strerror}") from error
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) < _KEY_BYTES:
        raise TokenKeyError(
            f"{path} does not hold a key of {_KEY_BYTES} bytes in hexadecimal: remove it and start again"
        )
    return key


def _scope_to_json(scope: Scope) -> dict[str, Any]:
    catalog = scope.kind is ScopeKind.REGISTRY
    actions = ["*"] if catalog else [action.value for action in Action if action in scope.actions]
    return {"type": scope.kind.value, "name": scope.name, "actions": actions}


def _scope_from_json(entry: dict[str, Any]) -> Scope:
    words: list[str] = entry["actions"]
    actions = frozenset(Action) if words == ["*"] else frozenset(Action(word) for word in words)
    return Scope(ScopeKind(entry["type"]), entry["name"], actions)
