"""A Compose project as a client hands it over: only what is referenced travels.

The client sends its entry files. The compiler answers with what it misses (:class:`NeedsError`), the client adds it, or
says that it is not there, and asks again. So a file or a variable that the project does not name never leaves the
client's machine. Paths are relative to the project's root, with ``/``; none leads out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from hunqi.apps.model import Note
from hunqi.errors import UserError

MAX_FILES: Final = 200
MAX_FILE_BYTES: Final = 1024 * 1024
"""Of a file of YAML or of variables; a payload is limited by Swarm (500 kB secrets, 1,000 kB configs)."""
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """All that is known of a project so far.

    ``files`` holds what was sent, by path. A directory that is bind mounted is asked for as a file first, and once it
    is absent as that by a path that ends with ``/``; its text lists its files, one on a line, relative to it.
    ``images`` replaces the images of services (``--image web=ref``). ``tcp_ports`` is the first and the last port that
    ``ports:`` may publish.
    """

    name: str
    files: Mapping[str, str | bytes] = field(repr=False)
    entry: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    absent_files: frozenset[str] = frozenset()
    absent_variables: frozenset[str] = frozenset()
    profiles: frozenset[str] = frozenset()
    images: Mapping[str, str] = field(default_factory=dict[str, str])
    tcp_ports: tuple[int, int] = (20000, 20099)


class NeedsError(UserError):
    """The project names files or variables that were not sent: send them, or say that they are absent."""

    code: ClassVar[str] = "compose.needs"

    def __init__(self, files: Iterable[str], variables: Iterable[str]) -> None:
        self.files = frozenset(files)
        self.variables = frozenset(variables)
        super().__init__(f"the project needs {_listed('files', self.files)} and {_listed('variables', self.variables)}")


class InvalidError(UserError):
    """The project is not valid: each problem with its file and line, and what to do."""

    code: ClassVar[str] = "compose.invalid"

    def __init__(self, problems: Iterable[Note]) -> None:
        self.problems = tuple(problems)
        shown = [describe(note) for note in self.problems[:_SHOWN]]
        more = len(self.problems) - len(shown)
        super().__init__("\n".join(shown) + (f"\n… and {more} more" if more > 0 else ""))


def describe(note: Note) -> str:
    """Return a note as a line of text: ``compose.yaml:7: services.web.ports: …``."""
    return f"{note.file}:{note.line}: {note.path + ': ' if note.path else ''}{note.instead}"


def _listed(kind: str, names: frozenset[str]) -> str:
    shown = sorted(names)[:_SHOWN]
    return f"the {kind} {', '.join(shown)}{', …' if len(names) > _SHOWN else ''}" if names else f"no {kind}"
