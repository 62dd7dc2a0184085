"""Vouchers: passwords that another issuer has signed (control, with its key) and that say what their bearer may do.

A voucher is a JWT (EdDSA, Ed25519) whose issuer's public key stands in the file of trusted keys. It is shown as the
password of its subject, so ``docker login`` works with it as it is; nobody has to be asked whether it is good, and
rights are given once, where it is made. It ends when it says so; taking a key out of the file ends all that it signed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hunqi.errors import UserError
from hunqi.mirror.access.model import Grant, GrantError

ISSUER: Final = "hunqi-control"
AUDIENCE: Final = "hunqi-registry"
NAME_PREFIX: Final = "cluster:"
"""Begins the names of bearers, so that none is taken for a user of the users file."""
_SKEW_S: Final = 60
_MOST_CHARACTERS: Final = 8192
_END: Final = "-----END PUBLIC KEY-----"


class TrustedKeysError(UserError):
    """The file of trusted keys cannot be read, or holds what is no Ed25519 public key."""

    code: ClassVar[str] = "access.trusted_keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """What a good voucher says."""

    name: str
    grants: tuple[Grant, ...]
    expires_at: int
    """Seconds since the epoch."""


class Vouchers:
    """Verifies vouchers by the keys in ``path`` (PEM, one after another); without a path none is good.

    A file that changed is read again; one that became unusable leaves the last good keys. Safe to use from several
    threads. Raises :class:`TrustedKeysError` when it is made and the file is there but cannot be used; a file that is
    not there yet holds no keys.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[Ed25519PublicKey, ...] = ()
        if path is not None:
            self._seen, self._keys = _signature(path), _load(path)

    @property
    def enabled(self) -> bool:
        """Whether there are vouchers at all, so that a login must be possible."""
        return self._path is not None

    def verify(self, name: str, password: str) -> Voucher | None:
        """Return what ``password`` vouches for ``name``; None if it is no good voucher of that name."""
        if self._path is None or not password.startswith("eyJ") or len(password) > _MOST_CHARACTERS:
            return None
        for key in self._current():
            try:
                claims = jwt.decode(
                    password, key, algorithms=["EdDSA"], audience=AUDIENCE, issuer=ISSUER, leeway=_SKEW_S,
                    options={"require": ["exp", "iat", "aud", "iss", "sub"], "verify_exp": False},
                )  # fmt: skip
                expires_at = int(claims["exp"])
                if claims["sub"] != name or expires_at <= self._clock():
                    return None
                grants = tuple(Grant.parse(text) for text in claims["grants"])
            except (jwt.PyJWTError, GrantError, KeyError, TypeError, ValueError, AttributeError):
                continue
            return Voucher(name=NAME_PREFIX + name, grants=grants, expires_at=expires_at)
        return None

    def _current(self) -> tuple[Ed25519PublicKey, ...]:
        path = self._path
        if path is None:
            return ()
        with self._lock:
            signature = _signature(path)
            if signature != self._seen:
                self._seen = signature
                with contextlib.suppress(TrustedKeysError):  # the writer may be at it: what was good stays so
                    self._keys = _load(path)
            return self._keys


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _load(path: Path) -> tuple[Ed25519PublicKey, ...]:
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise TrustedKeysError(f"the trusted keys cannot be read at {path}: {error}") from error
    keys: list[Ed25519PublicKey] = []
    for part in text.split(_END)[:-1]:
        try:
            key = serialization.load_pem_public_key((part.strip() + "\n" + _END + "\n").encode())
        except ValueError as error:
            raise TrustedKeysError(f"{path} holds what is no public key in PEM") from error
        if not isinstance(key, Ed25519PublicKey):
            raise TrustedKeysError(f"{path} holds a key that is not Ed25519")
        keys.append(key)
    if not keys and text.strip():
        raise TrustedKeysError(f"{path} holds what is no public key in PEM")
    return tuple(keys)
