"""The names that things of an app have in the engine. Docker allows 63 characters for a service."""

from __future__ import annotations

import re
from typing import Final

from hunqi.apps.errors import AppNameError
from hunqi.apps.model import NetworkSpec, PayloadSpec, VolumeSpec

MAX_APP_LENGTH: Final = 30
MAX_SERVICE_LENGTH: Final = 24
"""So that ``<app>_<service>-r<number>`` stays below Docker's 63 characters."""
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def parse_app_name(text: str) -> str:
    """Return ``text`` if an app can be called so. Raises ``AppNameError``."""
    if len(text) > MAX_APP_LENGTH or not _NAME.fullmatch(text):
        raise AppNameError(
            f"{text[:80]!r} cannot be the name of an app: use 1 to {MAX_APP_LENGTH} lower-case letters, digits and "
            "hyphens, beginning and ending with a letter or digit"
        )
    return text


def service_name(app: str, service: str, revision: int) -> str:
    """Return the Swarm service of ``service``, last changed in ``revision``."""
    return f"{app}_{service}-r{revision}"


def network_name(app: str, network: NetworkSpec) -> str:
    """Return the engine's name of a network: its own if it is external or shared."""
    return network.external or network.shared or f"{app}_{network.name}"


def volume_name(app: str, volume: VolumeSpec) -> str:
    """Return the engine's name of a volume."""
    return volume.external or f"{app}_{volume.name}"


def payload_name(app: str, payload: PayloadSpec) -> str:
    """Return the engine's name of a secret or config: versioned by its content."""
    if payload.digest is None:
        return payload.external or payload.name
    return f"{app}_{payload.name}-{payload.digest.removeprefix('sha256:')[:12]}"
