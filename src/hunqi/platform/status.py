"""What the supervisor says of its processes, in a file that any command can read; the lock says whether it is true."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hunqi.kit import codec
from hunqi.platform import lock
from hunqi.platform.settings import PlatformSettings, write_private

LOCK_NAME: Final = "supervisor.lock"
STATUS_NAME: Final = "status.json"


class ChildState(StrEnum):
    """Whether a process is there."""

    RUNNING = "running"
    WAITING = "waiting"
    """It ended and is started again after a pause."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStatus:
    """One process; moments in seconds since 1970."""

    name: str
    state: ChildState
    pid: int | None = None
    started_at: float | None = None
    restarts: int = 0
    last_end: str = ""
    """How it last ended: ``exit status 1``, ``killed by SIGKILL``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformStatus:
    """The supervisor and its processes."""

    pid: int
    version: str
    started_at: float
    stopping: bool = False
    children: tuple[ChildStatus, ...] = ()

    @property
    def all_running(self) -> bool:
        """Whether every process is there."""
        return not self.stopping and all(child.state is ChildState.RUNNING for child in self.children)


def write_status(settings: PlatformSettings, status: PlatformStatus) -> None:
    """Write what is so now. Raises ``SettingsError``."""
    write_private(settings.run_dir / STATUS_NAME, codec.dumps(status) + "\n", durable=False)


def read_status(settings: PlatformSettings) -> PlatformStatus | None:
    """Return what runs, or None if no supervisor (or what it left) holds the lock. Raises ``SettingsError``."""
    pid = lock.owner(settings.run_dir / LOCK_NAME)
    if pid is None:
        return None
    try:
        return codec.loads(PlatformStatus, (settings.run_dir / STATUS_NAME).read_text(encoding="utf-8"))
    except (OSError, codec.CodecError):
        return PlatformStatus(pid=pid, version="", started_at=0.0)
