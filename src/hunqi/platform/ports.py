"""Ports that the platform needs on this machine: which of them are taken, by whom as far as that can be seen."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from hunqi.platform.errors import PortTakenError
from hunqi.platform.settings import Address, PlatformSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A port that one of our parts listens on; ``option`` of ``hunqi up`` chooses another."""

    address: Address
    what: str
    option: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A port that cannot be had; ``holder`` is empty where it cannot be seen."""

    need: Need
    reason: str
    holder: str = ""

    @property
    def text(self) -> str:
        """What is wrong and what to do, in a line."""
        by = f" by {self.holder}" if self.holder else ""
        return f"{self.need.address} ({self.need.what}) {self.reason}{by}: stop that, or give {self.need.option}"


def needs_of(settings: PlatformSettings) -> list[Need]:
    """Return the ports of our own processes and of the gateway, on IPv4."""
    everywhere = "0.0.0.0"
    needs = [
        Need(address=settings.mirror, what="the accelerator", option="--mirror ADDRESS"),
        Need(address=settings.mirror_peers, what="the accelerators of other machines", option="--peers-port PORT"),
        Need(address=settings.agent, what="the agent", option="--agent-port PORT"),
    ]
    if settings.has_control:
        needs.append(Need(address=settings.control, what="control", option="--control ADDRESS"))
    return [*needs, *gateway_needs(settings, everywhere)]


def gateway_needs(settings: PlatformSettings, host: str = "0.0.0.0") -> list[Need]:
    """Return the ports that the gateway publishes."""
    first, last = settings.tcp_ports
    return [
        Need(address=Address(host, settings.http_port), what="the gateway's HTTP", option="--http-port PORT"),
        Need(address=Address(host, settings.https_port), what="the gateway's HTTPS", option="--https-port PORT"),
        *(
            Need(address=Address(host, port), what="the gateway's TCP range", option="--tcp-ports FIRST-LAST")
            for port in range(first, last + 1)
        ),
    ]


def find_taken(needs: Sequence[Need], *, ours: Collection[int] = ()) -> list[Taken]:
    """Return what cannot be listened on; ports in ``ours`` are held by ourselves already and not looked at."""
    found: list[Taken] = []
    for need in needs:
        if need.address.port in ours:
            continue
        reason = _refusal(need.address)
        if reason is not None:
            holder = holder_of(need.address.port) if reason == "is taken" else ""
            found.append(Taken(need=need, reason=reason, holder=holder))
    return found


def require_free(needs: Sequence[Need], *, ours: Collection[int] = ()) -> None:
    """Raise :class:`PortTakenError` that names every port that cannot be had."""
    taken = find_taken(needs, ours=ours)
    if taken:
        lines = "\n".join(f"  {each.text}" for each in _folded(taken))
        raise PortTakenError(f"Hunqi seizes no port that is taken:\n{lines}")


def holder_of(port: int) -> str:
    """Return ``NAME (process PID)`` of who listens on a TCP port, or nothing where that cannot be seen."""
    try:
        listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
        pid = next((each.pid for each in listening if each.laddr and each.laddr.port == port and each.pid), None)
        if pid is None:
            return ""
        process = psutil.Process(pid)
        name = process.name()
    except psutil.Error:
        return ""
    shown = "a container's published port, docker-proxy" if name == "docker-proxy" else name
    return f"{shown} (process {pid})"


def is_privileged(port: int) -> bool:
    """Whether only root may listen on ``port`` here."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        first = 1024
    return port < first


def _refusal(address: Address) -> str | None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
            probe.listen(1)
        except OSError as error:
            match error.errno:
                case errno.EADDRINUSE:
                    return "is taken"
                case errno.EADDRNOTAVAIL:
                    return "is no address of this machine"
                case errno.EACCES:
                    return "may be listened on by root only"
                case _:
                    return f"cannot be listened on ({error.strerror})"
    return None


def _folded(taken: Sequence[Taken]) -> list[Taken]:
    """Keep the first of a range's ports only."""
    seen = set[tuple[str, str, str]]()
    kept: list[Taken] = []
    for each in taken:
        key = (each.need.what, each.reason, each.holder)
        if each.need.option.startswith("--tcp-ports") and key in seen:
            continue
        seen.add(key)
        kept.append(each)
    return kept
