"""Uploads: pushes in progress, ``DIR/uploads/<uuid>/`` with ``data``, ``meta.json`` and ``lock``.

An upload's truth is its file: its offset is the file's size, so it goes on after a restart and in any worker process.
The ``lock`` is held (``flock``) for each operation, so that workers never interleave. A running hash is kept in memory;
what another process wrote, or this one before a restart, is read again from the file when the upload is finished.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from typing import Final

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.errors import (
    DigestMismatchError,
    UploadBusyError,
    UploadRangeError,
    UploadUnknownError,
    translated,
)
from hunqi.mirror.store.model import LinkKind, Upload
from hunqi.mirror.store.paths import write_all
from hunqi.mirror.store.upload_files import RunningHash, UploadDirectory
from hunqi.oci.digest import Algorithm, Digest

_MAX_RUNNING: Final = 4096
"""Running hashes kept at once; the oldest is dropped and its upload is read again when it is finished."""


class Uploads:
    """The uploads of one data directory, as one process sees them; usable from many threads."""

    def __init__(self, catalogue: Catalogue, content: ContentFiles, *, clock: Callable[[], float] = time.time) -> None:
        self._catalogue = catalogue
        self._content = content
        self._clock = clock
        self._running: dict[str, RunningHash] = {}
        self._guard = threading.Lock()

    def start(self, repo: str, algorithm: Algorithm = "sha256") -> Upload:
        """Begin an upload; ``algorithm`` is what its digest will probably be. Raises the store's errors."""
        upload = Upload(id=str(uuid.uuid4()), repo=repo, offset=0, algorithm=algorithm, started_at=self._clock())
        directory = self._directory(upload.id)
        with translated():
            try:
                directory.create(upload)
            except OSError:
                shutil.rmtree(directory.path, ignore_errors=True)
                raise
        return upload

    def get(self, repo: str, upload_id: str) -> Upload | None:
        """Return an upload of the repository as it stands; None for whatever is not one."""
        return self._directory(upload_id).read(repo) if _is_uuid(upload_id) else None

    def append(self, upload: Upload, data: bytes | bytearray | memoryview, *, expected_start: int | None) -> int:
        """Add bytes and return the new offset; on an error nothing was added.

        Raises :class:`UploadRangeError` unless the upload ends at ``expected_start`` (None: wherever it ends),
        :class:`UploadUnknownError`, or the store's errors.
        """
        directory = self._directory(upload.id)
        with directory.locked(), translated():
            descriptor = directory.open_data(os.O_RDWR | os.O_APPEND)
            try:
                offset = os.fstat(descriptor).st_size
                if expected_start is not None and expected_start != offset:
                    raise UploadRangeError(offset=offset)
                try:
                    write_all(descriptor, data)
                except OSError:
                    os.ftruncate(descriptor, offset)
                    raise
            finally:
                os.close(descriptor)
            self._hash_of(upload).add(data, at=offset)
            return offset + memoryview(data).nbytes

    def finish(self, upload: Upload, digest: Digest) -> int:
        """Move the upload into the store as a pushed blob of its repository; return its size.

        Raises :class:`DigestMismatchError` (the upload is then gone), :class:`UploadUnknownError`, or the store's
        errors (the upload then stays and can be finished again).
        """
        directory = self._directory(upload.id)
        with directory.locked():
            with translated():
                running = self._hash_of(upload)
                if running.algorithm != digest.algorithm:
                    running = RunningHash(digest.algorithm)
                size = running.catch_up(directory.data)
            actual = f"{digest.algorithm}:{running.hexdigest()}"
            if actual != str(digest):
                self._remove(directory)
                raise DigestMismatchError(expected=digest, actual=actual)
            self._content.commit(directory.data, digest, size, links=[(upload.repo, LinkKind.BLOB, True)])
            self._remove(directory)
        return size

    def cancel(self, upload: Upload) -> bool:
        """Drop an upload; False if it was not there (any more)."""
        directory = self._directory(upload.id)
        try:
            with directory.locked():
                self._remove(directory)
        except UploadUnknownError:
            return False
        return True

    def expire(self, max_age_s: float) -> int:
        """Drop uploads that nobody wrote to for ``max_age_s`` seconds; return how many. Busy ones are skipped."""
        dropped = 0
        with translated():
            names = [entry.name for entry in os.scandir(self._catalogue.paths.uploads)]
        for name in names:
            directory = UploadDirectory(self._catalogue.paths.uploads / name)
            if directory.age_s(self._clock()) <= max_age_s:
                continue
            try:
                with directory.locked(wait=False):
                    self._remove(directory)
            except UploadBusyError:
                continue
            except UploadUnknownError:
                shutil.rmtree(directory.path, ignore_errors=True)
            dropped += 1
        return dropped

    def mount(
        self, repo: str, digest: Digest, from_repo: str | None, *, may_read: Callable[[str], bool] | None = None
    ) -> bool:
        """Link a blob of another repository as pushed; False if it is not there, then an upload is needed.

        ``from_repo`` is one that the caller may read. Without it, any linked repository that ``may_read`` accepts
        serves (distribution-spec 1.1, "Mounting a blob from another repository").
        """
        if from_repo is None:
            allowed = may_read is not None and any(map(may_read, self._catalogue.repos_of(digest)))
        else:
            allowed = self._catalogue.link(from_repo, digest) is not None
        return allowed and self._catalogue.add_link(repo, digest, kind=LinkKind.BLOB, pushed=True)

    def _directory(self, upload_id: str) -> UploadDirectory:
        if not _is_uuid(upload_id):
            raise UploadUnknownError("there is no such upload")
        return UploadDirectory(self._catalogue.paths.uploads / upload_id)

    def _hash_of(self, upload: Upload) -> RunningHash:
        with self._guard:
            running = self._running.get(upload.id)
            if running is None:
                running = self._running[upload.id] = RunningHash(upload.algorithm)
                if len(self._running) > _MAX_RUNNING:
                    del self._running[next(iter(self._running))]
            return running

    def _remove(self, directory: UploadDirectory) -> None:
        with self._guard:
            self._running.pop(directory.path.name, None)
        shutil.rmtree(directory.path, ignore_errors=True)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
