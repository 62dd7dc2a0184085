"""What the supervised processes do. Each imports its own room, and late: memory counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hunqi.config import FlagValue, load_mirror_settings, process_inputs
from hunqi.kit import codec
from hunqi.mirror.settings import MirrorSettings
from hunqi.nodes.identity import Role
from hunqi.nodes.model import Roster
from hunqi.platform.children import Mains
from hunqi.platform.settings import PlatformSettings

_WORKERS_AT_REST: Final = 1
"""A machine's mirror has its engine and the other machines for clients: mostly it is asked nothing."""


def all_mains() -> Mains:
    """Return the processes of the platform."""
    return Mains(mirror=run_mirror, control=run_control, agent=run_agent)


def run_mirror(settings: PlatformSettings) -> int:
    """Serve the accelerator; the rest of its settings come from its file and the environment, as always."""
    from hunqi.app import serve_mirror

    def load() -> MirrorSettings:
        return replace(load_mirror_settings(process_inputs(mirror_flags(settings))), workers_at_rest=_WORKERS_AT_REST)

    return serve_mirror(load(), reload=load)


def run_control(settings: PlatformSettings) -> int:
    """Serve control."""
    from hunqi.app import serve_control

    return serve_control(settings)


def run_agent(settings: PlatformSettings) -> int:
    """Serve the agent."""
    from hunqi.app import serve_agent

    return serve_agent(settings)


def mirror_flags(settings: PlatformSettings) -> dict[str, FlagValue]:
    """Return what the platform decides about its mirror; read again when the mirror reloads."""
    flags: dict[str, FlagValue] = {
        "data": str(settings.mirror_dir),
        "listen": str(settings.mirror),
        "access-log": str(settings.log_dir / "access.log"),
    }
    if settings.registry_key_file.exists():
        flags["access.trusted-key"] = str(settings.registry_key_file)
    if settings.advertise is None:
        return flags
    tls = settings.mirror_tls
    flags |= {
        "peers.listen": str(settings.mirror_peers),
        "peers.tls.cert": str(tls.cert),
        "peers.tls.key": str(tls.key),
        "peers.tls.ca": str(tls.ca),
    }
    peers, names = peers_of(settings), names_of(settings)
    flags |= {"peers.names": names} if names else {}
    return flags | {"peers.urls": peers} if peers else flags


def peers_of(settings: PlatformSettings) -> list[str]:
    """Return the addresses of the other machines' mirrors: all machines of a cluster use one port for them."""
    hosts = [member.address.rpartition(":")[0] for member in _roster(settings).members]
    return [f"https://{host}:{settings.peers_port}" for host in hosts if host and host != settings.advertise]


def names_of(settings: PlatformSettings) -> list[str]:
    """Return the names in the certificates of all machines' mirrors: whoever left the cluster is not among them."""
    return [f"{member.agent}.{Role.MIRROR}.hunqi" for member in _roster(settings).members]


def _roster(settings: PlatformSettings) -> Roster:
    try:
        return codec.loads(Roster, settings.roster_file.read_text(encoding="utf-8"))
    except (OSError, codec.CodecError):
        return Roster()
