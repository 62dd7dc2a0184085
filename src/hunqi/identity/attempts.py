"""How often logins may fail: per user from one address, per address, and per user from anywhere.

Counted in memory over a sliding quarter of an hour. The limit on a user from anywhere is high, since by it a stranger
could keep the user out; one on a user from one address is low, since that is what guessing looks like.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from hunqi.identity.errors import TooManyAttemptsError

WINDOW_S: Final = 900.0
PAIR_LIMIT: Final = 5
ADDRESS_LIMIT: Final = 30
NAME_LIMIT: Final = 100
_KEYS: Final = 20_000


class Attempts:
    """Failed logins of late."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def check(self, name: str, address: str) -> None:
        """Raise ``TooManyAttemptsError`` if ``name`` may not try from ``address`` now."""
        now = self._clock()
        for key, limit in _keys(name, address):
            failures = self._failures.get(key)
            if failures is None:
                continue
            while failures and failures[0] <= now - WINDOW_S:
                failures.popleft()
            if not failures:
                del self._failures[key]
            elif len(failures) >= limit:
                raise TooManyAttemptsError(max(1.0, failures[-limit] + WINDOW_S - now))

    def failed(self, name: str, address: str) -> None:
        """Count a failure."""
        for key, limit in _keys(name, address):
            self._failures.setdefault(key, deque(maxlen=limit)).append(self._clock())
            self._failures.move_to_end(key)
        while len(self._failures) > _KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of this user from this address."""
        self._failures.pop((name, address), None)


def _keys(name: str, address: str) -> tuple[tuple[tuple[str, str], int], ...]:
    return (((name, address), PAIR_LIMIT), (("", address), ADDRESS_LIMIT), ((name, ""), NAME_LIMIT))
