"""What this machine's kernel can do, found by trying where that changes nothing, else by what it says of itself."""

from __future__ import annotations

import ctypes
import gzip
import os
import platform
import shutil
import subprocess
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final

_PROBE_S: Final = 10.0
_TIME_ERROR: Final = 5
"""Of adjtimex(2): the clock is not synchronised."""


class Feature(Enum):
    """Whether the kernel has something."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


def has_filesystem(name: str) -> Feature:
    """Whether a file system is there, or would be as a module."""
    try:
        known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    except OSError:
        return Feature.UNKNOWN
    return Feature.YES if name in known else _module(name)


def has_link_kind(kind: str, *options: str) -> Feature:
    """Whether network links of ``kind`` can be made: tried in a network namespace that ends with the trial."""
    unshare, ip = shutil.which("unshare"), shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if os.geteuid() != 0 or unshare is None or ip is None:
        return _module(kind)
    command = [unshare, "--net", ip, "link", "add", "name", "hqprobe", "type", kind, *options]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Feature.UNKNOWN
    if done.returncode == 0:
        return Feature.YES
    return Feature.UNKNOWN if b"unshare" in done.stderr else Feature.NO


def has_ipvs() -> Feature:
    """Whether Swarm's virtual IPs and its ingress could work here."""
    return Feature.YES if Path("/proc/net/ip_vs").exists() else _module("ip_vs")


def cgroup_version() -> int | None:
    """Return 2, or 1 (hybrid counts as 1: the memory controller is there), or None if there is no memory controller."""
    root = Path("/sys/fs/cgroup")
    try:
        if "memory" in (root / "cgroup.controllers").read_text().split():
            return 2
    except OSError:
        pass
    return 1 if (root / "memory/memory.limit_in_bytes").exists() else None


def clock_is_synchronised() -> Feature:
    """Whether something keeps the clock right (adjtimex(2))."""
    call = getattr(ctypes.CDLL(None), "adjtimex", None)
    if call is None:
        return Feature.UNKNOWN
    state = call(ctypes.create_string_buffer(512))
    if state < 0:
        return Feature.UNKNOWN
    return Feature.NO if state == _TIME_ERROR else Feature.YES


def _module(name: str) -> Feature:
    """Whether a module is loaded, built in or there to be loaded."""
    if Path(f"/sys/module/{name}").is_dir():
        return Feature.YES
    option = _configured(
        f"CONFIG_{'IP_VS' if name == 'ip_vs' else 'OVERLAY_FS' if name == 'overlay' else name.upper()}"
    )
    if option is not None:
        return Feature.YES if option in {"y", "m"} else Feature.NO
    directory = Path("/lib/modules") / platform.release()
    listed = [directory / "modules.builtin", directory / "modules.dep"]
    texts = [path.read_text(errors="replace") for path in listed if path.is_file()]
    if not texts:
        return Feature.UNKNOWN
    return Feature.YES if any(f"/{name}.ko" in text for text in texts) else Feature.NO


def _configured(option: str) -> str | None:
    """Return ``y``, ``m`` or ``n`` where the kernel publishes its configuration."""
    options = _configuration()
    return None if options is None else options.get(option, "n")


@cache
def _configuration() -> dict[str, str] | None:
    try:
        text = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except (OSError, EOFError):
        return None
    pairs = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name: value for name, _, value in pairs}
