"""Errors of the store, and the one place where SQLite's and the kernel's are translated into them."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar, Final

from hunqi.errors import DependencyError, HunqiError, UserError
from hunqi.oci.digest import Digest

_FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_CODES: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
"""SQLITE_IOERR_SHMSIZE: the shared-memory file beside the database could not grow."""
_DAMAGED_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class StoreDirectoryError(UserError):
    """The data directory cannot be used: the message says what to change."""

    code: ClassVar[str] = "store.directory_unusable"


class StoreTooNewError(UserError):
    """The data directory was written by a newer Hunqi."""

    code: ClassVar[str] = "store.too_new"


class StoreDamagedError(UserError):
    """The catalogue is not a readable database any more."""

    code: ClassVar[str] = "store.damaged"


class StoreFullError(DependencyError):
    """The disk (or the quota) is full; nothing was changed."""

    code: ClassVar[str] = "store.full"


class StoreUnavailableError(DependencyError):
    """The disk or the database failed otherwise, or stayed locked for too long."""

    code: ClassVar[str] = "store.unavailable"


class DigestMismatchError(UserError):
    """The bytes do not have the digest that was promised."""

    code: ClassVar[str] = "store.digest_mismatch"

    def __init__(self, *, expected: Digest, actual: str) -> None:
        super().__init__(f"the bytes are {actual}, not {expected}")
        self.expected = expected
        self.actual = actual


class UploadRangeError(UserError):
    """A chunk does not begin where the upload ends; ``offset`` is where it ends."""

    code: ClassVar[str] = "store.upload_range"

    def __init__(self, *, offset: int) -> None:
        super().__init__(f"the upload has {offset} bytes: the next chunk must begin at {offset}")
        self.offset = offset


class UploadUnknownError(UserError):
    """The upload is not there (any more): it was finished, cancelled or expired."""

    code: ClassVar[str] = "store.upload_unknown"


class UploadBusyError(DependencyError):
    """Somebody else works on the upload right now."""

    code: ClassVar[str] = "store.upload_busy"


def translate(error: OSError | sqlite3.Error) -> HunqiError:
    """Return the store's error for one of the kernel's or SQLite's."""
    if isinstance(error, OSError):
        if error.errno in _FULL_ERRNOS:
            return StoreFullError(f"the disk is full: {error}")
        return StoreUnavailableError(f"the disk failed: {error}")
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if code in _FULL_CODES or primary == sqlite3.SQLITE_FULL:
        return StoreFullError(f"the disk is full: {error}")
    if primary in _DAMAGED_CODES:
        return StoreDamagedError(
            f"catalogue.db is damaged ({error}): restore it, or start with an empty data directory"
        )
    return StoreUnavailableError(f"the catalogue failed: {error}")


@contextmanager
def translated() -> Generator[None]:
    """Raise the store's errors in place of :class:`OSError` and :class:`sqlite3.Error`."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise translate(error) from error
