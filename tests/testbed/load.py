"""Open-loop HTTP load: a constant rate whatever the answers do, each latency counted from the *intended* start.

    with load(Load(targets=(("10.0.0.1", 80), ("10.0.0.2", 80)), host="shop.test", rate=300, fresh=0.2)) as running:
        deploy()
    report = running.report                     # the generator has stopped by itself or been told to
    report.failures                             # each with its time, kind, target and the task that answered
    report.between(begun, ended).latency_ms(99)

A process of its own (``load_worker.py``: one thread, epoll, a timer of the kernel), in a network namespace if asked and
before others by its priority if root runs it, writes what each request came to. Nothing is retried: what a client sees
is what is counted. A request on a kept connection that the other side has just closed counts as failed, although
browsers would try again.

Its own part, measured against the tested app over loopback at 1,000 requests/s, a fifth of them on fresh connections:
the middle 0.12 ms, 99 % 0.5 ms, a seventh of a core (AMD EPYC, 2 cores; the benchmarks measure it again each time).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from testbed.programs import Daemon, ProcessFailedError

_WORKER: Final = Path(__file__).parent / "load_worker.py"
_READY_S: Final = 10.0
_END_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send; requests and sockets take the targets in turn."""

    targets: tuple[tuple[str, int], ...]
    """IPv4 address and port."""
    host: str = "load.test"
    """The Host header."""
    path: str = "/"
    rate: float = 100.0
    """Requests a second, over all targets; 0 for sockets alone."""
    duration_s: float = 600.0
    """When it stops by itself; :meth:`Running.stop` is earlier."""
    fresh: float = 0.2
    """The share of requests on a connection of their own; the others take a kept one, of ``kept`` per target."""
    kept: int = 8
    posts: float = 0.0
    """The share of POST requests; the others are GET. Each request has an id (``X-Load-Id``) that must come back."""
    timeout_s: float = 10.0
    """From the intended start to the last byte."""
    websockets: int = 0
    """Held open, an echo each second; one that ends is opened again after a second."""
    websocket_path: str = "/ws"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one request came to. ``at`` is its intended start by the clock of ``time.monotonic``."""

    id: str
    at: float
    latency_s: float
    kind: str
    """``ok``; ``refused unreachable reset closed`` (no byte of an answer came), ``cut`` (in the midst of one),
    ``timeout``, ``status`` (no 2xx), ``wrong`` (another request's answer), ``garbage`` (no HTTP)."""
    status: int
    target: int
    """Its number in :attr:`Load.targets`."""
    method: str
    fresh: bool
    task: str
    """The ``X-Task`` header of the answer."""
    seen: int
    """How often the answering task has got this POST."""
    late_s: float
    """How much later than intended it was sent, by the generator's own fault."""

    @property
    def ok(self) -> bool:
        """Whether the right answer came."""
        return self.kind == "ok"

    @property
    def ended_at(self) -> float:
        """When the answer was whole or the failure seen."""
        return self.at + self.latency_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One WebSocket. ``end`` is ``held`` (until we left), ``closed`` (a close frame with ``code``), ``cut`` (none came
    before the connection's end), ``stalled`` (no echo in time) or ``refused`` (never opened: ``detail`` says why)."""

    opened_at: float
    ended_at: float
    end: str
    code: int
    target: int
    task: str
    echoes: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All outcomes of a run, in the order of their intended start."""

    outcomes: tuple[Outcome, ...]
    sockets: tuple[Held, ...] = ()
    cpu_s: float = 0.0
    """What the generator itself used."""
    took_s: float = field(default=0.0)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """Those that did not get the right answer."""
        return tuple(found for found in self.outcomes if not found.ok)

    @property
    def duplicates(self) -> tuple[str, ...]:
        """Ids of POST requests that one task got more than once; a :class:`Collector` finds those of several."""
        return tuple(found.id for found in self.outcomes if found.method == "POST" and found.seen > 1)

    def between(self, start: float, end: float) -> Report:
        """Return the part whose intended start is in ``[start, end)``, and the sockets that ended then."""
        return Report(
            outcomes=tuple(found for found in self.outcomes if start <= found.at < end),
            sockets=tuple(found for found in self.sockets if start <= found.ended_at < end),
        )

    def where(self, wanted: Callable[[Outcome], bool]) -> Report:
        """Return the part that is wanted."""
        return Report(outcomes=tuple(found for found in self.outcomes if wanted(found)), sockets=self.sockets)

    def latency_ms(self, percent: float) -> float:
        """Return a percentile of the latencies, failures included, by nearest rank; 0 of nothing."""
        return percentile([found.latency_s for found in self.outcomes], percent) * 1e3

    def late_ms(self, percent: float) -> float:
        """Return a percentile of the generator's own lateness."""
        return percentile([found.late_s for found in self.outcomes], percent) * 1e3

    def listed(self, most: int = 12) -> str:
        """Return the first failures, a line each, times counted from the first request."""
        begun = self.outcomes[0].at if self.outcomes else 0.0
        lines = [
            f"+{found.at - begun:.3f} s {found.method} {found.kind} {found.status or ''} after "
            f"{found.latency_s * 1e3:.0f} ms, target {found.target}, "
            f"{'fresh' if found.fresh else 'kept'} connection, task {found.task or '?'}"
            for found in self.failures[:most]
        ]
        more = len(self.failures) - most
        return "\n".join([*lines, f"and {more} more"] if more > 0 else lines)

    def summary(self) -> str:
        """Return one line of figures."""
        kinds = Counter(found.kind for found in self.failures)
        failed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "0 failed"
        return (
            f"{len(self.outcomes):,} requests, {failed}; p50 {self.latency_ms(50):.2f}, p99 {self.latency_ms(99):.2f}, "
            f"most {self.latency_ms(100):.1f} ms"
        )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by nearest rank; 0 of nothing."""
    if not values:
        return 0.0
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-percent * len(ranked) // 100) - 1))]


class Running:
    """A generator at work."""

    def __init__(self, daemon: Daemon, file: Path) -> None:
        """Of a process that writes its report into ``file`` at its end."""
        self._daemon = daemon
        self._file = file
        self._report: Report | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._daemon.pid

    @property
    def report(self) -> Report:
        """What it found; waits for its end."""
        return self.wait()

    def stop(self) -> Report:
        """Begin no more requests, wait for those in flight, return the report."""
        if self._report is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        return self.wait(timeout_s=_END_S)

    def wait(self, *, timeout_s: float = 3600.0) -> Report:
        """Wait until it has stopped by itself; raise :class:`ProcessFailedError` if it fails or takes longer."""
        if self._report is None:
            if self._daemon.process.wait(timeout_s) != 0:
                raise ProcessFailedError(f"the load generator failed\n{self._daemon.tail()}")
            self._report = _parse(json.loads(self._file.read_text()))
        return self._report


@contextlib.contextmanager
def load(spec: Load, *, netns: str | None = None) -> Generator[Running]:
    """Run a generator, in the network namespace ``netns`` (a name or a path) if given; stops it at the end."""
    with tempfile.TemporaryDirectory(prefix="tb-load-") as directory:
        folder = Path(directory)
        (folder / "spec.json").write_text(json.dumps(asdict(spec)))
        command = [sys.executable, "-S", "-E", str(_WORKER), str(folder / "spec.json"), str(folder / "report.json")]
        if netns is not None:
            path = netns if "/" in netns else f"/var/run/netns/{netns}"
            command = ["nsenter", f"--net={path}", *command]
        daemon = Daemon(command, log=folder / "log")
        running = Running(daemon, folder / "report.json")
        try:
            daemon.wait_until((folder / "report.json.begun").exists, timeout_s=_READY_S)
            yield running
            running.stop()
        finally:
            daemon.kill()


def _parse(found: dict[str, Any]) -> Report:
    outcomes = [
        Outcome(
            id=row[0],
            at=row[1],
            latency_s=row[2],
            kind=row[3],
            status=row[4],
            target=row[5],
            method=row[6],
            fresh=row[7],
            task=row[8],
            seen=row[9],
            late_s=row[10],
        )
        for row in found["outcomes"]
    ]
    return Report(
        outcomes=tuple(sorted(outcomes, key=lambda outcome: outcome.at)),
        sockets=tuple(Held(**row) for row in found["sockets"]),
        cpu_s=found["cpu_s"],
        took_s=found["took_s"],
    )
