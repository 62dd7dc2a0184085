"""Which Hunqi the commands speak to, and the token they show it: kept in a private file of this user.

``HUNQI_URL`` and ``HUNQI_TOKEN`` are stronger than the file, for machines that have none. A Hunqi may have several
addresses, one of each manager with control: the one that leads is found among them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from hunqi.errors import UserError
from hunqi.kit.files import write_atomic

URL_VARIABLE: Final = "HUNQI_URL"
TOKEN_VARIABLE: Final = "HUNQI_TOKEN"  # noqa: S105  # the variable's name
FILE_VARIABLE: Final = "HUNQI_CONTEXTS"
DEFAULT_URL: Final = "http://127.0.0.1:7000"
DEFAULT_NAME: Final = "default"


class ContextError(UserError):
    """The file of contexts cannot be used, or names no such context."""

    code: ClassVar[str] = "cli.context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A Hunqi and how one is known there."""

    name: str
    url: str
    more: tuple[str, ...] = ()
    """Further addresses of the same Hunqi."""
    token: str | None = field(default=None, repr=False)
    token_id: str | None = None
    """By which ``hunqi logout`` makes the token useless."""
    user: str | None = None
    ca_file: str | None = None
    """An authority to believe for an https URL, besides the machine's own."""

    @property
    def urls(self) -> list[str]:
        """All addresses."""
        return [self.url, *self.more]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """All that are kept, by name."""

    current: str = DEFAULT_NAME
    held: Mapping[str, Context] = field(default_factory=dict[str, Context])

    def chosen(self) -> Context:
        """Return the one in use, the loopback's where nothing was ever kept."""
        return self.held.get(self.current) or Context(name=self.current, url=DEFAULT_URL)

    def having(self, context: Context) -> Contexts:
        """Return these with ``context`` kept and in use."""
        return Contexts(current=context.name, held={**self.held, context.name: context})

    def without(self, name: str) -> Contexts:
        """Return these without ``name``. Raises :class:`ContextError`."""
        if name not in self.held:
            raise ContextError(f"there is no context {name!r}: hunqi context ls")
        held = {key: each for key, each in self.held.items() if key != name}
        return Contexts(current=self.current if self.current != name else DEFAULT_NAME, held=held)


def contexts_file() -> Path:
    """Return where contexts are kept."""
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "hunqi/contexts.json"


def load_contexts() -> Contexts:
    """Return what is kept, nothing where there is no file. Raises :class:`ContextError`."""
    path = contexts_file()
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        held = {name: _context(each) for name, each in data["contexts"].items()}
        return Contexts(current=data["current"], held=held)
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise ContextError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContextError(f"{path} is damaged: remove it, and hunqi login again") from error


def _context(kept: dict[str, Any]) -> Context:
    more: list[str] = kept.pop("more", [])
    return Context(**kept, more=tuple(more))


def save_contexts(contexts: Contexts) -> None:
    """Keep ``contexts``, readable by this user only. Raises :class:`ContextError`."""
    path = contexts_file()
    data = {"current": contexts.current, "contexts": {name: asdict(each) for name, each in contexts.held.items()}}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(data, indent=2) + "\n").encode(), mode=0o600)
    except OSError as error:
        raise ContextError(f"{path} cannot be written: {error.strerror}") from error


def effective() -> Context:
    """Return the context in use, with what the environment says instead."""
    kept = load_contexts().chosen()
    named, token = os.environ.get(URL_VARIABLE, ""), os.environ.get(TOKEN_VARIABLE)
    urls = [url.strip().rstrip("/") for url in named.split(",") if url.strip()]
    if urls and urls != [url.rstrip("/") for url in kept.urls][: len(urls)]:
        kept = Context(name="environment", url=urls[0], more=tuple(urls[1:]))
    return replace(kept, url=kept.url.rstrip("/"), token=token or kept.token)
