"""The ``Range`` header of one range (RFC 9110 section 14); several ranges are answered with the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from hunqi.errors import UserError

_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


class RangeNotSatisfiableError(UserError):
    """The range lies outside of the blob."""

    code: ClassVar[str] = "serve.range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"the range lies outside of the blob's {size} bytes")
        self.size = size


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``[start, end)`` of ``size``."""

    start: int
    end: int
    size: int

    @property
    def length(self) -> int:
        """Bytes in the range."""
        return self.end - self.start

    @property
    def content_range(self) -> str:
        """The value of ``Content-Range``."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """Return the range that ``header`` asks of ``size`` bytes, or ``None`` for the whole.

    A header that is no single byte range is ignored, as RFC 9110 allows.
    Raises :class:`RangeNotSatisfiableError` for a start at or after the end, or for ``last < first``.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = min(int(match[2]), size)
        if length == 0:
            raise RangeNotSatisfiableError(size)
        return ByteRange(size - length, size, size)
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if start >= end:
        raise RangeNotSatisfiableError(size)
    return ByteRange(start, end, size)
