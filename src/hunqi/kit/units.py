"""Sizes, durations and percentages as people write them: ``50GiB``, ``1h30m``, ``90%``.

``parse_*`` reads what ``format_*`` writes, exactly; ``show_*`` rounds for the eye. Sizes know binary units
(``KiB`` = 1024, Docker's short ``K``, ``M``, ``G``, ``T``) and decimal ones (``kB`` = 1000). A duration always names
its unit, so that nobody has to guess whether 60 means seconds or minutes.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import ClassVar, Final

from hunqi.errors import UserError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern}\s*)+")
_PERCENT = re.compile(r"([0-9]{1,3})\s*%?")

_BINARY: Final = (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    **{name.lower(): factor for name, factor in _BINARY},
    **{name[0].lower(): factor for name, factor in _BINARY},
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
}
_MILLISECONDS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_WEEK_MS: Final = 7 * 86_400_000

MAX_SIZE: Final = 2**63 - 1
"""Bytes; what a file offset can hold."""
MAX_DURATION_S: Final = 100 * 365 * 86400.0


class UnitError(UserError):
    """The text is no size, duration or percentage."""

    code: ClassVar[str] = "kit.unit"

    def __init__(self, text: str, rule: str) -> None:
        super().__init__(f"{text[:100]!r}: {rule}")
        self.text = text
        self.rule = rule


SIZE_RULE: Final = "a size is a number with a unit: 512MiB, 50GiB, 1.5TiB, 500MB, or plain bytes"
DURATION_RULE: Final = "a duration is numbers with units: 500ms, 60s, 5m, 1h30m, 7d"
PERCENT_RULE: Final = "a percentage is a whole number from 0 to 100: 90 or 90%"


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` means; raise :class:`UnitError`."""
    match = _SIZE.fullmatch(text.strip())
    factor = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise UnitError(text, SIZE_RULE)
    size = Decimal(match[1]) * factor
    if size > MAX_SIZE:
        raise UnitError(text, f"a size is at most {MAX_SIZE} bytes")
    if size != int(size):
        raise UnitError(text, "a size is a whole number of bytes")
    return int(size)


def format_size(size_bytes: int) -> str:
    """Return the shortest exact text of ``size_bytes``, in the largest binary unit that divides it."""
    for name, factor in _BINARY:
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{name}"
    return f"{size_bytes}B"


def show_size(size_bytes: float) -> str:
    """Return ``size_bytes`` for the eye, three digits: ``1.46 GiB``."""
    for name, factor in _BINARY:
        if size_bytes >= factor:
            value = size_bytes / factor
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {name}"
    return f"{size_bytes:.0f} B"


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` means; ``0`` needs no unit; raise :class:`UnitError`."""
    stripped = text.strip()
    if stripped == "0":
        return 0.0
    if not _DURATION.fullmatch(stripped):
        raise UnitError(text, DURATION_RULE)
    parts = _DURATION_PART.finditer(stripped)
    seconds = float(sum(Decimal(part[1]) * _MILLISECONDS.get(part[2], _WEEK_MS) for part in parts) / 1000)
    if seconds > MAX_DURATION_S:
        raise UnitError(text, "a duration is at most 100 years")
    return seconds


def format_duration(seconds: float) -> str:
    """Return an exact text of ``seconds`` to the millisecond: ``1h30m``, ``500ms``."""
    rest = round(seconds * 1000)
    if rest == 0:
        return "0s"
    text = ""
    for unit, size in _MILLISECONDS.items():
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text


def show_duration(seconds: float) -> str:
    """Return ``seconds`` for the eye: its two largest units, or milliseconds below one second."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    parts = _DURATION_PART.findall(format_duration(round(seconds)))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2])


def parse_percent(text: str) -> int:
    """Return the whole percentage (0 to 100) that ``text`` means; raise :class:`UnitError`."""
    match = _PERCENT.fullmatch(text.strip())
    if match is None or int(match[1]) > 100:
        raise UnitError(text, PERCENT_RULE)
    return int(match[1])


def format_percent(percent: int) -> str:
    """Return ``90%`` for 90."""
    return f"{percent}%"
