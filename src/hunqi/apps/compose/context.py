"""What the parts of the compiler share while they read one project."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from hunqi.apps.compose.project import Project
from hunqi.apps.compose.report import Report
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.source import Files, Variables
from hunqi.apps.model import NetworkSpec, PayloadSpec, VolumeSpec

MAX_SECRET_BYTES: Final = 500 * 1024
MAX_CONFIG_BYTES: Final = 1000 * 1024
"""Swarm's own bounds, less a byte."""


@dataclass(frozen=True, slots=True)
class Context:
    """The project being read, and the objects that its services turn out to need."""

    project: Project
    files: Files
    variables: Variables
    report: Report
    root: Section
    networks: dict[str, NetworkSpec] = field(default_factory=dict[str, NetworkSpec])
    volumes: dict[str, VolumeSpec] = field(default_factory=dict[str, VolumeSpec])
    secrets: dict[str, PayloadSpec] = field(default_factory=dict[str, PayloadSpec])
    configs: dict[str, PayloadSpec] = field(default_factory=dict[str, PayloadSpec])
    payloads: dict[str, bytes] = field(default_factory=dict[str, bytes], repr=False)

    def keep(self, data: bytes) -> str:
        """Keep the bytes of a payload; return their digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.payloads[digest] = data
        return digest
