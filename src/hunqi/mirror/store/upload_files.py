"""One upload on the disk, and the hash that follows it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from hunqi.mirror.store.errors import UploadBusyError, UploadUnknownError, translate, translated
from hunqi.mirror.store.model import Upload
from hunqi.oci.digest import Algorithm

_READ_BYTES: Final = 1024 * 1024


class RunningHash:
    """The hash of an upload's first ``hashed`` bytes; guarded by the upload's lock."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm: Algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._hashed = 0

    def add(self, data: bytes | bytearray | memoryview, *, at: int) -> None:
        """Take bytes that were written ``at`` an offset; what does not follow is read later by :meth:`catch_up`."""
        if at == self._hashed:
            self._hash.update(data)
            self._hashed += memoryview(data).nbytes

    def catch_up(self, path: Path) -> int:
        """Read what was not yet hashed and return the file's size; raises :class:`OSError`."""
        with path.open("rb", buffering=0) as file:
            file.seek(self._hashed)
            buffer = memoryview(bytearray(_READ_BYTES))
            while count := file.readinto(buffer):
                self._hash.update(buffer[:count])
                self._hashed += count
        return self._hashed

    def hexdigest(self) -> str:
        """Return the hash of what was taken so far."""
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class UploadDirectory:
    """``DIR/uploads/<uuid>``."""

    path: Path

    @property
    def data(self) -> Path:
        """The bytes so far."""
        return self.path / "data"

    def create(self, upload: Upload) -> None:
        """Make the directory of a new upload; the meta file comes last: with it the upload exists."""
        self.path.mkdir()
        self.data.touch()
        (self.path / "lock").touch()
        meta = {"repo": upload.repo, "algorithm": upload.algorithm, "started_at": upload.started_at}
        draft = self.path / "meta.new"
        draft.write_text(json.dumps(meta))
        draft.rename(self.path / "meta.json")

    def read(self, repo: str) -> Upload | None:
        """Return the upload if it is there and belongs to ``repo``."""
        try:
            meta = cast("dict[str, object]", json.loads((self.path / "meta.json").read_bytes()))
            offset = self.data.stat().st_size
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise translate(error) from error
        algorithm, started_at = meta.get("algorithm"), meta.get("started_at")
        if meta.get("repo") != repo or algorithm not in ("sha256", "sha512") or not isinstance(started_at, float | int):
            return None
        return Upload(id=self.path.name, repo=repo, offset=offset, algorithm=algorithm, started_at=started_at)

    def open_data(self, flags: int) -> int:
        """Return a descriptor of the bytes; raises :class:`UploadUnknownError`."""
        try:
            return os.open(self.data, flags | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise UploadUnknownError("the upload is not there any more") from error

    def age_s(self, now: float) -> float:
        """Return how long ago the upload last changed; seconds."""
        for path in (self.data, self.path):
            try:
                return now - path.stat().st_mtime
            except FileNotFoundError:
                continue
        return 0.0

    @contextmanager
    def locked(self, *, wait: bool = True) -> Generator[None]:
        """Hold the upload alone, across processes; raises :class:`UploadUnknownError` if it is gone.

        Without ``wait``, one that is held elsewhere raises :class:`UploadBusyError`.
        """
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise UploadUnknownError("there is no such upload") from error
        except OSError as error:
            raise translate(error) from error
        try:
            with translated():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise UploadBusyError("somebody else works on the upload") from error
                if not self.data.exists():
                    raise UploadUnknownError("the upload is not there any more")
            yield
        finally:
            os.close(lock)
