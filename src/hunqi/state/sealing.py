"""Sealing: secrets lie in the database encrypted (AES-256-GCM) with a key of the cluster that is in a file (0600).

What is sealed is bound to a *context* (such as ``variable/shop/secret/db``): moved to another row it does not open. The
first byte is the version of the format; then four bytes that name the key, a nonce of twelve, and the sealed text.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hunqi.kit.files import write_atomic
from hunqi.state.errors import ClusterKeyError, SealBrokenError

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NAME_BYTES: Final = 4
_NONCE_BYTES: Final = 12


class Sealer:
    """Seals and opens with one key, of which neither ``repr`` nor any message says anything."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ClusterKeyError(f"the key of the cluster has {len(key)} bytes instead of {KEY_BYTES}")
        self._cipher = AESGCM(key)
        self._key = key
        self._name = hashlib.sha256(b"hunqi key name\0" + key).digest()[:_NAME_BYTES]

    def __repr__(self) -> str:
        return "Sealer(…)"

    def derive(self, context: str) -> bytes:
        """Return 32 bytes that follow from the key and ``context`` and tell nothing of either (HKDF, RFC 5869)."""
        info = b"hunqi derived key\0" + context.encode()
        return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._key)

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """Return ``plain`` sealed for ``context``; the same text is sealed differently each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + self._name + nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Return what was sealed for ``context``. Raises ``SealBrokenError``."""
        head = len(_VERSION) + _NAME_BYTES
        if sealed[:head] != _VERSION + self._name:
            raise SealBrokenError(
                f"{context} was sealed with another key: put the cluster's key file of that time back, or set it again"
            )
        nonce, text = sealed[head : head + _NONCE_BYTES], sealed[head + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, text, context.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError(f"{context} was changed after it was sealed: set it again") from error


def load_sealer(path: Path, *, create: bool = True) -> Sealer:
    """Return the sealer of the key (64 hexadecimal digits) at ``path``; without one, make it there if ``create``.

    Of processes that race, all get the key of one. Raises ``ClusterKeyError``.
    """
    try:
        if create and not path.exists():
            _create(path)
        if path.stat().st_mode & 0o077:
            raise ClusterKeyError(f"others can read {path}: chmod 600 it, and change the secrets if they are worth it")
        key = bytes.fromhex(path.read_text("ascii").strip())
    except OSError as error:
        raise ClusterKeyError(f"the cluster's key cannot be read at {path}: {error.strerror}") from error
    except ValueError as error:
        raise ClusterKeyError(
            f"{path} does not hold {2 * KEY_BYTES} hexadecimal digits: restore it from a backup"
        ) from error
    return Sealer(key)


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")
    write_atomic(mine, secrets.token_hex(KEY_BYTES).encode(), mode=0o600)
    try:
        with suppress(FileExistsError):
            os.link(mine, path)
    finally:
        mine.unlink(missing_ok=True)
