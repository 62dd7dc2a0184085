"""What one agent is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hunqi.nodes.identity import TlsPaths

DEFAULT_PORT: Final = 7001


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """One agent. Its certificate, key and the cluster's authority lie in ``data_dir`` as the joining put them."""

    data_dir: Path
    """The agent's own directory (``<data>/agent``): certificates, last table, roster, marks; 0700."""
    cluster: str
    """The cluster's id, as in the labels of its objects and in its certificates."""
    node: str
    """The id of this node in the Swarm."""
    host: str = "0.0.0.0"
    port: int = DEFAULT_PORT
    docker_socket: Path = Path("/var/run/docker.sock")
    mirror_socket: Path | None = None
    """The operator's socket of this node's mirror (``<data>/mirror/fetcher.sock``)."""
    control_url: str | None = None
    """Control on this machine (``http://127.0.0.1:7000``): joining nodes are let through to it; None on workers."""
    mirror_tls: TlsPaths | None = None
    """Where this node's mirror has its certificate for other mirrors; None where it is renewed by somebody else."""
    mirror_address: str = "127.0.0.1:5000"
    """The prefix of the images that this cluster deploys: only such images are ever cleaned up."""
    has_gateway: bool = True
    gateway_name: str = "hunqi-gateway"
    """Of the gateway's containers."""
    gateway_host_ip: str = ""
    """The address of the machine at which the gateway's ports are published; empty means all."""
    gateway_workers: int = 2
    """Envoy's threads."""
    version: str = ""
    """Hunqi's own, for the status."""

    @property
    def tls(self) -> TlsPaths:
        """Where the certificate lies."""
        return TlsPaths(
            cert=self.data_dir / "agent.pem", key=self.data_dir / "agent.key", ca=self.data_dir / "cluster-ca.pem"
        )
