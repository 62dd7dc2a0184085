"""Paths of a project: relative to its root, with ``/``, and never out of it. Pure."""

from __future__ import annotations

import posixpath
import re
from typing import Final

MAX_PATH: Final = 1024
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


def inside(base: str, path: str) -> str | None:
    """Return ``path`` as seen from the root, ``base`` being the directory it is relative to; None if it leads out.

    ``""`` is the root itself. An absolute path leads out, since nobody knows where a project lies; so does ``~``.
    """
    if not path or len(path) > MAX_PATH or path.startswith(("/", "~")) or _FORBIDDEN.search(path):
        return None
    joined = posixpath.normpath(posixpath.join(base or ".", path))
    if joined == ".." or joined.startswith("../"):
        return None
    return "" if joined == "." else joined


def directory(path: str) -> str:
    """Return the directory of a file of the project."""
    return posixpath.dirname(path)


def absolute(path: str) -> bool:
    """Whether ``path`` is an absolute path in a container or on a host that means what it says: no ``..`` in it."""
    return (
        path.startswith("/") and len(path) <= MAX_PATH and not _FORBIDDEN.search(path) and ".." not in path.split("/")
    )
