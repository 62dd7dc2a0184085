"""What is wrong with a configuration: all of it at once, each with key, value, rule and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

from hunqi.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing to correct."""

    key: str
    """Where it was written: a flag, a variable, or a file's name and key."""
    value: str
    """As written; empty where the fault is that it is missing."""
    rule: str
    remedy: str

    def __str__(self) -> str:
        written = f"{self.key} = {self.value}" if self.value else self.key
        return f"{written}\n      {self.rule}\n      -> {self.remedy}"


class ConfigError(UserError):
    """The configuration cannot be used; ``faults`` has every reason."""

    code: ClassVar[str] = "config.faults"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        title = "1 fault" if count == 1 else f"{count} faults"
        super().__init__("\n\n".join([f"{title} in the configuration:", *(f"  {fault}" for fault in self.faults)]))


def unknown(key: str, *, name: str, known: Iterable[str], value: str = "") -> Fault:
    """Return the fault of a ``name`` that nobody knows, with the nearest one that is known."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    remedy = f"did you mean {near[0]}?" if near else "remove it; docs/configuration.md lists every setting"
    return Fault(key=key, value=value, rule=f"there is no setting {name}", remedy=remedy)
