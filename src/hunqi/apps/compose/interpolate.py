"""Variables in texts: ``$X ${X} ${X:-d} ${X-d} ${X:?e} ${X?e} ${X:+r} ${X+r} $$``, nested. Pure.

Source: Compose specification, *Interpolation*. What stands after the operator is a template itself and is only looked
at when it is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

MAX_RESULT: Final = 256 * 1024
_MAX_DEPTH: Final = 16
_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATOR = re.compile(r":?[-?+]")

Lookup: TypeAlias = Callable[[str], "str | None"]
"""Returns a variable's value, None if it is not set."""


class TemplateError(Exception):
    """The text is no template, or a variable that it requires is not set; ``str()`` says what to do."""


def substitute(text: str, lookup: Lookup, blank: Callable[[str], None] = lambda _: None) -> str:
    """Return ``text`` with its variables replaced; ``blank`` is told of those for which an empty text stands.

    Raises ``TemplateError``.
    """
    if "$" not in text:
        return text
    reader = _Reader(text, lookup, blank)
    return reader.read(0)


class _Reader:
    """Reads a template once, from left to right."""

    def __init__(self, text: str, lookup: Lookup, blank: Callable[[str], None]) -> None:
        self._text = text
        self._lookup = lookup
        self._blank = blank
        self._at = 0
        self._made = 0

    def read(self, depth: int, *, wanted: bool = True) -> str:
        """Return what stands up to the end, or below the top up to the closing brace."""
        if depth > _MAX_DEPTH:
            raise TemplateError(f"variables are nested more than {_MAX_DEPTH} deep")
        parts: list[str] = []
        braces = 0
        while self._at < len(self._text):
            character = self._text[self._at]
            if depth and character == "}" and not braces:
                return "".join(parts)
            if character == "$":
                parts.append(self._variable(depth, wanted=wanted))
            else:
                braces += {"{": 1, "}": -1}.get(character, 0) if depth else 0
                parts.append(character)
                self._at += 1
            self._made += len(parts[-1])
            if self._made > MAX_RESULT:
                raise TemplateError(f"the text is longer than {MAX_RESULT} characters with its variables replaced")
        if depth:
            raise TemplateError("a ${ is not closed; a literal $ is written $$")
        return "".join(parts)

    def _variable(self, depth: int, *, wanted: bool) -> str:
        after = self._text[self._at + 1 : self._at + 2]
        if after == "$":
            self._at += 2
            return "$"
        braced = after == "{"
        match = _NAME.match(self._text, self._at + (2 if braced else 1))
        if match is None:
            shown = self._text[self._at : self._at + 12]
            raise TemplateError(f"{shown!r} is no variable; a literal $ is written $$")
        self._at = match.end()
        return self._braced(match[0], depth, wanted=wanted) if braced else self._plain(match[0], wanted=wanted)

    def _plain(self, name: str, *, wanted: bool) -> str:
        value = self._lookup(name) if wanted else ""
        if value is None:
            self._blank(name)
        return value or ""

    def _braced(self, name: str, depth: int, *, wanted: bool) -> str:
        operator = _OPERATOR.match(self._text, self._at)
        if operator is None:
            self._close(name)
            return self._plain(name, wanted=wanted)
        self._at = operator.end()
        value = self._lookup(name) if wanted else None
        present = value is not None and (value != "" or ":" not in operator[0])
        takes = wanted and (present if operator[0][-1] == "+" else not present)
        rest = self.read(depth + 1, wanted=takes)
        self._close(name)
        match operator[0][-1]:
            case "+":
                return rest if takes else ""
            case "?" if takes:
                raise TemplateError(f"the variable {name} must be set{': ' + rest if rest else ''}")
            case "-" if takes:
                return rest
            case _:
                return value or ""

    def _close(self, name: str) -> None:
        if self._text[self._at : self._at + 1] != "}":
            raise TemplateError(f"${{{name} is not closed or has no operator that is known; a literal $ is written $$")
        self._at += 1
