"""Files of variables (``env_file``, ``.env``): ``KEY=value`` on each line, as Compose reads them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from hunqi.apps.compose.interpolate import Lookup, TemplateError, substitute

_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.\-]*)[ \t]*(?:([=:])[ \t]*|(?=\r?\n|$))")
_RAW = re.compile(r"[ \t]*([A-Za-z_][A-Za-z0-9_.\-]*)(?:(=)(.*))?")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b", "v": "\v", '"': '"', "\\": "\\", "$": "$$"}


class EnvFileError(Exception):
    """The file has a line that cannot be read; ``line`` counts from 1."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


def parse_env_file(
    text: str, lookup: Lookup, *, raw: bool = False, blank: Callable[[str], None] = lambda _: None
) -> dict[str, str | None]:
    """Return the variables of a file; one without a value is None (taken from the project's variables by the caller).

    Values that are not in single quotes are templates: the file's earlier variables first, then ``lookup``. ``raw``
    takes each value as it stands. Raises :class:`EnvFileError`.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return _raw(text) if raw else _Parser(text, lookup, blank).parse()


def _raw(text: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _RAW.fullmatch(line)
        if match is None:
            raise EnvFileError(number, "KEY=value is expected")
        found[match[1]] = match[3] if match[2] else None
    return found


class _Parser:
    def __init__(self, text: str, lookup: Lookup, blank: Callable[[str], None]) -> None:
        self._text = text
        self._lookup = lookup
        self._blank = blank
        self._at = 0
        self._found: dict[str, str | None] = {}

    def parse(self) -> dict[str, str | None]:
        """Return the variables of the text."""
        while self._at < len(self._text):
            end = self._line_end()
            line = self._text[self._at : end].strip()
            if not line or line.startswith("#"):
                self._at = end + 1
                continue
            match = _LINE.match(self._text, self._at)
            if match is None:
                raise EnvFileError(self._line(), "KEY=value is expected")
            self._at = match.end()
            self._found[match[1]] = self._value() if match[2] else None
        return self._found

    def _value(self) -> str:
        quote = self._text[self._at : self._at + 1]
        if quote not in {"'", '"'} or not quote:
            end = self._line_end()
            value = re.split(r"(?:^|[ \t])#", self._text[self._at : end], maxsplit=1)[0].strip()
            line = self._line()
            self._at = end + 1
            return self._expand(value, line)
        return self._quoted(quote)

    def _quoted(self, quote: str) -> str:
        line = self._line()
        parts: list[str] = []
        at = self._at + 1
        while at < len(self._text) and self._text[at] != quote:
            character = self._text[at]
            if character == "\\" and at + 1 < len(self._text) and (quote == '"' or self._text[at + 1] == quote):
                follower = self._text[at + 1]
                parts.append(_ESCAPES.get(follower, "\\" + follower) if quote == '"' else follower)
                at += 2
                continue
            parts.append(character)
            at += 1
        if at >= len(self._text):
            raise EnvFileError(line, "a quote is not closed")
        self._at = at + 1
        end = self._line_end()
        rest = self._text[self._at : end].strip()
        if rest and not rest.startswith("#"):
            raise EnvFileError(self._line(), "nothing but a comment may follow the closing quote")
        self._at = end + 1
        value = "".join(parts)
        return value if quote == "'" else self._expand(value, line)

    def _expand(self, value: str, line: int) -> str:
        def look(name: str) -> str | None:
            earlier = self._found.get(name)
            return earlier if earlier is not None else self._lookup(name)

        try:
            return substitute(value, look, self._blank)
        except TemplateError as error:
            raise EnvFileError(line, str(error)) from error

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _line_end(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end
