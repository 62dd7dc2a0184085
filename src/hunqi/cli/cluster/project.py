"""A Compose project as it is sent: the entry files first, then only what control asks for.

A file that is asked for must lie in the project's directory or below, unless the user allows another place; what is not
there is said to be absent. Variables come from ``--env-file`` (default ``.env`` beside the first file), then from this
process' environment, which is stronger, as in Compose.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import yaml

from hunqi.cli.cluster.calls import Api, ApiError
from hunqi.errors import UserError

DEFAULT_FILES: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
NEEDS: Final = "compose.needs"
_MOST_ROUNDS: Final = 20
_FILE_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_OVERRIDES: Final = {"compose": "compose.override", "docker-compose": "docker-compose.override"}


class ProjectError(UserError):
    """The project's files cannot be read, or its name is none."""

    code: ClassVar[str] = "cli.project"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be sent besides the files."""

    env_files: Sequence[Path] = ()
    profiles: Sequence[str] = ()
    images: Mapping[str, str] = field(default_factory=dict[str, str])
    reason: str = ""
    strict: bool = False
    order: str | None = None
    team: str | None = None
    allow_outside: bool = False


class Project:
    """The files of one project on this machine."""

    def __init__(self, files: Sequence[Path], wanted: Wanted) -> None:
        """Take up ``files``, or those that Compose would find here. Raises :class:`ProjectError`."""
        self._entry = [path.absolute() for path in files] or _found_here()
        self._wanted = wanted
        self.directory = self._entry[0].parent.resolve()
        self._texts: dict[str, str] = {}
        self._binary: dict[str, str] = {}
        self._variables: dict[str, str] = {}
        self._absent: tuple[set[str], set[str]] = (set(), set())
        self._offered = _offered_variables(self.directory, wanted.env_files)
        self._names = [self._name_of(path) for path in self._entry]
        for path, name in zip(self._entry, self._names, strict=True):
            self._take(name, path)

    def app_name(self, given: str | None) -> str:
        """Return the app's name: as given, of the environment, of the files, else of the directory."""
        for name, where in (
            (given, "--name"),
            (os.environ.get("COMPOSE_PROJECT_NAME"), "COMPOSE_PROJECT_NAME"),
            (self._name_in_files(), "name: in the file"),
        ):
            if name:
                if not _NAME.fullmatch(name):
                    raise ProjectError(f"{where}: {name[:80]!r} is no app's name: use a-z, 0-9 and -, 63 at most")
                return name
        plain = re.sub(r"[^a-z0-9-]+", "-", self.directory.name.lower()).strip("-")[:63].strip("-")
        if not plain:
            raise ProjectError("the app has no name: give --name")
        return plain

    async def send(self, api: Api, path: str) -> Any:
        """Post the project and return the answer, adding what control asks for. Raises what the API says."""
        for _ in range(_MOST_ROUNDS):
            try:
                return await api.post(path, self._body())
            except ApiError as error:
                if error.kind != NEEDS or not self._add(error.problem):
                    raise
        raise ProjectError("the files refer to ever more files: is there a circle of include or extends?")

    def _body(self) -> dict[str, Any]:
        wanted = self._wanted
        files, variables = self._absent
        return {
            "files": self._texts,
            "binary": self._binary,
            "entry": self._names,
            "variables": self._variables,
            "absent": {"files": sorted(files), "variables": sorted(variables)},
            "profiles": list(wanted.profiles),
            "images": dict(wanted.images),
            "reason": wanted.reason,
            "strict": wanted.strict,
            "order": wanted.order,
            **({"team": wanted.team} if wanted.team else {}),
        }

    def _add(self, problem: Mapping[str, Any]) -> bool:
        """Add what is asked for; return whether anything was."""
        before = self._size()
        for name in _texts(problem.get("files")):
            if name not in self._texts and name not in self._binary:
                self._look_for(name)
        for name in _texts(problem.get("variables")):
            if name in self._offered:
                self._variables[name] = self._offered[name]
            else:
                self._absent[1].add(name)
        return self._size() != before

    def _size(self) -> int:
        return sum(map(len, (self._texts, self._binary, self._variables, *self._absent)))

    def _look_for(self, name: str) -> None:
        path = (self.directory / name).resolve()
        if not self._wanted.allow_outside and not path.is_relative_to(self.directory):
            raise ProjectError(
                f"the files refer to {name}, which lies outside of {self.directory}: if it may be read, --allow-outside"
            )
        if path.is_file():
            self._take(name, path)
        else:
            self._absent[0].add(name)

    def _take(self, name: str, path: Path) -> None:
        try:
            if path.stat().st_size > _FILE_BYTES:
                raise ProjectError(f"{path} has more than 1 MiB: it is no file of a Compose project")
            data = path.read_bytes()
        except OSError as error:
            raise ProjectError(f"{path} cannot be read: {error.strerror}") from error
        try:
            self._texts[name] = data.decode("utf-8")
        except UnicodeDecodeError:
            self._binary[name] = base64.b64encode(data).decode()

    def _name_of(self, path: Path) -> str:
        return os.path.relpath(path, self._entry[0].parent)

    def _name_in_files(self) -> str | None:
        found = None
        for name in self._names:
            try:
                document: Any = yaml.safe_load(self._texts.get(name, ""))
            except yaml.YAMLError:
                continue  # control says better what is wrong, and where
            given: Any = document.get("name") if isinstance(document, dict) else None  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]  # whatever YAML holds
            if isinstance(given, str):
                if "$" in given:
                    raise ProjectError("the name in the file has variables in it: give --name")
                found = given
        return found


def parse_images(texts: Iterable[str]) -> dict[str, str]:
    """Return ``service=reference`` pairs. Raises :class:`ProjectError`."""
    images: dict[str, str] = {}
    for text in texts:
        service, equals, reference = text.partition("=")
        if not equals or not service or not reference:
            raise ProjectError(f"--image: {text!r} is not SERVICE=REFERENCE")
        images[service] = reference
    return images


def _found_here() -> list[Path]:
    for name in DEFAULT_FILES:
        path = Path(name).absolute()
        if path.is_file():
            override = path.with_name(f"{_OVERRIDES[path.stem]}{path.suffix}")
            return [path, override] if override.is_file() else [path]
    raise ProjectError(f"there is no {DEFAULT_FILES[0]} here: name a file with -f")


def _offered_variables(directory: Path, env_files: Sequence[Path]) -> dict[str, str]:
    files = list(env_files) or [path for path in [directory / ".env"] if path.is_file()]
    offered: dict[str, str] = {}
    for path in files:
        try:
            offered |= parse_env(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ProjectError(f"{path} cannot be read: {error}") from error
    return {**offered, **os.environ}


def parse_env(text: str) -> dict[str, str]:
    """Return the variables of an env file: ``NAME=value``, quotes taken off, comments and ``export`` left out."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        stripped = line.strip().removeprefix("export ").strip()
        name, equals, value = stripped.partition("=")
        if not equals or stripped.startswith("#"):
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        else:
            value = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
        found[name.strip()] = value
    return found


def _texts(value: Any) -> list[str]:
    return [str(each) for each in cast("list[object]", value)] if isinstance(value, list) else []
