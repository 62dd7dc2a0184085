"""Secrets that are shown once: 32 random bytes with a prefix that scanners know; only their SHA-256 is kept.

(A fast hash is enough: there is nothing to guess in 256 random bits.)
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

TOKEN_PREFIX: Final = "hq_"  # noqa: S105  (what every token begins with)
SETUP_PREFIX: Final = "hqs_"
SESSION_PREFIX: Final = "hqx_"


def new_secret(prefix: str) -> str:
    """Return a new secret."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """Return what is kept of it: 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_id(prefix: str) -> str:
    """Return an id that nothing else has: ``prefix`` and 16 hexadecimal digits."""
    return prefix + secrets.token_hex(8)
