"""YAML as a tree of values that know their line.

Built from the parser's events with a stack of our own, so that depth, size and the growth by aliases are bounded before
anything is made of them: an alias counts as all that it stands for. Scalars follow YAML 1.2 as Compose reads it (``no``
and ``off`` are text, ``22:22`` is no number), with the octal ``0644`` that file modes are written in. Tags are
refused, but for ``!reset`` and ``!override`` (merging) and ``!!str``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import yaml

MAX_DEPTH: Final = 48
MAX_NODES: Final = 50_000
"""Of a file, with aliases expanded."""
MAX_KEY: Final = 512

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = "Scalar | tuple[Node, ...] | dict[str, Node]"

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OCTAL = re.compile(r"0o?([0-7]+)")
_HEX = re.compile(r"0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MAX_NUMBER: Final = 40
_TAGS: Final = {"!reset": "reset", "!override": "override"}
_TEXT_TAG: Final = "tag:yaml.org,2002:str"
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TreeError(Exception):
    """The text is no YAML that we take; ``line`` counts from 1."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value of the file, and where it stands. ``mark`` is ``reset`` or ``override``, by its tag."""

    value: Value
    file: str
    line: int
    raw: str | None = None
    """Of a scalar: as it is written."""
    mark: str | None = None
    size: int = field(default=1, compare=False)
    """How many values it is made of."""

    @property
    def mapping(self) -> Mapping[str, Node] | None:
        """The entries, or None if it is no mapping."""
        return self.value if isinstance(self.value, dict) else None

    @property
    def sequence(self) -> tuple[Node, ...] | None:
        """The items, or None if it is no sequence."""
        return self.value if isinstance(self.value, tuple) else None

    @property
    def null(self) -> bool:
        """Whether nothing is written."""
        return self.value is None

    @property
    def text(self) -> str | None:
        """A scalar as text, numbers as they are written; None for nothing, mappings and sequences."""
        match self.value:
            case str():
                return self.value
            case bool():
                return "true" if self.value else "false"
            case int() | float():
                return self.raw if self.raw is not None else str(self.value)
            case _:
                return None

    def at(self, value: Value) -> Node:
        """Return a node with another value in the same place."""
        return replace(self, value=value, raw=None)


def plain(node: Node) -> Any:
    """Return ``node`` as plain JSON, without places."""
    if (entries := node.mapping) is not None:
        return {key: plain(each) for key, each in entries.items()}
    if (items := node.sequence) is not None:
        return [plain(each) for each in items]
    return node.value


def read(text: str, file: str) -> list[Node]:
    """Return the documents of a file; raise :class:`TreeError`."""
    builder = _Builder(file)
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise TreeError(mark.line + 1 if mark else 1, f"this is no YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise TreeError(1, f"this is no YAML: {str(error)[:200]}") from error
    return builder.documents


def _events(text: str) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=_LOADER)


@dataclass(slots=True)
class _Frame:
    line: int
    mapping: bool
    anchor: str | None
    mark: str | None
    items: list[Node] = field(default_factory=list[Node])
    entries: dict[str, Node] = field(default_factory=dict[str, Node])
    merged: list[Node] = field(default_factory=list[Node])
    key: str | None = None


class _Builder:
    """Makes nodes of events."""

    def __init__(self, file: str) -> None:
        self.documents: list[Node] = []
        self._file = file
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def take(self, event: Any) -> None:
        """Take in the next event."""
        line: int = event.start_mark.line + 1
        match event:
            case yaml.ScalarEvent():
                self._scalar(event, line)
            case yaml.DocumentStartEvent():
                self._anchors = {}
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                if len(self._stack) >= MAX_DEPTH:
                    raise TreeError(line, f"nested more than {MAX_DEPTH} deep")
                mapping = isinstance(event, yaml.MappingStartEvent)
                self._stack.append(_Frame(line, mapping, event.anchor, self._mark(event, line)))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                node = self._anchors.get(event.anchor or "")
                if node is None:
                    raise TreeError(line, f"there is no anchor {(event.anchor or '')[:60]!r} before this")
                self._add(replace(node, line=line) if node.mapping is None else node, line)
            case _:
                pass

    def _mark(self, event: Any, line: int) -> str | None:
        tag: str | None = event.tag
        if tag is None or tag in _TAGS:
            return _TAGS.get(tag or "")
        if tag == _TEXT_TAG and isinstance(event, yaml.ScalarEvent):
            return None
        raise TreeError(line, f"the tag {tag[:60]!r} is not taken; only !reset and !override are")

    def _scalar(self, event: Any, line: int) -> None:
        mark = self._mark(event, line)
        bare = event.implicit[0] or (mark is not None and event.style is None)
        value = resolve(event.value) if bare and event.tag != _TEXT_TAG else event.value
        node = Node(value=value, file=self._file, line=line, raw=event.value, mark=mark)
        if self._stack and self._stack[-1].mapping and self._stack[-1].key is None:
            self._key(event, line)
            return
        self._keep(event.anchor, node)
        self._add(node, line)

    def _key(self, event: Any, line: int) -> None:
        key: str = event.value
        frame = self._stack[-1]
        if len(key) > MAX_KEY:
            raise TreeError(line, f"a key is at most {MAX_KEY} characters long")
        if key in frame.entries:
            raise TreeError(line, f"the key {key[:60]!r} stands here twice")
        frame.key = key

    def _keep(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _add(self, node: Node, line: int) -> None:
        self._count += node.size
        if self._count > MAX_NODES:
            raise TreeError(line, f"more than {MAX_NODES} values, aliases expanded")
        if not self._stack:
            self.documents.append(node)
            return
        frame = self._stack[-1]
        if not frame.mapping:
            frame.items.append(node)
        elif frame.key is None:
            raise TreeError(line, "a key is a plain text")
        elif frame.key == "<<":
            frame.merged += node.sequence or (node,)
            frame.key = None
        else:
            frame.entries[frame.key] = node
            frame.key = None

    def _close(self) -> None:
        frame = self._stack.pop()
        value: Value = self._merged(frame) if frame.mapping else tuple(frame.items)
        parts = value.values() if isinstance(value, dict) else value
        size = 1 + sum(part.size for part in parts)
        self._count -= size - 1  # the parts were counted when they were added
        node = Node(value=value, file=self._file, line=frame.line, mark=frame.mark, size=size)
        self._keep(frame.anchor, node)
        self._add(node, frame.line)

    def _merged(self, frame: _Frame) -> dict[str, Node]:
        entries = dict(frame.entries)
        for node in frame.merged:
            if node.mapping is None:
                raise TreeError(node.line, "<< takes mappings only")
            for key, held in node.mapping.items():
                entries.setdefault(key, held)
        self._count += sum(held.size for key, held in entries.items() if key not in frame.entries)
        self._count -= sum(node.size for node in frame.merged)
        return entries


def resolve(text: str) -> Scalar:
    """Return the scalar that a bare word means."""
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if text in {"true", "True", "TRUE"}:
        return True
    if text in {"false", "False", "FALSE"}:
        return False
    if len(text) > _MAX_NUMBER:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if (octal := _OCTAL.fullmatch(text)) is not None:
        return int(octal[1], 8)
    if (hexadecimal := _HEX.fullmatch(text)) is not None:
        return int(hexadecimal[1], 16)
    return float(text) if _FLOAT.fullmatch(text) else text
