"""Where things lie under the data directory, and the small file operations that durability is made of."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from hunqi.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class StorePaths:
    """The directories of one store."""

    root: Path

    @property
    def catalogue(self) -> Path:
        """The database that says what is stored."""
        return self.root / "catalogue.db"

    @property
    def usage(self) -> Path:
        """The database of last-used times: may be lost."""
        return self.root / "usage.db"

    @property
    def content(self) -> Path:
        """Verified bytes, by digest."""
        return self.root / "content"

    @property
    def uploads(self) -> Path:
        """Pushes in progress, a directory each."""
        return self.root / "uploads"

    @property
    def tmp(self) -> Path:
        """Files on their way into the store."""
        return self.root / "tmp"

    @property
    def trash(self) -> Path:
        """Files on their way out: nothing refers to them."""
        return self.root / "trash"

    @property
    def quarantine(self) -> Path:
        """Files whose bytes were found wrong, kept for a look."""
        return self.root / "quarantine"

    def create(self) -> None:
        """Make the directories; raises :class:`OSError`."""
        for directory in (self.root, self.content, self.uploads, self.tmp, self.trash, self.quarantine):
            directory.mkdir(parents=True, exist_ok=True)

    def content_file(self, digest: Digest) -> Path:
        """Return where the content of ``digest`` lies if it is stored."""
        return self.content / digest.algorithm / digest.hex[:2] / digest.hex

    def new_tmp(self) -> Path:
        """Return a fresh path in ``tmp``."""
        return self.tmp / uuid.uuid4().hex

    def new_trash(self) -> Path:
        """Return a fresh path in ``trash``."""
        return self.trash / uuid.uuid4().hex


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a directory's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_durable_directory(path: Path) -> None:
    """Make ``path`` and its missing parents, each durable in the one above."""
    if path.is_dir():
        return
    make_durable_directory(path.parent)
    path.mkdir(exist_ok=True)
    fsync_path(path.parent)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``; raises :class:`OSError` when a part could not be written."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_durable(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a new file and make its bytes durable; on an error there is no file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
