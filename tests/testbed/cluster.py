"""Several mirrors that are peers of each other, with certificates that ``hunqi mirror certs`` would make."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hunqi.cli.authority import create_authority, issue_certificate
from hunqi.mirror.peers.plan import rank
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.programs import free_port

_UP: str = "hunqi_mirror_source_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Its nodes, and what they call each other."""

    nodes: list[RunningMirror]
    peer_ports: list[int]
    certificates: Path

    def name(self, node: RunningMirror) -> str:
        """Return a node's own name, by which owners are found."""
        return (node.data / "node_id").read_text().strip()

    def by_rank(self, key: str) -> list[RunningMirror]:
        """Return the nodes in the order in which they own a digest or a local repository, the owner first."""
        by_name = {self.name(node): node for node in self.nodes}
        return [by_name[name] for name in rank(key, by_name)]

    def live_peers(self, node: RunningMirror) -> int:
        """Return how many other nodes ``node`` believes to be live."""
        found = node.metrics()
        return sum(int(value) for name, value in found.items() if name.startswith(_UP) and '"peer:' in name)

    def wait_for_peers(self, node: RunningMirror, count: int, *, timeout_s: float = 20.0) -> None:
        """Wait until ``node`` believes that ``count`` others are live."""
        wait_for(lambda: self.live_peers(node) == count, timeout_s=timeout_s, what=f"{count} live peers")


@contextlib.contextmanager
def cluster(
    directory: Path,
    *,
    count: int,
    upstreams: Mapping[str, str],
    args: Sequence[str] = (),
    tls: bool = True,
    names: Sequence[str] = (),
) -> Generator[Cluster]:
    """Run ``count`` nodes, each told of all addresses, its own included; all know each other when this begins.

    Their certificates are for ``names`` besides.
    """
    certificates = directory / "certs"
    now = datetime.now(UTC)
    create_authority(certificates, name="test cluster", now=now)
    ports = [free_port() for _ in range(count)]
    scheme = "https" if tls else "http"
    peers = [word for port in ports for word in ("--peer", f"{scheme}://127.0.0.1:{port}")]
    with contextlib.ExitStack() as stack:
        nodes: list[RunningMirror] = []
        for number, port in enumerate(ports):
            secured: list[str] = []
            if tls:
                files = issue_certificate(
                    certificates, node=f"n{number}", hosts=("127.0.0.1", *names), out=certificates, now=now
                )
                secured = ["--peer-tls-cert", str(files.cert), "--peer-tls-key", str(files.key)]
                secured += ["--peer-tls-ca", str(certificates / "ca.pem")]
            own = ["--peer-listen", f"127.0.0.1:{port}", *peers, *secured, *args]
            mirror = RunningMirror(directory / f"n{number}", upstreams=upstreams, args=own)
            nodes.append(stack.enter_context(mirror))
        running = Cluster(nodes=nodes, peer_ports=ports, certificates=certificates)
        for node in nodes:
            running.wait_for_peers(node, count - 1)
        yield running
