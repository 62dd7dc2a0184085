"""``hosts.toml`` of containerd and of Docker's containerd image store (containerd, docs/hosts.md).

Our table stands between two marks and before all others, for hosts are asked in the order of the file. Everything else
in an existing file stays as it is, letter by letter.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from hunqi.cli.setup.model import ExistingFileError, FileChange, Mirror, Plan, ReadFile, origin_url

CONTAINERD_HOSTS: Final = Path("/etc/containerd/certs.d")
CONTAINERD_CONFIG: Final = Path("/etc/containerd/config.toml")
_BEGIN: Final = "# begin hunqi mirror"
_END: Final = "# end hunqi mirror"
_OURS = re.compile(rf"^{_BEGIN}\n.*?^{_END}\n\n?", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)


def hosts_change(path: Path, upstream: str, mirror: Mirror, read: ReadFile) -> FileChange:
    """Return the change of one ``hosts.toml``; raise :class:`ExistingFileError` where it cannot be merged."""
    before = read(path)
    if before is None:
        return FileChange(path=path, before=None, after=f'server = "{origin_url(upstream)}"\n\n{_block(mirror)}')
    _parse(path, before)
    rest = _OURS.sub("", before)
    if mirror.url in _hosts(_parse(path, rest)):
        return FileChange(path=path, before=before, after=before)  # somebody pointed it here by hand
    first_table = _TABLE.search(rest)
    if first_table is None:
        after = f"{rest.rstrip()}\n\n{_block(mirror)}".lstrip()
    else:
        at = first_table.start()
        after = f"{rest[:at]}{_block(mirror)}\n{rest[at:]}"
    _require_kept(path, old=_parse(path, rest), new=_parse(path, after))
    return FileChange(path=path, before=before, after=after)


def plan_containerd(mirror: Mirror, read: ReadFile) -> Plan:
    """Return what containerd needs: a ``hosts.toml`` per upstream, read at every pull without a restart."""
    changes = [
        hosts_change(CONTAINERD_HOSTS / upstream / "hosts.toml", upstream, mirror, read)
        for upstream in mirror.upstreams
    ]
    return Plan(changes=tuple(changes), notes=(*_config_notes(read(CONTAINERD_CONFIG)),))


def _config_notes(config: str | None) -> list[str]:
    if config is not None and re.search(
        r'^\s*config_path\s*=\s*["\']\S*/etc/containerd/certs\.d', config, re.MULTILINE
    ):
        notes = [f"{CONTAINERD_CONFIG} has the config_path already: nothing to restart."]
    else:
        notes = [
            f"For Kubernetes and crictl check that {CONTAINERD_CONFIG} says (then restart containerd once):",
            '  version 2: [plugins."io.containerd.grpc.v1.cri".registry]    config_path = "/etc/containerd/certs.d"',
            "  version 3: [plugins.'io.containerd.cri.v1.images'.registry]  config_path = '/etc/containerd/certs.d'",
        ]
    return [*notes, f"With ctr: ctr images pull --hosts-dir {CONTAINERD_HOSTS} docker.io/library/nginx:latest"]


def _block(mirror: Mirror) -> str:
    return f'{_BEGIN}\n[host."{mirror.url}"]\n  capabilities = ["pull", "resolve"]\n{_END}\n'


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExistingFileError(path, f"is not TOML ({error})", "correct it or move it away") from error


def _hosts(document: Mapping[str, Any]) -> dict[str, Any]:
    hosts = document.get("host", {})
    return cast("dict[str, Any]", hosts) if isinstance(hosts, dict) else {}


def _require_kept(path: Path, *, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    kept = all(new.get(key) == value for key, value in old.items() if key != "host")
    if not kept or any(_hosts(new).get(host) != value for host, value in _hosts(old).items()):
        raise ExistingFileError(path, "has a form that cannot be merged", "add the [host] table by hand")
