"""The Compose project that a command is about: its files on this machine, and the name of its app."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml

from hunqi.client.project import DEFAULT_FILES, LocalProject
from hunqi.errors import UserError

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class ProjectError(UserError):
    """The project's name is none, or what is said of its images."""

    code: ClassVar[str] = "cli.project"


def find_project(files: Sequence[Path], *, directory: Path | None, env_files: Sequence[Path]) -> LocalProject:
    """Return the project of ``files``, or of those that Compose would find. Raises ``ProjectFilesError``."""
    chosen = list(files) or _with_override(directory or Path())
    return LocalProject.find(chosen, directory=directory, env_files=env_files or None)


def name_of(project: LocalProject, given: str | None) -> str:
    """Return the app's name: as given, of the environment, of the files, else of the directory."""
    for name, where in (
        (given, "--name"),
        (os.environ.get("COMPOSE_PROJECT_NAME"), "COMPOSE_PROJECT_NAME"),
        (_name_in(project), "name: in the file"),
    ):
        if name:
            if not _NAME.fullmatch(name):
                raise ProjectError(f"{where}: {name[:80]!r} is no app's name: use a-z, 0-9 and -, 63 at most")
            return name
    plain = re.sub(r"[^a-z0-9-]+", "-", project.root.name.lower()).strip("-")[:63].strip("-")
    if not plain:
        raise ProjectError("the app has no name: give --name")
    return plain


def parse_images(texts: Iterable[str]) -> dict[str, str]:
    """Return ``service=reference`` pairs. Raises :class:`ProjectError`."""
    images: dict[str, str] = {}
    for text in texts:
        service, equals, reference = text.partition("=")
        if not equals or not service or not reference:
            raise ProjectError(f"--image: {text!r} is not SERVICE=REFERENCE")
        images[service] = reference
    return images


def _with_override(directory: Path) -> list[Path]:
    """Return the usual file of a directory with its override beside it; none if there is none."""
    for name in DEFAULT_FILES:
        path = directory / name
        if path.is_file():
            override = path.with_name(f"{path.stem}.override{path.suffix}")
            return [path, override] if override.is_file() else [path]
    return []


def _name_in(project: LocalProject) -> str | None:
    found = None
    for path in project.entry:
        text = project.read(path)
        try:
            document: Any = yaml.safe_load(text or "")
        except yaml.YAMLError:
            continue  # control says better what is wrong, and where
        given: Any = document.get("name") if isinstance(document, dict) else None  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]  # whatever YAML holds
        if isinstance(given, str):
            if "$" in given:
                raise ProjectError("the name in the file has variables in it: give --name")
            found = given
    return found
