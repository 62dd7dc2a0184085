"""Content digests: ``algorithm:hex``, sha256 or sha512 (image-spec 1.1, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol

from hunqi.errors import UserError


class Hasher(Protocol):
    """The part of a :mod:`hashlib` object that is used here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of what was added so far."""
        ...


Algorithm = Literal["sha256", "sha512"]

_PATTERNS: Final[dict[Algorithm, re.Pattern[str]]] = {
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "sha512": re.compile(r"[0-9a-f]{128}"),
}


class DigestError(UserError):
    """A text is not a digest that this registry understands."""

    code: ClassVar[str] = "oci.digest_invalid"


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A verified-by-form digest; ``str(digest)`` is its canonical text and ``hex`` is safe as a file name."""

    algorithm: Algorithm
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse ``sha256:<64 hex>`` or ``sha512:<128 hex>``; raise :class:`DigestError` on anything else."""
        algorithm, _, encoded = text.partition(":")
        if algorithm != "sha256" and algorithm != "sha512":
            raise DigestError(f"{text[:200]!r} is not a digest: use sha256:<64 hex digits> or sha512:<128 hex digits>")
        if not _PATTERNS[algorithm].fullmatch(encoded):
            raise DigestError(f"{text[:200]!r} is not a digest: {algorithm} takes lower-case hex digits only")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: Algorithm = "sha256") -> Digest:
        """Return the digest of ``data``."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> Hasher:
        """Return a fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


EMPTY_SHA256: Final = Digest.of(b"")
EMPTY_SHA512: Final = Digest.of(b"", "sha512")
