"""What is chosen once for the platform on a machine, and the places below its data directory.

``hunqi up`` writes the choice to ``DIR/platform.json``, so that every other command needs only the data directory, and
a second ``hunqi up`` needs no flags. Nothing secret is in that file but, possibly, the database's URL: it is private.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from hunqi.kit.files import write_atomic
from hunqi.nodes.identity import TlsPaths
from hunqi.platform.errors import SettingsError

DEFAULT_DATA: Final = Path("/var/lib/hunqi")
FILE_NAME: Final = "platform.json"
LOOPBACK: Final = "127.0.0.1"
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, *, name: str = "address") -> Address:
        """Read ``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT`` (on loopback). Raises :class:`SettingsError`."""
        host, _, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]") or LOOPBACK
        if not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
            raise SettingsError(f"{name}: {text!r} is no address; write for example 127.0.0.1:7000")
        return cls(host, int(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSettings:
    """One machine's platform. Addresses are where its processes listen."""

    data_dir: Path = DEFAULT_DATA
    docker_socket: Path = Path("/var/run/docker.sock")
    control: Address = Address(LOOPBACK, 7000)
    agent_port: int = 7001
    mirror: Address = Address(LOOPBACK, 5000)
    peers_port: int = 5001
    http_port: int = 80
    https_port: int = 443
    ready_port: int = 8404
    """Where the gateway says whether it is ready, for a load balancer before several; 0 for nowhere."""
    tcp_ports: tuple[int, int] = (20000, 20099)
    """First and last port of the range that ``ports:`` of an app may publish."""
    advertise: str | None = None
    """The address at which other machines of the cluster reach this one; None keeps agent and mirror on loopback."""
    database_url: str | None = field(default=None, repr=False)
    """``postgresql://…``; None keeps the state in SQLite below the data directory."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks in CIDR before the gateways whose X-Forwarded-For is believed."""
    proxy_protocol: bool = False
    """Whether a load balancer before the gateways speaks the PROXY protocol to them."""
    acme_email: str | None = None
    """Whom an ACME authority may write to; given, public hosts get their certificates there."""
    acme_directory: str | None = None
    """The authority's directory (a URL); None means Let's Encrypt, where ``acme_email`` is given."""
    acme_ca_file: str | None = None
    """What to trust of it instead of the system's authorities."""
    event_days: int = 365
    """For so long events are kept: who changed what, when and why."""
    metric_days: int = 400
    """For so long what was measured is kept, the older the coarser."""
    metric_bytes: int = 1024**3
    """So much space that takes at most on the disk of the manager that leads."""
    has_control: bool = True
    """Whether control runs on this machine (a worker has none)."""

    @property
    def agent(self) -> Address:
        """Where the agent listens: for the cluster's machines once there may be any, else on loopback."""
        return Address(self.advertise or LOOPBACK, self.agent_port)

    @property
    def mirror_peers(self) -> Address:
        """Where the mirrors of other machines connect."""
        return Address(self.advertise or LOOPBACK, self.peers_port)

    @property
    def mirror_dir(self) -> Path:
        """What the accelerator keeps."""
        return self.data_dir / "mirror"

    @property
    def control_dir(self) -> Path:
        """What control keeps: its database and its keys."""
        return self.data_dir / "control"

    @property
    def agent_dir(self) -> Path:
        """What the agent keeps: its certificate and the gateway's last table."""
        return self.data_dir / "agent"

    @property
    def run_dir(self) -> Path:
        """Lock, state of the processes, sockets."""
        return self.data_dir / "run"

    @property
    def log_dir(self) -> Path:
        """One log per process."""
        return self.data_dir / "log"

    @property
    def database(self) -> str:
        """Where the state is kept: a PostgreSQL URL, else the path of an SQLite file."""
        return self.database_url or str(self.control_dir / "control.db")

    @property
    def agent_tls(self) -> TlsPaths:
        """Where the agent has its certificate."""
        return _tls(self.agent_dir, "agent")

    @property
    def mirror_tls(self) -> TlsPaths:
        """Where the mirror has its certificate for the mirrors of other machines."""
        return _tls(self.mirror_dir, "peer")

    @property
    def control_tls(self) -> TlsPaths:
        """Where control has its certificate for the agents."""
        return _tls(self.control_dir, "control")

    @property
    def roster_file(self) -> Path:
        """The agents of the cluster, as this machine's agent was told."""
        return self.agent_dir / "roster.json"

    @property
    def cluster_file(self) -> Path:
        """Which cluster this machine belongs to, and its id there."""
        return self.data_dir / "cluster.json"

    @property
    def registry_key_file(self) -> Path:
        """The public key by which this machine's accelerator believes the logins that control makes."""
        return self.mirror_dir / "control-key.pem"

    @property
    def cluster_key_file(self) -> Path:
        """The key by which control seals what is secret; private, and in no backup of the database."""
        return self.control_dir / "cluster.key"

    @property
    def authority_file(self) -> Path:
        """The cluster's authority, sealed with the cluster's key for the context ``cluster/authority``."""
        return self.control_dir / "authority.sealed"

    @property
    def control_url(self) -> str:
        """Where the API answers."""
        return f"http://{self.control}"

    @property
    def own_ports(self) -> frozenset[int]:
        """What our own processes listen on, the gateway's left out."""
        return frozenset({self.control.port, self.mirror.port, self.agent.port, self.mirror_peers.port})


