"""Passwords: argon2id, checked in the caller's thread, and remembered for a while once they were right.

A check takes tens of milliseconds and 19 MiB (OWASP's second profile, chosen for its memory), so few run at a time and
whoever calls :meth:`Passwords.verify` from an event loop does it in a thread. What is remembered is an HMAC under a key
of this process; wrong passwords are not remembered at all.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar, Final

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError, VerifyMismatchError

from hunqi.errors import DependencyError
from hunqi.mirror.access.model import User

REMEMBER_S: Final = 300.0
"""How long a right password is not checked again, in seconds."""
REMEMBER_ENTRIES: Final = 1024
PARALLEL_CHECKS: Final = 2
WAIT_S: Final = 10.0
"""Longest wait for other checks to end, in seconds."""


class PasswordCheckError(DependencyError):
    """The password could not be checked: too many checks at once, or no memory for one."""

    code: ClassVar[str] = "access.password_check"
    retry_after_s: ClassVar[float] = 2.0


def new_hasher() -> PasswordHasher:
    """Return argon2id with the parameters that new passwords get: 19 MiB, 2 passes, 1 lane (OWASP, 2024)."""
    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


class Passwords:
    """Checks passwords; safe to use from several threads."""

    def __init__(self, hasher: PasswordHasher | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._hasher = hasher or new_hasher()
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._decoy = self._hasher.hash(secrets.token_hex(16))
        self._lock = threading.Lock()
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._slots = threading.BoundedSemaphore(PARALLEL_CHECKS)

    def recall(self, user: User | None, password: str) -> bool:
        """Whether this password was found right for ``user`` lately; never blocks."""
        if user is None or user.password_hash is None:
            return False
        mark = self._mark(user.name, user.password_hash, password)
        with self._lock:
            until = self._right.get(mark)
            if until is None:
                return False
            if until <= self._clock():
                del self._right[mark]
                return False
            self._right.move_to_end(mark)
            return True

    def verify(self, user: User | None, password: str) -> bool:
        """Whether ``password`` is the user's; for no user the same work is done and the answer is no.

        Blocks for tens of milliseconds. Raises :class:`PasswordCheckError`.
        """
        if self.recall(user, password):
            return True
        password_hash = user.password_hash if user else None
        right = self._check(password_hash or self._decoy, password)
        if user is None or password_hash is None or not right:
            return False
        self._remember(self._mark(user.name, password_hash, password))
        return True

    def _check(self, password_hash: str, password: str) -> bool:
        if not self._slots.acquire(timeout=WAIT_S):
            raise PasswordCheckError("too many passwords are being checked: try again later")
        try:
            return self._hasher.verify(password_hash, password.encode("utf-8", "surrogatepass"))
        except VerifyMismatchError:
            return False
        except VerificationError as error:
            raise PasswordCheckError(f"the password could not be checked: {error}") from error
        finally:
            self._slots.release()

    def _remember(self, mark: bytes) -> None:
        with self._lock:
            self._right[mark] = self._clock() + REMEMBER_S
            self._right.move_to_end(mark)
            while len(self._right) > REMEMBER_ENTRIES:
                self._right.popitem(last=False)

    def _mark(self, name: str, password_hash: str, password: str) -> bytes:
        text = f"{name}\0{password_hash}\0{password}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).digest()
