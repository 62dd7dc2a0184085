"""The values of a setup: the mirror to point at, the files to change, and what else to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, ClassVar

from hunqi.cli.banner import reachable
from hunqi.cli.inspect import upstream_names
from hunqi.errors import UserError
from hunqi.mirror.settings import WELL_KNOWN_UPSTREAMS, Address

ReadFile = Callable[[Path], str | None]
"""Returns a file's text, or ``None`` where there is none."""


class ExistingFileError(UserError):
    """A file that stands there already cannot be merged with; it was left as it is."""

    code: ClassVar[str] = "cli.existing_file"

    def __init__(self, path: Path, fault: str, remedy: str) -> None:
        super().__init__(f"{path} {fault}: {remedy}. Nothing was changed.")
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The mirror that clients are pointed at."""

    address: Address
    tls: bool
    upstreams: tuple[str, ...]
    default_upstream: str

    @classmethod
    def of(cls, description: Mapping[str, Any], address: Address) -> Mirror:
        """Return the mirror of an answer to ``operate.describe``."""
        return cls(
            address=address,
            tls=bool(description.get("tls")),
            upstreams=tuple(upstream_names(description)),
            default_upstream=str(description.get("default_upstream", "")),
        )

    @property
    def host(self) -> str:
        """``host:port`` as a client on this machine reaches it."""
        return reachable(self.address)

    @property
    def url(self) -> str:
        """The URL, its scheme explicit: clients guess otherwise."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def is_loopback(self) -> bool:
        """Whether clients trust it without TLS."""
        return self.host.startswith(("127.", "localhost:", "[::1]:"))


def origin_url(upstream: str) -> str:
    """Return the real registry of ``upstream``, which a client falls back to; never where this mirror was pointed."""
    return WELL_KNOWN_UPSTREAMS.get(upstream, f"https://{upstream}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """What a file says now and what it shall say."""

    path: Path
    before: str | None
    after: str

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after

    def diff(self) -> str:
        """Return the change as a unified diff."""
        old = (self.before or "").splitlines(keepends=True)
        lines = unified_diff(
            old,
            self.after.splitlines(keepends=True),
            "/dev/null" if self.before is None else str(self.path),
            str(self.path),
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All of a setup."""

    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()
    """What a person should know or check, one line each."""
