"""What a chunk says of itself: ``Content-Range`` of the registry protocol, which is not HTTP's.

Source: distribution-spec 1.1, "Pushing a blob in chunks": ``<first>-<last>``, both inclusive, no unit and no total.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from hunqi.errors import UserError

_FORM: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class ContentRangeError(UserError):
    """The header is not a range of the registry protocol."""

    code: ClassVar[str] = "serve.content_range"


class ChunkSizeError(UserError):
    """A chunk is longer or shorter than its headers say."""

    code: ClassVar[str] = "serve.chunk_size"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk says that it belongs; sizes in bytes."""

    start: int
    length: int

    @classmethod
    def of_headers(cls, content_range: str | None, content_length: int | None) -> Chunk | None:
        """Return what the headers claim; None for a body without a claim (a stream) and for an empty one.

        Raises :class:`ContentRangeError`, or :class:`ChunkSizeError` when the two headers disagree.
        """
        if content_range is None or content_length == 0:
            return None
        match = _FORM.fullmatch(content_range)
        if match is None or int(match[1]) > int(match[2]):
            raise ContentRangeError(f"Content-Range {content_range[:100]!r} is not <first>-<last>, both inclusive")
        chunk = cls(int(match[1]), int(match[2]) - int(match[1]) + 1)
        if content_length is not None and content_length != chunk.length:
            raise ChunkSizeError(f"Content-Range names {chunk.length} bytes and Content-Length {content_length}")
        return chunk


def range_header(size_bytes: int) -> str:
    """Return the ``Range`` that tells how much of an upload is there.

    An inclusive range cannot say "nothing": as docker-registry does, an empty upload reads ``0-0``, which Docker's
    client needs to see.
    """
    return f"0-{max(0, size_bytes - 1)}"
