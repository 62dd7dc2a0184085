"""Every key of the Compose specification, and what becomes of it here.

The table is what the walk over a file goes by (``check.py``: keys that are unknown, not honoured or refused), and what
the page of the documentation is made of. ``services.*.ports.target`` is the target of an entry of a service's ports.
Source of the keys: the specification's schema of June 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Honour(StrEnum):
    """What becomes of a key."""

    YES = "yes"
    PARTLY = "in part"
    """By its value: what is not honoured of it is noted where it is read."""
    CHANGED = "otherwise"
    """Always otherwise than written; noted whenever it is written."""
    IGNORED = "no"
    """Noted whenever it is written."""
    REFUSED = "refused"
    """An error whenever it is written: without it the app would be another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of the specification. ``text`` says what it becomes, or what happens instead."""

    path: str
    honour: Honour
    text: str
    free: bool = False
    """What is below it has names of the user's."""

    @property
    def name(self) -> str:
        """The key itself, without the path."""
        return self.path.rpartition(".")[2]


@dataclass(slots=True)
class Branch:
    """A key with those below it; ``*`` stands for names of the user's."""

    key: Key | None = None
    below: dict[str, Branch] = field(default_factory=dict[str, "Branch"])


NEEDS_44: Final = "needs Docker 25 (API 1.44); older engines leave it out"
NEEDS_45: Final = "needs Docker 26 (API 1.45); older engines leave it out"
NEEDS_46: Final = "needs Docker 27 (API 1.46); older engines leave it out"
NEEDS_52: Final = "needs Docker 29 (API 1.52); older engines leave it out"

_HONOURS: Final[Mapping[str, Honour]] = {
    "+": Honour.YES,
    "~": Honour.PARTLY,
    ">": Honour.CHANGED,
    "-": Honour.IGNORED,
    "!": Honour.REFUSED,
}


def table(prefix: str, text: str) -> Iterator[Key]:
    """Yield the keys of a table: ``<honour> <path> <text>`` on each line, ``<path>*`` for names of the user's.

    The honours: ``+`` yes, ``~`` in part, ``>`` otherwise, ``-`` no, ``!`` refused.
    """
    for line in filter(None, map(str.strip, text.splitlines())):
        mark, path, words = line.split(None, 2)
        free = path.endswith("*")
        yield Key(path=prefix + path.removesuffix("*"), honour=_HONOURS[mark], text=words, free=free)


def tree(keys: tuple[Key, ...]) -> Branch:
    """Return the keys as a tree."""
    root = Branch()
    for key in keys:
        branch = root
        for name in key.path.split("."):
            branch = branch.below.setdefault(name, Branch())
        branch.key = key
    return root
