"""What a reader still lacks when the disk became full in the middle of its blob.

The rest comes from a source, by way of the fetcher. That the whole is right is proved over the very bytes which the
reader got: the file that it read, removed from the disk by then and written by nobody any more, goes along as the
beginning, and the blob's last 64 KiB are withheld until the digest over both is right.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from hunqi.mirror.serve.follow import WITHHELD_BYTES, Follower
from hunqi.mirror.serve.ranges import ByteRange


@dataclass(frozen=True, slots=True)
class Beginning:
    """The blob's first ``length`` bytes, readable at ``fd``."""

    fd: int
    length: int

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Rest:
    """The bytes to come, and what was read before them where that must be proved."""

    span: ByteRange
    beginning: Beginning | None


def rest_of(follower: Follower, span: ByteRange, position: int) -> Rest:
    """Return what of ``span`` follows ``position``; the caller closes its beginning.

    Raises ``ConnectionAbortedError`` where what was sent could not be proved right.
    """
    rest = ByteRange(position, span.end, span.size)
    if position == span.start or span.end <= span.size - WITHHELD_BYTES:
        return Rest(rest, None)
    length = follower.present_end(0)
    if length < position or follower.file is None:
        raise ConnectionAbortedError("the disk is full")
    return Rest(rest, Beginning(os.dup(follower.file.fileno()), length))
