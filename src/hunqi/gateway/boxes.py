"""What the gateway's containers are, as specs of the Engine API: pure.

The *sandbox* holds the ports, the networks and the network namespace and does nothing; Envoys come and go inside it.
Both are named after what they are made of (``hash``), so that a change of any of it is seen.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hunqi.engine.model import LABEL_CLUSTER, LABEL_HASH, LABEL_KIND
from hunqi.gateway.image import ENVOY, SLEEP
from hunqi.gateway.model import Edge, Place
from hunqi.gateway.render.bootstrap import HEAP_BYTES, render_bootstrap
from hunqi.gateway.render.common import JSON

KIND_SANDBOX: Final = "gateway-sandbox"
KIND_ENVOY: Final = "gateway-envoy"
FOLDER: Final = "/gateway"
"""Where an Envoy sees its own folder."""
DRAIN_S: Final = 15
"""How long an old Envoy goes on accepting, telling clients to connect anew, before it closes its listeners."""
_LOG: Final = {"Type": "json-file", "Config": {"max-size": "20m", "max-file": "3"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """One node's gateway."""

    cluster: str
    """The cluster's id, as labels have it."""
    node: str
    folder: Path
    """Where its files are kept; 0700."""
    name: str = "hunqi-gateway"
    """Of the sandbox; its Envoys are named after it."""
    workers: int = 2
    heap_bytes: int = HEAP_BYTES
    enter: tuple[str, ...] = ()
    """Put before commands that set rules of the network, where the machine's network is not this process's."""
    host_ip: str = ""
    """The address of the machine to publish at; empty means all."""
    logins_key_file: Path | None = None
    """The public key (PEM) of the logins that may see what is routed; without one nobody may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A container to be: its name, what it is made of, and the digest of that."""

    name: str
    hash: str
    spec: JSON


def place_of(settings: GatewaySettings) -> Place:
    """Return where an Envoy of this node stands, as it sees it itself."""
    return Place(node=settings.node, folder=FOLDER, hold_socket=f"{FOLDER}/hold.sock")


def sandbox_box(settings: GatewaySettings, edge: Edge, image: str) -> Box:
    """Return the sandbox: other published ports make it another one."""
    place = place_of(settings)
    ports = {place.http_port: edge.http_port, place.https_port: edge.https_port, place.ready_port: edge.ready_port}
    bindings = {
        f"{inner}/tcp": [{"HostIp": settings.host_ip, "HostPort": str(outer)}]
        for inner, outer in ports.items()
        if outer
    }
    spec: JSON = {
        "Image": image,
        "Entrypoint": [SLEEP],
        "Cmd": ["infinity"],
        "Hostname": "gateway",
        "StopSignal": "SIGKILL",
        "ExposedPorts": {each: {} for each in bindings},
        "HostConfig": {
            **_confined(),
            "PortBindings": bindings,
            # The rest of a closing listener's queue goes to the other Envoy's; names inside apps may use low ports.
            "Sysctls": {
                "net.ipv4.tcp_migrate_req": "1",
                "net.ipv4.ip_unprivileged_port_start": "0",
                "net.core.somaxconn": "4096",
            },
        },
    }
    # The image is not part of what it is: a new one must not take the ports and networks away.
    return _box(settings, settings.name, KIND_SANDBOX, spec, {**spec, "Image": ""})


def envoy_box(settings: GatewaySettings, edge: Edge, image: str, sandbox: str) -> Box:
    """Return the Envoy in the namespace of ``sandbox`` (its id). Another image or bootstrap makes it another one."""
    command = ["--config-path", f"{FOLDER}/bootstrap.json", "--concurrency", str(settings.workers)]
    command += ["--disable-hot-restart", "--drain-time-s", str(DRAIN_S), "--drain-strategy", "immediate"]
    command += ["--file-flush-interval-msec", "500", "--log-level", "warning"]
    bootstrap = bootstrap_of(settings, edge)
    basis = {"image": image, "sandbox": sandbox, "command": command, "bootstrap": bootstrap}
    digest = _digest(basis)
    spec: JSON = {
        "Image": image,
        "Entrypoint": [ENVOY],
        "Cmd": command,
        "HostConfig": {
            **_confined(),
            "NetworkMode": f"container:{sandbox}",
            "Binds": [f"{settings.folder / digest}:{FOLDER}"],
        },
    }
    return _box(settings, f"{settings.name}-{digest}", KIND_ENVOY, spec, basis)


def bootstrap_of(settings: GatewaySettings, edge: Edge) -> JSON:
    """Return the bootstrap of this node's Envoys."""
    return render_bootstrap(place_of(settings), edge, heap_bytes=settings.heap_bytes)


def _confined() -> dict[str, Any]:
    return {
        "RestartPolicy": {"Name": "always"},
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "LogConfig": _LOG,
    }


def _box(settings: GatewaySettings, name: str, kind: str, spec: JSON, basis: JSON) -> Box:
    digest = _digest(basis)
    labels = {LABEL_CLUSTER: settings.cluster, LABEL_KIND: kind, LABEL_HASH: digest}
    return Box(name=name, hash=digest, spec={**spec, "Labels": labels})


def _digest(basis: JSON) -> str:
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:12]
