"""What containers use, read from the kernel's control groups: version 1, version 2, and both at once.

Where a container's group is, its first process tells (``/proc/PID/cgroup``); so it does not matter which driver Docker
has (``/docker/ID``, ``system.slice/docker-ID.scope``) or what parent it was given. Files are those of the kernel's
documentation (``cgroup-v1/memory.rst``, ``cgroup-v2.rst``).
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

_MICRO: Final = 1e6
_NANO: Final = 1e9
_MOST_BYTES: Final = 64 * 1024


class Usage(NamedTuple):
    """What a group has used since it began (``cpu_s``, ``ooms``) and holds now."""

    cpu_s: float
    memory_bytes: int
    """Its working set: without file pages that were not used for a while."""
    ooms: int


class _Mount(NamedTuple):
    root: str
    point: Path


class Group:
    """The control group of a container: a directory for CPU time and one for memory, the same under version 2."""

    __slots__ = ("_cpu", "_cpu_is_v2", "_current", "_events", "_idle", "_stat")

    def __init__(self, cpu: Path, memory: Path, *, cpu_is_v2: bool, memory_is_v2: bool) -> None:
        self._cpu_is_v2 = cpu_is_v2
        self._cpu = str(cpu / ("cpu.stat" if cpu_is_v2 else "cpuacct.usage"))
        self._current = str(memory / ("memory.current" if memory_is_v2 else "memory.usage_in_bytes"))
        self._events = str(memory / ("memory.events" if memory_is_v2 else "memory.oom_control"))
        self._stat = str(memory / "memory.stat")
        self._idle = b"\ninactive_file " if memory_is_v2 else b"\ntotal_inactive_file "

    def read(self) -> Usage:
        """Return what it uses. Raises ``OSError`` (it has gone), ``ValueError``."""
        cpu = _read(self._cpu)
        cpu_s = _field(cpu, b"\nusage_usec ") / _MICRO if self._cpu_is_v2 else int(cpu) / _NANO
        held, idle = int(_read(self._current)), _field(_read(self._stat), self._idle)
        return Usage(cpu_s, max(0, held - idle), _field(_read(self._events), b"\noom_kill "))


class Cgroups:
    """Where the groups of this machine are mounted."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """``proc`` is where the kernel tells of processes. Raises ``OSError``."""
        self._proc = proc
        self._v1: dict[str, _Mount] = {}
        self._v2: _Mount | None = None
        for line in (proc / "self" / "mountinfo").read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            kind, _, options = rest.partition(" ")
            if kind not in {"cgroup", "cgroup2"}:
                continue
            mount = _Mount(fields.split()[3], Path(fields.split()[4]))
            if kind == "cgroup2":
                self._v2 = self._v2 or mount
            else:
                for controller in options.rpartition(" ")[2].split(","):
                    self._v1.setdefault(controller, mount)

    def find(self, pid: int, container: str) -> Group:
        """Return the group of ``container`` (its id), whose first process is ``pid``.

        Raises ``OSError`` when the process has gone, ``ValueError`` when its groups are mounted nowhere.
        """
        paths: dict[str, str] = {}
        for line in (self._proc / str(pid) / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            paths.update(dict.fromkeys(controllers.split(","), _cut(path, container)))
        cpu, cpu_is_v2 = self._place("cpuacct", paths)
        memory, memory_is_v2 = self._place("memory", paths)
        return Group(cpu, memory, cpu_is_v2=cpu_is_v2, memory_is_v2=memory_is_v2)

    def _place(self, controller: str, paths: dict[str, str]) -> tuple[Path, bool]:
        if controller in self._v1 and controller in paths:
            return _below(self._v1[controller], paths[controller]), False
        if self._v2 is not None and "" in paths:
            return _below(self._v2, paths[""]), True
        raise ValueError(f"the control groups of {controller} are not mounted here")


def _cut(path: str, container: str) -> str:
    """Return the container's own group, if its first process has gone into one below it (systemd does)."""
    parts = PurePosixPath(path).parts
    own = next((number for number, part in enumerate(parts) if container in part), len(parts) - 1)
    return str(PurePosixPath(*parts[: own + 1]))


def _below(mount: _Mount, path: str) -> Path:
    if mount.root != "/" and PurePosixPath(path).is_relative_to(mount.root):
        path = str(PurePosixPath(path).relative_to(mount.root))
    return mount.point / path.lstrip("/")


def _read(file: str) -> bytes:
    # Without the file objects of Python: there are four files of each task, every second at times.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)


def _field(text: bytes, name: bytes) -> int:
    """Return the number in the line ``name`` (with the end of the line before it), 0 if there is none."""
    text = b"\n" + text
    at = text.find(name)
    return int(text[at + len(name) :].partition(b"\n")[0]) if at >= 0 else 0
