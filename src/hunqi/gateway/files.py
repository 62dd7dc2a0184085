"""Envoy's configuration as files (file xDS): each is replaced by a rename, so that Envoy reads the old or the new one.

A file whose content is the same is not written again, and not even read if it is the very same value.
Its version is a digest of the content; Envoy tells it back (``admin``), which is how we know what is in force. Files
hold private keys: they and their folder are the owner's only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hunqi.gateway.render.common import JSON
from hunqi.kit.files import write_atomic

FOLDERS: Final = ("eds", "rds", "sds")


class ResourceFiles:
    """The files of one Envoy below ``folder``. Blocking; not for two writers."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is made if it is not there; what lies in it is taken as written."""
        self._folder = folder
        self._versions: dict[str, str] = {}
        self._last: dict[str, Sequence[str]] = {}
        for each in (folder, *(folder / name for name in FOLDERS)):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._there():
            self._versions[path] = _version_of(folder / path)

    @property
    def versions(self) -> Mapping[str, str]:
        """Path below the folder → version of what lies there."""
        return self._versions

    def write(self, path: str, resources: Sequence[str]) -> bool:
        """Write ``resources`` (each JSON) to ``path``; return whether that changed anything. Raises ``OSError``."""
        if self._last.get(path) is resources:
            return False
        body = f"[{','.join(resources)}]".encode()
        version = hashlib.sha256(body).hexdigest()[:16]
        changed = self._versions.get(path) != version
        if changed:
            text = b'{"version_info":"%b","resources":%b}\n' % (version.encode(), body)
            write_atomic(self._folder / path, text, mode=0o600, durable=False)
            self._versions[path] = version
        # Only what cannot change any more is known again by its identity.
        if isinstance(resources, tuple):
            self._last[path] = resources
        return changed

    def read(self, path: str) -> list[JSON]:
        """Return the resources at ``path``; none if there are none that can be read."""
        try:
            return json.loads((self._folder / path).read_text(encoding="utf-8"))["resources"]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def keep(self, paths: Collection[str]) -> list[str]:
        """Remove every file that is not one of ``paths``; return those removed."""
        gone = sorted(path for path in self._versions if path not in paths)
        for path in gone:
            (self._folder / path).unlink(missing_ok=True)
            del self._versions[path]
            self._last.pop(path, None)
        return gone

    def _there(self) -> list[str]:
        found = [each.name for each in self._folder.glob("?ds.json")]
        return found + [f"{name}/{each.name}" for name in FOLDERS for each in (self._folder / name).glob("*.json")]


def _version_of(path: Path) -> str:
    try:
        held: Any = json.loads(path.read_text(encoding="utf-8"))
        return str(held["version_info"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
