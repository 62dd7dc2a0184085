"""What is asked of the person at the terminal; where there is none, nothing is asked and the way without it is named.

Passwords and tokens come from a prompt, standard input, a file or the environment, never from an argument: those are
seen by everybody on the machine.
"""

from __future__ import annotations

import os
import sys
from getpass import getpass
from pathlib import Path
from typing import ClassVar

from hunqi.errors import UserError


class InputError(UserError):
    """What was to be typed or piped in is missing or no good."""

    code: ClassVar[str] = "cli.input"


def secret(what: str, *, from_stdin: bool, variable: str = "", option: str, twice: bool = False) -> str:
    """Return a secret: from standard input, from the environment, else typed (``twice`` for new ones)."""
    if from_stdin:
        held = sys.stdin.readline().rstrip("\r\n")
    elif variable and os.environ.get(variable):
        held = os.environ[variable]
    elif sys.stdin.isatty():
        held = getpass(f"{what}: ")
        if twice and held and getpass("Again: ") != held:
            raise InputError("the two differ: nothing was done")
    else:
        other = f" or {variable} in the environment" if variable else ""
        raise InputError(f"there is no terminal to ask for the {what.lower()} on: pipe it in with {option}{other}")
    if not held:
        raise InputError(f"the {what.lower()} must not be empty")
    return held


def text(what: str, *, option: str, default: str = "") -> str:
    """Return a line that is typed; ``default`` where there is no terminal."""
    if not sys.stdin.isatty():
        if default:
            return default
        raise InputError(f"give {option}: there is no terminal to ask for the {what.lower()} on")
    typed = input(f"{what}{f' [{default}]' if default else ''}: ").strip()
    if not typed and not default:
        raise InputError(f"the {what.lower()} must not be empty")
    return typed or default


def confirm(question: str, *, yes: bool, option: str = "--yes") -> None:
    """Return if the person agrees, or ``yes`` was given. Raises :class:`InputError`."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{question} There is no terminal to ask on: give {option}")
    if input(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
        raise InputError("nothing was done")


def content(path: str, *, limit_bytes: int) -> bytes:
    """Return the content of a file, ``-`` being standard input. Raises :class:`InputError`."""
    try:
        data = sys.stdin.buffer.read(limit_bytes + 1) if path == "-" else _read(Path(path), limit_bytes)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise InputError(f"{path} holds more than {limit_bytes:,} bytes")
    return data


def _read(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit_bytes + 1)
