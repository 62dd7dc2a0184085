"""A mapping of the file, read field by field: a wrong value is a problem with its line, and reads as if left out.

Compose casts: what stands as text because of a variable (``"${REPLICAS}"``) is as good as the number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from hunqi.apps.compose.report import Report, show
from hunqi.apps.compose.tree import Node, resolve
from hunqi.kit.units import MAX_SIZE

_TRUE: Final = {"true", "yes", "on", "y", "1"}
_FALSE: Final = {"false", "no", "off", "n", "0"}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h|d|w)")
_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "w": 7 * 86400 * 10**9,
}
_MAX_NS: Final = 2**62
_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(i?b)?", re.IGNORECASE)
_FACTORS: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}


def duration_ns(text: str) -> int | None:
    """Return the nanoseconds of ``1m30s``, None if it is no duration (Compose: ``us ms s m h``; also days, weeks)."""
    stripped = text.strip()
    if stripped == "0":
        return 0
    parts = _PART.findall(stripped)
    if len(stripped) > 64 or not parts or "".join(number + unit for number, unit in parts) != stripped:
        return None
    total = int(sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in parts))
    return total if total <= _MAX_NS else None


def size_bytes(text: str) -> int | None:
    """Return the bytes of ``1gb``, ``512m``: Compose's units are binary. None if it is no size."""
    match = _BYTES.fullmatch(text.strip()[:64])
    if match is None:
        return None
    size = int(Decimal(match[1]) * _FACTORS[match[2].lower()])
    return size if size <= MAX_SIZE else None


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping at ``path``; an absent key and one without a value read the same: as ``None`` or empty."""

    node: Node
    path: str
    report: Report

    @property
    def entries(self) -> Mapping[str, Node]:
        """The entries, none if it is no mapping."""
        return self.node.mapping or {}

    def __contains__(self, key: str) -> bool:
        return key in self.entries and not self.entries[key].null

    def below(self, key: str) -> str:
        """Return the path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str) -> Node | None:
        """Return the node of a key, None if there is none or nothing is written."""
        node = self.entries.get(key)
        return None if node is None or node.null else node

    def problem(self, key: str, text: str) -> None:
        """Take in a problem at a key (or here, if it is not written)."""
        self.report.problem(self.entries.get(key, self.node), self.below(key), text)

    def ignored(self, key: str, instead: str) -> None:
        """Note that a key has no effect."""
        self.report.ignored(self.entries.get(key, self.node), self.below(key), instead)

    def changed(self, key: str, instead: str) -> None:
        """Note that a key is honoured otherwise."""
        self.report.changed(self.entries.get(key, self.node), self.below(key), instead)

    def text(self, key: str) -> str | None:
        """Return a text; a number is taken as it is written."""
        node = self.get(key)
        if node is None:
            return None
        if node.text is None:
            self.problem(key, f"a text is expected, not {_kind(node)}")
            return None
        return node.text

    def choice(self, key: str, choices: tuple[str, ...]) -> str | None:
        """Return one of ``choices``."""
        text = self.text(key)
        if text is None or text in choices:
            return text
        self.problem(key, f"{show(text)} is none of {', '.join(choices)}")
        return None

    def integer(self, key: str, *, low: int = 0, high: int = 2**62) -> int | None:
        """Return a whole number within bounds."""
        node = self.get(key)
        if node is None:
            return None
        value = resolve(node.value) if isinstance(node.value, str) else node.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            bound = f"from {low} to {high}" if high < 2**62 else f"of {low} or more"
            self.problem(key, f"a whole number {bound} is expected, not {_kind(node)}")
            return None
        return value

    def number(self, key: str) -> Decimal | None:
        """Return a number of 0 or more."""
        node = self.get(key)
        if node is None:
            return None
        try:
            value = Decimal((node.text or "")[:40])
        except InvalidOperation:
            value = Decimal("NaN")
        if isinstance(node.value, bool) or not value.is_finite() or value < 0 or value > 10**12:
            self.problem(key, f"a number of 0 or more is expected, not {_kind(node)}")
            return None
        return value

    def boolean(self, key: str) -> bool | None:
        """Return a truth value."""
        node = self.get(key)
        text = (node.text or "?").lower() if node is not None else None
        if text is None:
            return None
        if text not in _TRUE | _FALSE:
            self.problem(key, "true or false is expected")
            return None
        return text in _TRUE

    def duration_ns(self, key: str) -> int | None:
        """Return a duration in nanoseconds."""
        text = self.text(key)
        found = None if text is None else duration_ns(text)
        if text is not None and found is None:
            self.problem(key, f"{show(text)} is no duration; write 500ms, 10s or 1m30s")
        return found

    def size_bytes(self, key: str) -> int | None:
        """Return a size in bytes."""
        text = self.text(key)
        found = None if text is None else size_bytes(text)
        if text is not None and found is None:
            self.problem(key, f"{show(text)} is no size; write 512m or 2gb")
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; a single one is a list of it."""
        node = self.get(key)
        if node is None:
            return ()
        items = node.sequence if node.sequence is not None else (node,)
        wrong = [item for item in items if item.text is None]
        for item in wrong:
            self.report.problem(item, self.below(key), f"a text is expected, not {_kind(item)}")
        return tuple(item.text for item in items if item.text is not None)

    def pairs(self, key: str) -> dict[str, str | None]:
        """Return ``a: b`` or ``- a=b`` as a mapping; a value that is not written is None."""
        node = self.get(key)
        if node is None:
            return {}
        if (entries := node.mapping) is not None:
            for name, held in entries.items():
                if held.text is None and not held.null:
                    self.report.problem(held, f"{self.below(key)}.{name}", f"a text is expected, not {_kind(held)}")
            return {name: held.text for name, held in entries.items()}
        found: dict[str, str | None] = {}
        for text in self.texts(key):
            name, equals, value = text.partition("=")
            found[name] = value if equals else None
        return found

    def section(self, key: str) -> Section:
        """Return the mapping at a key, an empty one if it is not there."""
        node = self.get(key)
        if node is None:
            return Section(self.node.at({}), self.below(key), self.report)
        if node.mapping is None:
            self.problem(key, f"a mapping is expected, not {_kind(node)}")
            return Section(node.at({}), self.below(key), self.report)
        return Section(node, self.below(key), self.report)

    def items(self, key: str) -> Iterator[Section]:
        """Yield the mappings of a list; what is no mapping is a problem."""
        node = self.get(key)
        for index, item in enumerate(node.sequence or () if node is not None else ()):
            if item.mapping is None:
                self.report.problem(item, f"{self.below(key)}[{index}]", f"a mapping is expected, not {_kind(item)}")
            else:
                yield Section(item, f"{self.below(key)}[{index}]", self.report)

    def named(self, key: str) -> Iterator[tuple[str, Section]]:
        """Yield the entries of a mapping of mappings; an entry without a value is an empty mapping."""
        inner = self.section(key)
        for name, node in inner.entries.items():
            if node.mapping is None and not node.null:
                inner.problem(name, f"a mapping is expected, not {_kind(node)}")
            yield name, Section(node if node.mapping is not None else node.at({}), inner.below(name), self.report)


def _kind(node: Node) -> str:
    if node.mapping is not None:
        return "a mapping"
    return "a list" if node.sequence is not None else show(node.value)
