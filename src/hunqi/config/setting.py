"""What a setting is: its key in the file, its variable, its flag, its kind and what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hunqi.config.kinds import Kind

ENVIRONMENT_PREFIX: Final = "HUNQI_MIRROR_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One thing that can be set."""

    key: str
    """Its place under ``[mirror]`` in the file."""
    fields: tuple[str, ...]
    """Where its value goes in the settings' dataclass; several for a value of several parts."""
    kind: Kind
    help: str
    flag: str | None = None
    off_flag: str | None = None
    """For what is on by default: the flag that turns it off."""
    many: bool = False
    default: str | None = None
    """The default in words, where it is not the dataclass' own."""
    panel: str = "Listening and storage"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.key.upper().translate(str.maketrans(".-", "__"))
