"""What one control process is told at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hunqi.control.certificates import AcmeWish
from hunqi.gateway.model import Edge
from hunqi.nodes.identity import TlsPaths
from hunqi.telemetry.settings import TelemetrySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """One control process, on a manager of the Swarm."""

    cluster: str
    node: str
    """The id of this node in the Swarm."""
    host: str
    port: int
    """Where the API listens."""
    database_url: str = field(repr=False)
    docker_socket: Path
    mirror_address: str
    """``127.0.0.1:5000``: this node's accelerator, and the prefix of every image that is deployed."""
    agent_address: str
    """``host:port`` at which other nodes reach this node's agent."""
    tls: TlsPaths
    """Control's certificate, by which agents know it."""
    agent_tls: TlsPaths
    """That of this node's agent, which control puts into the roster."""
    cluster_key_file: Path
    log_dir: Path
    """Where lines of removed services are kept."""
    backup_dir: Path
    telemetry_dir: Path
    """Where the history of what is measured lies."""
    edge: Edge
    acme: AcmeWish | None
    """Whether public hosts get certificates of an ACME authority, and whose."""
    is_open: bool
    """Whether other machines can reach this one, so that they may join."""
    event_days: int = 365
    """For so long events are kept."""
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    shared: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What a joining machine is told: ports and ranges."""
