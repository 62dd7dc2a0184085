"""The files and variables of a project: what was sent, what is known to be absent, and what has to be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hunqi.apps.compose.dotenv import EnvFileError, parse_env_file
from hunqi.apps.compose.paths import inside
from hunqi.apps.compose.project import MAX_FILE_BYTES, MAX_FILES, Project
from hunqi.apps.compose.report import Report, show
from hunqi.apps.compose.tree import Node

MAX_VARIABLE: Final = 128
_PROJECT_NAME: Final = "COMPOSE_PROJECT_NAME"


class Files:
    """The files of a project, by their path from its root."""

    def __init__(self, project: Project, report: Report) -> None:
        self._report = report
        self._held = {inside("", path.removesuffix("/")) or "": path for path in project.files}
        self._contents = project.files
        self._absent = {inside("", path) for path in project.absent_files if not path.endswith("/")}
        self._no_directories = {inside("", path[:-1]) for path in project.absent_files if path.endswith("/")}
        self._asked: set[str] = set()

    def data(self, path: str) -> bytes | None:
        """Return a file's content, None if it is absent, or not known yet: it is asked for then."""
        held = self._held.get(path)
        if held is not None and not held.endswith("/"):
            content = self._contents[held]
            return content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        if held is None and path not in self._absent:
            self._ask(path or ".")
        return None

    def absent(self, path: str) -> bool:
        """Whether the client said that there is no such file."""
        return path in self._absent

    def mountable(self, path: str) -> tuple[str, ...] | bytes | None:
        """Return what is mounted: the files of a directory, relative to it, or the content of a file.

        A directory that is not there is an empty one. None if it is not known yet: it is asked for then, as a file
        first, and as a directory (with ``/`` at the end) once it is known to be none.
        """
        listing = self.listing(path)
        data = self.data(path) if listing is None else None
        if listing is not None or data is not None:
            return data if listing is None else listing
        if not self.absent(path):
            return None
        if path not in self._no_directories:
            self._ask(f"{path or '.'}/")
            return None
        return ()

    def listing(self, path: str) -> tuple[str, ...] | None:
        """Return the files of a directory, relative to it; None if the client did not send a listing."""
        held = self._held.get(path)
        if held is None or not held.endswith("/"):
            return None
        content = self._contents[held]
        text = content if isinstance(content, str) else content.decode("utf-8", "replace")
        return tuple(line for line in text.splitlines() if line)

    def _ask(self, path: str) -> None:
        if len(self._asked) < MAX_FILES:
            self._asked.add(path)
            self._report.need_file(path)

    def text(self, path: str, place: Node, at: str, *, required: bool = True) -> str | None:
        """Return a file of text; one that is absent, too large or no text is a problem at ``place``."""
        data = self.data(path)
        if data is None:
            if required and (self.absent(path) or self.listing(path) is not None):
                self._report.problem(place, at, f"there is no file {show(path)}")
            return None
        if len(data) > MAX_FILE_BYTES:
            self._report.problem(place, at, f"the file {show(path)} is larger than {MAX_FILE_BYTES} bytes")
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            self._report.problem(place, at, f"the file {show(path)} is no UTF-8 text")
            return None


@dataclass(frozen=True)
class Variables:
    """The variables that templates see: the project's first, then what an ``include`` brings along."""

    project: Project
    report: Report
    further: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def lookup(self, name: str) -> str | None:
        """Return a variable's value, None if it is not set, or not known yet: it is asked for then."""
        project = self.project
        if name in project.variables:
            return project.variables[name]
        if name == _PROJECT_NAME:
            return project.name
        if name not in project.absent_variables and len(name) <= MAX_VARIABLE:
            self.report.need_variable(name)
        return self.further.get(name)

    def extended(self, further: Mapping[str, str]) -> Variables:
        """Return these variables with more behind them."""
        return Variables(self.project, self.report, {**self.further, **further})

    def read(self, text: str, path: str, place: Node, at: str, *, raw: bool = False) -> dict[str, str | None]:
        """Return the variables of a file; a line that cannot be read is a problem at that line."""
        del place

        def blank(name: str) -> None:
            self.blank(name, Node(value=None, file=path, line=1), at)

        try:
            return parse_env_file(text, self.lookup, raw=raw, blank=blank)
        except EnvFileError as error:
            self.report.problem(Node(value=None, file=path, line=error.line), at, error.text)
            return {}

    def blank(self, name: str, place: Node, at: str) -> None:
        """Note that an empty text stands for a variable that is not set."""
        if name in self.project.absent_variables:
            self.report.changed(place, at, f"the variable {name} is not set: an empty text stands for it")
