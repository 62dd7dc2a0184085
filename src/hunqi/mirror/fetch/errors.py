"""Why a fetch ended without its blob, apart from what its sources said (:mod:`hunqi.mirror.sources.errors`)."""

from __future__ import annotations

import errno
from typing import ClassVar, Final

from hunqi.errors import DependencyError
from hunqi.mirror.store.errors import StoreFullError
from hunqi.oci.digest import Digest

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class FetchError(DependencyError):
    """Base: the blob could not be fetched now. ``digest`` is the blob's."""

    code: ClassVar[str] = "fetch.error"

    def __init__(self, digest: Digest, reason: str) -> None:
        super().__init__(f"{digest}: {reason}")
        self.digest = digest


class DigestMismatchError(FetchError):
    """Every source gave bytes of another digest."""

    code: ClassVar[str] = "fetch.digest_mismatch"


class NoSourceError(FetchError):
    """There is nobody to ask, or nobody moved the fetch on for too long."""

    code: ClassVar[str] = "fetch.no_source"


class AbandonedError(FetchError):
    """The last reader left and the policy says not to finish; what was fetched is kept."""

    code: ClassVar[str] = "fetch.abandoned"


class StoppedError(FetchError):
    """The process is stopping; what was fetched is kept."""

    code: ClassVar[str] = "fetch.stopped"


class DiskError(FetchError):
    """The disk failed, or is full (then the status says so)."""

    code: ClassVar[str] = "fetch.disk"


class TooManyFetchesError(FetchError):
    """The queue of waiting fetches is full."""

    code: ClassVar[str] = "fetch.too_many"


class CrashedError(FetchError):
    """A thread of the fetch failed in a way that nobody foresaw; the log has the trace."""

    code: ClassVar[str] = "fetch.crashed"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether ``error``, or what caused it, is a full disk or quota."""
    while error is not None:
        if isinstance(error, StoreFullError) or (isinstance(error, OSError) and error.errno in _FULL):
            return True
        error = error.__cause__
    return False
