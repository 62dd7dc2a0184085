"""Docker: ``daemon.json`` for Docker Hub, ``hosts.toml`` for every other registry where the engine reads it.

The graph drivers know mirrors of docker.io only (``registry-mirrors``, without ``?ns=``); the containerd image store,
the default of new installations of Docker 29, also reads ``/etc/docker/certs.d/<host>/hosts.toml``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, cast

from hunqi.cli.setup.hosts_toml import hosts_change
from hunqi.cli.setup.model import ExistingFileError, FileChange, Mirror, Plan, ReadFile

DAEMON_JSON: Final = Path("/etc/docker/daemon.json")
DOCKER_HOSTS: Final = Path("/etc/docker/certs.d")
_HUB: Final = "docker.io"


def plan_docker(mirror: Mirror, read: ReadFile) -> Plan:
    """Return what Docker needs; raise :class:`ExistingFileError` where a file cannot be merged."""
    others = [upstream for upstream in mirror.upstreams if upstream != _HUB]
    changes = [hosts_change(DOCKER_HOSTS / name / "hosts.toml", name, mirror, read) for name in others]
    notes: list[str] = []
    if mirror.default_upstream == _HUB:
        changes.insert(0, daemon_change(read(DAEMON_JSON), mirror))
    else:
        notes.append(
            f"Docker's registry-mirrors are for docker.io only, and this mirror's default upstream is "
            f"{mirror.default_upstream or 'another'}: write {mirror.host}/REGISTRY/REPOSITORY in image names."
        )
    if others:
        example = f"docker pull {mirror.host}/{others[0]}/OWNER/IMAGE"
        notes += [
            "The hosts.toml files count with the containerd image store (docker info: Storage Driver overlayfs,",
            f"driver-type io.containerd.snapshotter.v1). With overlay2 write the mirror into the name: {example}",
        ]
    return Plan(changes=tuple(changes), notes=tuple(notes))


def daemon_change(before: str | None, mirror: Mirror, path: Path = DAEMON_JSON) -> FileChange:
    """Return ``daemon.json`` with this mirror first among ``registry-mirrors``; every other key stays."""
    document = _parse(path, before or "")
    mirrors = _list(path, document, "registry-mirrors")
    wanted = dict(document)
    if mirror.url not in [str(url).rstrip("/") for url in mirrors]:
        wanted["registry-mirrors"] = [mirror.url, *mirrors]
    insecure = _list(path, document, "insecure-registries")
    if not mirror.tls and not mirror.is_loopback and mirror.host not in insecure:
        wanted["insecure-registries"] = [*insecure, mirror.host]
    if wanted == document and before is not None:
        return FileChange(path=path, before=before, after=before)
    after = json.dumps(wanted, indent=_indent(before or ""), ensure_ascii=False) + "\n"
    return FileChange(path=path, before=before, after=after)


def _parse(path: Path, text: str) -> dict[str, Any]:
    if not text.strip():
        return {}  # Docker takes an empty file for no configuration
    try:
        document: object = json.loads(text, object_pairs_hook=_unique)
    except ValueError as error:
        raise ExistingFileError(path, f"is not valid ({error})", "correct it first, Docker refuses it too") from error
    if not isinstance(document, dict):
        raise ExistingFileError(path, "is not a JSON object", "correct it first, Docker refuses it too")
    return cast("dict[str, Any]", document)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands there twice")
    return result


def _list(path: Path, document: dict[str, Any], key: str) -> list[Any]:
    value: object = document.get(key, [])
    if not isinstance(value, list):
        raise ExistingFileError(path, f"has a {key} that is not a list", "correct it first, Docker refuses it too")
    return cast("list[Any]", value)


def _indent(text: str) -> int | str:
    match = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return match[1] if match else 2
