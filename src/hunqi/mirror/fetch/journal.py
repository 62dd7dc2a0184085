"""The record beside a part file: which of its bytes are safely there, and from whom.

Written only after the part file's own data reached the disk, replaced atomically; so after a crash it never says more
than is true. What cannot be read is treated as absent.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from hunqi.kit.extents import Interval

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes ``[start, end)`` that came from ``source``."""

    source: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """``size`` in bytes when known; ``etags`` by source id."""

    incarnation: str
    """Of the bytes: another one after any of them was thrown away."""
    size: int | None
    etags: dict[str, str]
    spans: tuple[Span, ...]

    @property
    def intervals(self) -> list[Interval]:
        """The bytes that are there."""
        return [(span.start, span.end) for span in self.spans]


def save(path: Path, journal: Journal) -> None:
    """Replace the record at ``path``; raises :class:`OSError`."""
    document = {
        "version": VERSION,
        "incarnation": journal.incarnation,
        "size": journal.size,
        "etags": journal.etags,
        "spans": [[span.source, span.start, span.end] for span in journal.spans],
    }
    temporary = path.with_suffix(".json.tmp")
    with temporary.open("wb") as file:
        file.write(json.dumps(document).encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path) -> Journal | None:
    """Return the record at ``path``, or None when there is none that makes sense."""
    try:
        return _parse(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _parse(decoded: object) -> Journal:
    document = cast("dict[str, object]", decoded)
    if document["version"] != VERSION:
        raise ValueError("another version")
    spans = tuple(_span(item) for item in cast("list[list[object]]", document["spans"]))
    size = document["size"]
    if size is not None and (not isinstance(size, int) or any(span.end > size for span in spans)):
        raise ValueError("size")
    etags = cast("dict[str, object]", document["etags"])
    return Journal(
        incarnation=str(document["incarnation"]),
        size=size,
        etags={str(key): str(value) for key, value in etags.items()},
        spans=spans,
    )


def _span(item: list[object]) -> Span:
    source, start, end = item
    if not isinstance(source, str) or not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end:
        raise ValueError("span")
    return Span(source=source, start=start, end=end)
