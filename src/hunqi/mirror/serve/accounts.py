"""What a worker counts, and the line it writes per request.

Counters are plain numbers of this process; the fetcher adds up the reports of all workers for ``/metrics``. Access
lines are JSON, one per request, gathered for at most a quarter of a second.
"""

from __future__ import annotations

import asyncio
import json
import os
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from hunqi.kit.rpc import Payload
from hunqi.mirror.serve.asking import Trace

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Upper bounds of the latency histogram, in seconds."""
_FLUSH_S: Final = 0.25
_FLUSH_BYTES: Final = 64 * 1024


class Counters:
    """Counts of this worker since it started."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._latency: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()

    def count(self, trace: Trace, *, status: int, length: int, seconds: float) -> None:
        """Add one request."""
        self._requests[trace.kind, status, trace.outcome] += 1
        self._bytes[trace.kind, trace.outcome] += length
        buckets = self._latency.get(trace.kind)
        if buckets is None:
            buckets = self._latency[trace.kind] = [0] * (len(BUCKETS_S) + 1)
        buckets[bisect_left(BUCKETS_S, seconds)] += 1
        self._seconds[trace.kind] += seconds  # pyright: ignore[reportArgumentType]  # a Counter adds floats as well

    def report(self) -> Payload:
        """Return everything counted so far as a JSON object."""
        return {
            "requests": [[*key, value] for key, value in self._requests.items()],
            "bytes": [[*key, value] for key, value in self._bytes.items()],
            "latency": {kind: list(buckets) for kind, buckets in self._latency.items()},
            "seconds": dict(self._seconds),
        }


class AccessLog:
    """Writes access lines to a descriptor; when that cannot take them in time the oldest are dropped and counted."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[str] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0

    def write(
        self, request: web.BaseRequest, trace: Trace, *, status: int, length: int, seconds: float, at: float
    ) -> None:
        """Note one request."""
        line = _ENCODE(
            {
                "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
                "client": request.remote,
                "kind": trace.kind,
                "method": request.method,
                "path": _path(request)[:1024],
                "status": status,
                "bytes": length,
                "ms": round(seconds * 1000, 2),
                "outcome": trace.outcome,
                "user": trace.user,
                "repository": trace.repository,
                "digest": trace.digest,
                "agent": request.headers.get("User-Agent", "-")[:128],
            }
        )
        self._lines.append(line)
        self._size += len(line)
        if self._size > _FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what is gathered, as far as the descriptor takes it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        data = memoryview(("\n".join(self._lines) + "\n").encode() if self._lines else b"")
        self._lines.clear()
        self._size = 0
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError:
                self.dropped += 1
                return


def _path(request: web.BaseRequest) -> str:
    """Return the path as it was written; without the query where that names accounts, ours or another registry's."""
    path = request.raw_path
    return path.partition("?")[0] if path.startswith("/token") else path


_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
