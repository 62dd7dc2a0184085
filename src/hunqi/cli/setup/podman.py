"""Podman, Buildah, Skopeo and CRI-O: one drop-in of our own (containers-registries.conf(5)).

They do not say which registry they mean (``?ns=``), so the upstream stands in the mirror's location.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hunqi.cli.setup.model import FileChange, Mirror, Plan, ReadFile

DROP_IN: Final = Path("/etc/containers/registries.conf.d/050-hunqi.conf")


def plan_podman(mirror: Mirror, read: ReadFile) -> Plan:
    """Return the drop-in; it is read at every pull, nothing is restarted."""
    text = "# Written by `hunqi mirror setup podman`; remove this file to undo it.\n"
    text += "".join(_registry(upstream, mirror) for upstream in mirror.upstreams)
    change = FileChange(path=DROP_IN, before=read(DROP_IN), after=text)
    return Plan(changes=(change,), notes=("Read at every pull by podman, buildah, skopeo copy and CRI-O.",))


def _registry(upstream: str, mirror: Mirror) -> str:
    insecure = "" if mirror.tls else "insecure = true\n"
    return (
        f'\n[[registry]]\nprefix = "{upstream}"\nlocation = "{upstream}"\n\n'
        f'[[registry.mirror]]\nlocation = "{mirror.host}/{upstream}"\n{insecure}'
    )
