"""Files that only their owner reads: written whole or not at all, created by one of many processes or by none.

Where root writes for the account that the mirror runs under, a new file takes the owner of the old one or of the
directory.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

_MODE: Final = 0o600


def write_private(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` with mode 0600: temporary file, fsync, rename, fsync of the directory.

    Raises :class:`OSError`; then ``path`` is as it was.
    """
    temporary = _write_temporary(path, content)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def create_private(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return what stands at ``path``; if nothing does, put ``make()`` there first.

    Of processes that race exactly one's content stays, and all return it. Raises :class:`OSError`.
    """
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    temporary = _write_temporary(path, make())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return path.read_bytes()


def remove_leftovers(path: Path) -> None:
    """Remove what a crash left beside ``path``; only for a caller who keeps other writers of it out."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def open_lock(path: Path) -> int:
    """Return a descriptor of the lock file ``path``, created if need be; the caller closes it."""
    owner = _owner_of(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    _give(descriptor, owner)
    return descriptor


def _write_temporary(path: Path, content: bytes) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = _owner_of(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _MODE)
            _give(file.fileno(), owner)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _owner_of(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        return path.parent.stat()


def _give(descriptor: int, owner: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
