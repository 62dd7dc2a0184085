"""Passwords that somebody else vouches for: signed statements of who may do what, as Hunqi's control gives them.

A password that begins with ``hqr_`` is a JSON Web Token signed by Ed25519 (RFC 8037): ``sub`` names the user,
``grants`` lists what it gives (``shop:pull,push``), ``exp`` ends it. So rights are given in one place and hold at all,
without users there. The mirror only has the public key. Verified passwords are remembered until they end.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hunqi.errors import UserError
from hunqi.mirror.access.model import VOUCHED_PREFIX, Caller, Grant, GrantError

MARK: Final = "hqr_"
AUDIENCE: Final = "hunqi-mirror"
_REMEMBERED: Final = 1024
_FOR_EVER: Final = float("inf")


class TrustedKeyError(UserError):
    """The file of the trusted key cannot be used."""

    code: ClassVar[str] = "access.trusted_key"


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    until: float


class Vouchers:
    """Verifies such passwords; safe to use from several threads. Without a key it knows none."""

    def __init__(self, key: Ed25519PublicKey | None, *, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    @classmethod
    def open(cls, path: Path | None) -> Vouchers:
        """Return those of the public key (PEM, Ed25519) at ``path``. Raises :class:`TrustedKeyError`."""
        if path is None:
            return cls(None)
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise TrustedKeyError(f"the trusted key cannot be read at {path}: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise TrustedKeyError(f"{path} holds another kind of key: it must be of Ed25519")
        return cls(key)

    @property
    def exist(self) -> bool:
        """Whether anybody can be vouched for."""
        return self._key is not None

    def verify(self, password: str) -> Caller | None:
        """Return who the password is of, None if it is no such password, is not ours, or has ended."""
        if self._key is None or not password.startswith(MARK):
            return None
        name = hashlib.sha256(password.encode()).digest()
        with self._lock:
            known = self._known.get(name)
        if known is None:
            known = self._decode(password, self._key)
            if known is None:
                return None
            with self._lock:
                self._known[name] = known
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return known.caller if known.until > self._clock() else None

    def _decode(self, password: str, key: Ed25519PublicKey) -> _Known | None:
        try:
            payload: dict[str, Any] = jwt.decode(
                password.removeprefix(MARK),
                key,
                algorithms=["EdDSA"],
                audience=AUDIENCE,
                options={"require": ["sub", "aud"], "verify_exp": False},
            )
            grants = tuple(Grant.parse(str(text)) for text in payload["grants"])
            until = float(payload["exp"]) if "exp" in payload else _FOR_EVER
            return _Known(Caller(name=f"{VOUCHED_PREFIX}{payload['sub']}", grants=grants), until)
        except (jwt.PyJWTError, GrantError, KeyError, TypeError, ValueError):
            return None
