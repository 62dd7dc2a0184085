"""A Compose project on this machine: what of it travels is what the interface asks for, and nothing else.

The entry files go first. The interface answers ``compose.needs`` with the files and variables that these name; those
files are read if they lie inside the project's directory, those variables are looked up, and what is not there is said
to be absent. A file or a variable that the project does not name never leaves this machine.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from hunqi.client.errors import ProjectFilesError, RefusedError

T = TypeVar("T")
DEFAULT_FILES: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
MAX_FILE_BYTES: Final = 1024 * 1024
_ROUNDS: Final = 50
_MAX_LISTED: Final = 2000
_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*?)\s*")
_COMMENT: Final = re.compile(r"\s+#.*$")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalProject:
    """``root`` is the directory out of which no file is sent; ``entry`` are paths relative to it."""

    root: Path
    entry: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """All that there are; only those that the project names are sent."""

    @classmethod
    def find(
        cls,
        files: Iterable[Path],
        *,
        directory: Path | None = None,
        env_files: Iterable[Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> LocalProject:
        """Return the project of these Compose files, or of the one in ``directory`` under a usual name.

        Variables come from the environment, then from ``env_files`` (the last one first), by default ``.env``. Raises
        ``ProjectFilesError``.
        """
        given = [path.resolve() for path in files]
        root = (directory or (given[0].parent if given else Path())).resolve()
        if not given:
            given = [root / name for name in DEFAULT_FILES if (root / name).is_file()][:1]
        if not given:
            raise ProjectFilesError(f"there is no {DEFAULT_FILES[0]} in {root}: name the file with -f")
        outside = [str(path) for path in given if not path.is_relative_to(root)]
        if outside:
            raise ProjectFilesError(f"{outside[0]} is not inside of {root}: name a directory that holds all files")
        variables = dict[str, str]()
        default = root / ".env"
        for path in env_files if env_files is not None else ([default] if default.is_file() else []):
            variables.update(read_env_file(path))
        variables.update(os.environ if environment is None else environment)
        entry = tuple(path.relative_to(root).as_posix() for path in given)
        return cls(root=root, entry=entry, variables=variables)

    def read(self, path: str) -> str | bytes | None:
        """Return a file's content, or the list of a directory's files for a path that ends with ``/``.

        None if it is not there. Raises ``ProjectFilesError`` for one outside of the root, also by a link.
        """
        inside = self._inside(path)
        if path.endswith("/"):
            return self._listed(inside) if inside.is_dir() else None
        try:
            with inside.open("rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return None
                data = file.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise ProjectFilesError(f"{inside} cannot be read: {error.strerror}") from error
        if len(data) > MAX_FILE_BYTES:
            raise ProjectFilesError(
                f"{inside} is larger than {MAX_FILE_BYTES // 1024} KiB: keep it in a volume or an image"
            )
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data

    def _inside(self, path: str) -> Path:
        found = Path() if "\0" in path else (self.root / path).resolve()
        if not found.is_relative_to(self.root):
            raise ProjectFilesError(f"the project names {path!r}, which is outside of {self.root}: it is not sent")
        return found

    def _listed(self, directory: Path) -> str:
        found = sorted(each.relative_to(directory).as_posix() for each in directory.rglob("*") if each.is_file())
        if len(found) > _MAX_LISTED:
            raise ProjectFilesError(f"{directory} has more than {_MAX_LISTED} files: keep them in a volume or an image")
        return "\n".join(found)


async def complete(
    project: LocalProject,
    options: Mapping[str, Any],
    send: Callable[[Mapping[str, Any]], Awaitable[T]],
) -> T:
    """Send the project by ``send`` (of a body), again with what is asked for until nothing is; return its answer.

    ``options`` are further members of the body. Raises ``ProjectFilesError`` and what ``send`` raises.
    """
    files, binary, variables = dict[str, str](), dict[str, str](), dict[str, str]()
    no_files, no_variables = set[str](), set[str]()
    _add_files(project, project.entry, files, binary, no_files)
    if no_files:
        raise ProjectFilesError(f"{project.root / min(no_files)} is not there")
    for _ in range(_ROUNDS):
        absent = {"files": sorted(no_files), "variables": sorted(no_variables)}
        body = {**options, "entry": list(project.entry), "files": files, "binary": binary, "variables": variables}
        try:
            return await send({**body, "absent": absent})
        except RefusedError as error:
            if error.problem_code != "compose.needs":
                raise
            wanted = [str(path) for path in error.problem.get("files", ())]
            names = [str(name) for name in error.problem.get("variables", ())]
            known = files.keys() | binary.keys() | no_files
            if known.issuperset(wanted) and (variables.keys() | no_variables).issuperset(names):
                raise  # nothing new was asked: asking again would not end
        _add_files(project, wanted, files, binary, no_files)
        for name in names:
            if name in project.variables:
                variables[name] = project.variables[name]
            else:
                no_variables.add(name)
    raise ProjectFilesError(f"the project includes files more than {_ROUNDS} deep")


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file of ``KEY=value`` lines; values may be quoted. Raises ``ProjectFilesError``."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectFilesError(f"{path} cannot be read: {error}") from error
    found = dict[str, str]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ProjectFilesError(f"{path}:{number}: KEY=value is expected")
        found[match[1]] = _value(match[2])
    return found


def _value(text: str) -> str:
    quote = text[:1]
    if quote in {"'", '"'} and (end := _closing(text, quote)) is not None:
        inner = text[1:end]
        if quote == "'":
            return inner
        return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), inner)
    return _COMMENT.sub("", text)


def _closing(text: str, quote: str) -> int | None:
    at = 1
    while at < len(text):
        if text[at] == "\\" and quote == '"':
            at += 1
        elif text[at] == quote:
            return at
        at += 1
    return None


def _add_files(
    project: LocalProject, paths: Iterable[str], files: dict[str, str], binary: dict[str, str], absent: set[str]
) -> None:
    for path in paths:
        match project.read(path):
            case str() as text:
                files[path] = text
            case bytes() as data:
                binary[path] = base64.b64encode(data).decode()
            case None:
                absent.add(path)
