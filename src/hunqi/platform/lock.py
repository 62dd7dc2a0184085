"""One supervisor per data directory: a lock in the kernel, so that it ends with whoever holds it.

The supervisor's children inherit it: after a ``kill -9`` of the supervisor the next one waits until the last of them
has stopped, instead of fighting them for their ports.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from hunqi.platform.errors import AlreadyRunningError, SettingsError

_LOOK_S: Final = 0.1


@contextlib.contextmanager
def hold(path: Path, *, wait_s: float = 0.5) -> Generator[None]:
    """Hold the lock, waiting up to ``wait_s`` for another to let it go.

    Raises :class:`AlreadyRunningError` with the pid of whoever has it, :class:`SettingsError` where the file cannot be
    made.
    """
    descriptor = _open(path)
    try:
        _take(descriptor, path, wait_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def owner(path: Path) -> int | None:
    """Return the pid written by whoever holds the lock (0 if unreadable), or None if nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; try as the user who ran hunqi up") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def await_free(path: Path, *, timeout_s: float) -> bool:
    """Wait until nobody holds the lock; return whether that came."""
    deadline = time.monotonic() + timeout_s
    while owner(path) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"{path} cannot be made: {error.strerror}; try as root, or with --data DIR") from error


def _take(descriptor: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < deadline:
                time.sleep(_LOOK_S)
                continue
            pid = _pid_in(descriptor)
            raise AlreadyRunningError(f"Hunqi runs already on {path.parent.parent} (process {pid})", pid=pid) from error
        else:
            return


def _pid_in(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdecimal() else 0
