"""What a reading of the project finds: notes, problems, and what is missing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from hunqi.apps.compose.project import InvalidError, NeedsError
from hunqi.apps.compose.tree import Node
from hunqi.apps.model import Note

_MAX_NOTES: Final = 1000
_MAX_TEXT: Final = 400


class Report:
    """Collects; nothing stops at the first problem, so that a user sees all of them at once."""

    def __init__(self) -> None:
        self._notes: dict[tuple[str, int, str, str], Note] = {}
        self._problems: dict[tuple[str, int, str, str], Note] = {}
        self._privileges: dict[tuple[str, int, str, str], Note] = {}
        self._fatal = False
        self._files: set[str] = set()
        self._variables: set[str] = set()

    @property
    def notes(self) -> tuple[Note, ...]:
        """The keys that are not honoured as written, by file and line."""
        return _sorted(self._notes)

    @property
    def privileges(self) -> tuple[Note, ...]:
        """What the app asks of its hosts beyond a container of its own."""
        return _sorted(self._privileges)

    def ignored(self, node: Node, path: str, instead: str) -> None:
        """Note that a key has no effect."""
        _keep(self._notes, node, path, instead, "ignored")

    def changed(self, node: Node, path: str, instead: str) -> None:
        """Note that a key is honoured otherwise than it is written."""
        _keep(self._notes, node, path, instead, "changed")

    def privilege(self, node: Node, path: str, what: str) -> None:
        """Note that the app asks for something of the host."""
        _keep(self._privileges, node, path, what, "changed")

    def problem(self, node: Node, path: str, text: str) -> None:
        """Take in what makes the project invalid."""
        _keep(self._problems, node, path, text, "error")

    def fatal(self, node: Node, path: str, text: str) -> None:
        """Take in a problem after which the rest of the project cannot be judged."""
        self.problem(node, path, text)
        self._fatal = True

    def need_file(self, path: str) -> None:
        """Take in that a file is missing."""
        self._files.add(path)

    def need_variable(self, name: str) -> None:
        """Take in that a variable is missing."""
        self._variables.add(name)

    def checkpoint(self, *, end: bool = False) -> None:
        """Raise what was found: what is missing first, since what it would bring may solve the rest.

        Before the ``end`` only what makes it useless to go on. Raises ``NeedsError``, ``InvalidError``.
        """
        if self._files or self._variables:
            raise NeedsError(self._files, self._variables)
        if self._problems and (end or self._fatal):
            raise InvalidError(_sorted(self._problems))


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean …?)`` if something known is close to ``word``, else an empty text."""
    close = difflib.get_close_matches(word[:64], list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def show(value: object) -> str:
    """Return a value of the file for a message: quoted, in printable characters, not too long."""
    text = ascii(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else text[:97] + "…'"


def _keep(kept: dict[tuple[str, int, str, str], Note], node: Node, path: str, text: str, severity: str) -> None:
    if len(kept) < _MAX_NOTES:
        note = Note(file=node.file, line=node.line, path=path, instead=text[:_MAX_TEXT], severity=severity)
        kept.setdefault((note.file, note.line, note.path, note.instead), note)


def _sorted(kept: dict[tuple[str, int, str, str], Note]) -> tuple[Note, ...]:
    return tuple(kept[key] for key in sorted(kept))
