"""Takes the datagrams of the tested app: each signal, start and end of a task, and each POST, whoever got it.

Datagrams may be lost, so that silence proves nothing: :meth:`Collector.missing` says of which POSTs none came.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Collection, Generator
from dataclasses import dataclass
from typing import Any, Final

_BUFFER_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event of a task; ``at`` is seconds of the wall clock."""

    event: str
    at: float
    task: str
    revision: str
    more: dict[str, Any]


class Collector:
    """Listens at ``address`` (``HOST:PORT``: what the app's COLLECT is set to)."""

    def __init__(self, host: str) -> None:
        """Bind to a free port of ``host``."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.bind((host, 0))
        self._told: list[Told] = []
        self._thread = threading.Thread(target=self._take, name="collector", daemon=True)

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join(5.0)
        self._socket.close()

    def told(self, event: str | None = None) -> list[Told]:
        """Return what came so far, in the order of its coming."""
        return [told for told in list(self._told) if event in (None, told.event)]

    def posts(self) -> Counter[str]:
        """Return how often each POST was got, over all tasks."""
        return Counter(str(told.more["id"]) for told in self.told("post"))

    def duplicates(self) -> list[str]:
        """Return the ids of the POSTs that were got more than once, by one task or by several."""
        return sorted(name for name, times in self.posts().items() if times > 1)

    def missing(self, ids: Collection[str]) -> set[str]:
        """Return which of ``ids`` no task has told of."""
        return set(ids) - set(self.posts())

    def _take(self) -> None:
        while True:
            data = self._socket.recv(4096)
            if not data:
                return
            found = json.loads(data)
            known = {name: found.pop(name) for name in ("event", "at", "task", "revision")}
            self._told.append(Told(**known, more=found))


@contextlib.contextmanager
def collector(host: str = "127.0.0.1") -> Generator[Collector]:
    """Run a :class:`Collector`."""
    running = Collector(host)
    running.start()
    try:
        yield running
    finally:
        running.stop()
