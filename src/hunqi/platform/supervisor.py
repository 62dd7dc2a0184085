"""The supervisor of a machine: forks mirror, control and agent, restarts what dies with back-off, stops all in order.

It has no event loop and no threads, so that forking is safe at any time. The code that the children share is imported
before it forks, and frozen: its memory is there once. A child is in a process group of its own (Ctrl-C stops the
supervisor alone, which then stops them in order) and gets SIGTERM from the kernel when the supervisor dies, however it
dies.

SIGTERM, SIGINT: stop. SIGHUP: children that reload are told to. SIGUSR1: stop all, then return :attr:`End.RESTART`, for
a new version of the program.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NoReturn

from hunqi.kit.memory import unmap_code
from hunqi.platform import lock, logs
from hunqi.platform.children import ChildSpec
from hunqi.platform.errors import SettingsError
from hunqi.platform.settings import PlatformSettings
from hunqi.platform.status import LOCK_NAME, STATUS_NAME, ChildState, ChildStatus, PlatformStatus, write_status

_log: Final = logging.getLogger(__name__)
_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_KILL_S: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1
"""Of prctl(2)."""


class End(Enum):
    """Why the supervisor ended."""

    STOPPED = "stopped"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient the supervisor is, in seconds."""

    first_delay_s: float = 0.1
    longest_delay_s: float = 30.0
    steady_s: float = 60.0
    """A child that lived so long is restarted after the first delay again."""
    inherit_s: float = 45.0
    """How long the children of a supervisor that was killed may take to stop."""
    look_at_logs_s: float = 10.0

    def delay_after(self, lived_s: float, last_delay_s: float) -> float:
        """Return the pause before a child is started again that lived ``lived_s``."""
        if lived_s >= self.steady_s or last_delay_s == 0:
            return self.first_delay_s
        return min(self.longest_delay_s, last_delay_s * 2)


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    pid: int | None = None
    begun: float = 0.0
    """Monotonic seconds."""
    started_at: float | None = None
    delay_s: float = 0.0
    due: float | None = None
    restarts: int = 0
    last_end: str = ""

    def status(self) -> ChildStatus:
        state = ChildState.RUNNING if self.pid else ChildState.WAITING if self.due is not None else ChildState.STOPPED
        return ChildStatus(
            name=self.spec.name,
            state=state,
            pid=self.pid,
            started_at=self.started_at,
            restarts=self.restarts,
            last_end=self.last_end,
        )


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """One run of a machine's platform."""

    settings: PlatformSettings
    children: Sequence[ChildSpec]
    version: str
    pace: Pace = Pace()
    _kept: list[_Child] = field(default_factory=list[_Child])
    _started_at: float = 0.0
    _stopping: bool = False

    def run(self) -> End:
        """Keep the children until a signal says otherwise.

        Raises ``AlreadyRunningError`` and ``SettingsError`` before anything is started.
        """
        with lock.hold(self.settings.run_dir / LOCK_NAME, wait_s=self._patience_s()):
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            gc.collect()
            gc.freeze()
            self._started_at = time.time()
            self._kept = [_Child(spec) for spec in self.children]
            for child in self._kept:
                self._start(child)
            self._tell()
            try:
                return self._watch()
            finally:
                with contextlib.suppress(OSError):
                    (self.settings.run_dir / STATUS_NAME).unlink(missing_ok=True)

    def _patience_s(self) -> float:
        """Long where the holder of the lock is dead and only its children are left, else short."""
        holder = lock.owner(self.settings.run_dir / LOCK_NAME)
        return self.pace.inherit_s if holder and not _exists(holder) else 1.0

    def _watch(self) -> End:
        look, has_settled = time.monotonic() + self.pace.look_at_logs_s, False
        while True:
            now = time.monotonic()
            if now >= look:
                logs.rotate_all(self.settings.log_dir)
                if not has_settled:
                    unmap_code()
                    has_settled = True
                look = now + self.pace.look_at_logs_s
            self._start_due(now)
            pending = [child.due for child in self._kept if child.due is not None]
            received = signal.sigtimedwait(_SIGNALS, max(0.0, min([look, *pending]) - time.monotonic()))
            match received.si_signo if received else None:
                case None:
                    pass
                case signal.SIGCHLD:
                    self._reap()
                case signal.SIGHUP:
                    self._reload()
                case signal.SIGUSR1:
                    self._stop()
                    return End.RESTART
                case _:
                    self._stop()
                    return End.STOPPED

    def _start_due(self, now: float) -> None:
        due = [child for child in self._kept if child.due is not None and child.due <= now]
        for child in due:
            child.restarts += 1
            self._start(child)
        if due:
            self._tell()

    def _start(self, child: _Child) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(child.spec, self.settings, parent=parent)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        child.pid, child.begun, child.started_at, child.due = pid, time.monotonic(), time.time(), None
        _log.info("%s started (process %d)", child.spec.name, pid)

    def _reap(self) -> None:
        for pid, status in _ended():
            child = next((each for each in self._kept if each.pid == pid), None)
            if child is None:
                continue
            child.pid, child.last_end = None, _describe(status)
            if self._stopping:
                _log.info("%s stopped (%s)", child.spec.name, child.last_end)
                continue
            child.delay_s = self.pace.delay_after(time.monotonic() - child.begun, child.delay_s)
            child.due = time.monotonic() + child.delay_s
            _log.error("%s ended (%s), starting it again in %.1f s", child.spec.name, child.last_end, child.delay_s)
        self._tell()

    def _reload(self) -> None:
        for child in self._kept:
            if child.spec.reloads and child.pid:
                os.kill(child.pid, signal.SIGHUP)

    def _stop(self) -> None:
        self._stopping = True
        for child in reversed(self._kept):
            child.due = None
            self._tell()
            self._end(child, signal.SIGTERM, child.spec.stop_s)
            if child.pid:
                _log.error("%s did not stop within %.0f s and is killed", child.spec.name, child.spec.stop_s)
                self._end(child, signal.SIGKILL, _KILL_S)

    def _end(self, child: _Child, number: signal.Signals, limit_s: float) -> None:
        """Signal the child (with SIGKILL its whole group) and wait for its end."""
        deadline = time.monotonic() + limit_s
        self._reap()
        if child.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number) if number == signal.SIGKILL else os.kill(child.pid, number)
        while child.pid and (left_s := deadline - time.monotonic()) > 0:
            signal.sigtimedwait((signal.SIGCHLD,), left_s)
            self._reap()

    def _tell(self) -> None:
        status = PlatformStatus(
            pid=os.getpid(),
            version=self.version,
            started_at=self._started_at,
            stopping=self._stopping,
            children=tuple(child.status() for child in self._kept),
        )
        try:
            write_status(self.settings, status)
        except SettingsError as error:  # a full disk must not end what serves
            _log.warning("the state of the processes is not written: %s", error)


def _become(spec: ChildSpec, settings: PlatformSettings, *, parent: int) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        _stop_with(parent)
        log = logs.open_log(settings.log_dir / f"{spec.name}.log")
        quiet = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((quiet, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        status = spec.main(settings)
    except BaseException:
        _log.exception("%s failed", spec.name)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _stop_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the supervisor is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _ended() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    with contextlib.suppress(ChildProcessError):
        while (result := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(result)
    return ended


def _describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
