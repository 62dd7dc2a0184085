"""Another version of the program takes over: a snapshot of the database first, then a restart; and back.

The snapshot is what makes the way back safe: migrations go forward only.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final

from hunqi.errors import UserError
from hunqi.platform import launch, lock
from hunqi.platform.errors import NotRunningError, StopError
from hunqi.platform.settings import PlatformSettings
from hunqi.platform.status import LOCK_NAME, PlatformStatus, read_status
from hunqi.state.backup import back_up, restore

KEPT: Final = 5
"""Snapshots; older ones are removed."""
_RESTART_S: Final = 120.0
_LOOK_S: Final = 0.1


class NoSnapshotError(UserError):
    """There is nothing to go back to."""

    code: ClassVar[str] = "platform.no-snapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A copy of the database before an upgrade."""

    path: Path
    size_bytes: int


def directory(settings: PlatformSettings) -> Path:
    """Return where snapshots are kept."""
    return settings.data_dir / "snapshots"


async def take_snapshot(settings: PlatformSettings, *, version: str) -> Snapshot:
    """Copy the database that ``version`` works on, and forget the oldest copies. Raises ``BackupFailedError``."""
    folder = directory(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{version}.db"
    size = await back_up(settings.database, path)
    for old in sorted(folder.glob("*.db"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return Snapshot(path=path, size_bytes=size)


def newest_snapshot(settings: PlatformSettings) -> Path:
    """Return the last snapshot. Raises :class:`NoSnapshotError`."""
    found = sorted(directory(settings).glob("*.db"))
    if not found:
        raise NoSnapshotError(f"there is no snapshot in {directory(settings)}: hunqi upgrade makes one")
    return found[-1]


def restart(settings: PlatformSettings) -> PlatformStatus:
    """Have the supervisor run the program that is installed now, in the same process; wait until it has begun.

    Raises :class:`NotRunningError`, :class:`StopError`.
    """
    before = read_status(settings)
    pid = lock.owner(settings.run_dir / LOCK_NAME)
    if before is None or not pid:
        raise NotRunningError(f"nothing of Hunqi runs on {settings.data_dir}: hunqi up starts the new version")
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + _RESTART_S
    while True:
        now = read_status(settings)
        if now is not None and now.started_at > before.started_at and now.children:
            return now
        if time.monotonic() > deadline:
            raise StopError(f"Hunqi has not restarted after {_RESTART_S:.0f} s; see {settings.log_dir}")
        time.sleep(_LOOK_S)


async def go_back(settings: PlatformSettings, snapshot: Path) -> None:
    """Put a snapshot in place of the database, which nobody may have open. Raises ``BackupFailedError``."""
    if lock.owner(settings.run_dir / LOCK_NAME) is not None:
        launch.stop(settings)
    await restore(settings.database, snapshot)
