"""Passwords: argon2id (19 MiB, 2 passes, 1 lane: OWASP's second profile), two checks at a time, in threads.

Argon2's library is imported when the first password is set or checked: most requests come with tokens.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from hunqi.identity.errors import PasswordBusyError, PasswordError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LEAST_CHARACTERS: Final = 10
MOST_BYTES: Final = 1024
_PARALLEL: Final = 2
_WAIT_S: Final = 10.0


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_PARALLEL)
        self._made: PasswordHasher | None = None
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash to keep. Raises ``PasswordError`` and ``PasswordBusyError``."""
        data = password.encode("utf-8", "surrogatepass")
        if len(password) < LEAST_CHARACTERS:
            raise PasswordError(f"the password is too short: use at least {LEAST_CHARACTERS} characters")
        if len(data) > MOST_BYTES:
            raise PasswordError(f"the password is too long: use at most {MOST_BYTES} bytes")
        async with _Slot(self._slots):
            return await asyncio.to_thread(self._hasher().hash, data)

    async def verify(self, kept: str | None, password: str) -> bool:
        """Whether ``password`` is that of the hash ``kept``; for None the same work is done and the answer is no."""
        data = password.encode("utf-8", "surrogatepass")
        if len(data) > MOST_BYTES:
            return False
        async with _Slot(self._slots):
            right = await asyncio.to_thread(self._verify, kept, data)
        return right and kept is not None

    def _verify(self, kept: str | None, data: bytes) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        hasher = self._hasher()
        if self._decoy is None:
            self._decoy = hasher.hash(b"nobody's")
        try:
            return hasher.verify(kept or self._decoy, data)
        except (VerificationError, InvalidHashError):
            return False

    def _hasher(self) -> PasswordHasher:
        if self._made is None:
            from argon2 import PasswordHasher

            self._made = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        return self._made


class _Slot:
    """One of the places for a check, waited for with a deadline."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._slots.acquire()
        except TimeoutError as error:
            raise PasswordBusyError("too many passwords are being checked: try again later") from error

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()