def _tls(directory: Path, name: str) -> TlsPaths:
    return TlsPaths(cert=directory / f"{name}.pem", key=directory / f"{name}.key", ca=directory / "cluster-ca.pem")


SHARED: Final = ("http_port", "https_port", "ready_port", "tcp_ports", "peers_port", "mirror")
"""What is the same on every machine of a cluster: images and routes are written for these ports."""


def shared_settings(settings: PlatformSettings) -> dict[str, Any]:
    """Return, as plain JSON, what a machine that joins takes over."""
    return {name: _write(getattr(settings, name)) for name in SHARED}


def with_shared(settings: PlatformSettings, shared: Mapping[str, Any]) -> PlatformSettings:
    """Return ``settings`` with what the cluster has chosen. Raises :class:`SettingsError`."""
    try:
        taken = {name: _read(name, shared[name]) for name in SHARED if name in shared}
        return replace(settings, **taken)
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"the cluster's settings cannot be read ({error}): is it of another version?") from error


_PATHS: Final = ("data_dir", "docker_socket")
_ADDRESSES: Final = ("control", "mirror")


def load(data_dir: Path) -> PlatformSettings | None:
    """Return what an earlier ``hunqi up`` chose, or None. Raises :class:`SettingsError` if it cannot be read."""
    path = data_dir / FILE_NAME
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        known = {each.name for each in fields(PlatformSettings)}
        values = {name: _read(name, value) for name, value in held.items() if name in known}
        return replace(PlatformSettings(**values), data_dir=data_dir)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; try as the user who ran hunqi up") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path} is damaged ({error}); remove it and run hunqi up with its options") from error


def save(settings: PlatformSettings) -> None:
    """Write the choice, whole or not at all. Raises :class:`SettingsError`."""
    values = {each.name: _write(getattr(settings, each.name)) for each in fields(settings) if each.name != "data_dir"}
    write_private(settings.data_dir / FILE_NAME, json.dumps(values, indent=2) + "\n")


def write_private(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file that only its owner may read, whole or not at all. Raises :class:`SettingsError`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, text.encode(), mode=0o600, durable=durable)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; try as root, or with --data DIR") from error


def _read(name: str, value: Any) -> Any:
    if name in _PATHS:
        return Path(value)
    if name in _ADDRESSES:
        return Address.parse(value, name=name)
    if name == "tcp_ports":
        first, last = value
        return (int(first), int(last))
    if name == "trusted_proxies":
        return tuple(str(ip_network(each)) for each in value)
    return value


def _write(value: Any) -> Any:
    return str(value) if isinstance(value, Path | Address) else value
