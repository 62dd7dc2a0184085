"""One machine of the test bed: a network namespace with a host name and a ``/run`` of its own, and a dockerd in it.

A *keeper* (``sleep``) holds the namespaces; everything else enters them, so that dockerd can die and come back on the
same machine. All of it sees the host's processes and files: the data directory and the socket can be used from outside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from testbed import engine
from testbed.processes import is_alive
from testbed.programs import Daemon, find_program, run

_START_S: Final = 60.0
_DOCKER_S: Final = 120.0
_DROPPED: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"})


class Machine:
    """A machine with an address of its own. Its parts are named after ``name`` (at most 12 characters)."""

    def __init__(self, name: str, *, hostname: str, address: str, gateway: str, bridge: str, directory: Path) -> None:
        self.name: Final = name
        self.hostname: Final = hostname
        self.address: Final = address
        self.directory: Final = directory
        self.socket: Final = directory / "docker.sock"
        self._gateway = gateway
        self._bridge = bridge
        self._keeper: Daemon | None = None
        self._dockerd: Daemon | None = None

    def boot(self) -> None:
        """Make the namespaces and the link; starts no dockerd."""
        self.directory.mkdir(parents=True, exist_ok=True)
        netns = self.name
        _ip("netns", "add", netns)
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", netns)
        _ip("link", "set", self.link, "master", self._bridge, "up")
        for command in (
            ["addr", "add", f"{self.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
            ["route", "add", "default", "via", self._gateway],
        ):
            _ip("-n", netns, *command)
        ready = self.directory / "ready"
        ready.unlink(missing_ok=True)
        # Nobody answers names there, and says so at once: what is not in the bed fails quickly.
        resolver = self.directory / "resolv.conf"
        resolver.write_text(f"nameserver {self._gateway}\noptions timeout:1 attempts:1\n")
        script = (
            'set -e; hostname "$1"; mount -t tmpfs tmpfs /run; mkdir -p /run/lock; ln -s "$2" /run/docker.sock;'
            ' mount --bind "$4" "$(readlink -f /etc/resolv.conf)";'
            ' : > "$3"; exec sleep infinity'
        )
        # `ip netns exec` would remount /sys and hide the cgroups from dockerd.
        command = ["nsenter", f"--net=/var/run/netns/{netns}", "unshare", "--uts", "--mount"]
        command += ["sh", "-c", script, "sh", self.hostname, str(self.socket), str(ready), str(resolver)]
        self._keeper = Daemon(command, log=self.directory / "keeper.log", env=environment())
        self._keeper.wait_until(ready.exists, timeout_s=10.0)

    @property
    def link(self) -> str:
        """The host's end of its cable."""
        return f"{self.name}v"

    @property
    def docker_url(self) -> str:
        """Where the daemon listens, for clients on the host and on the machine."""
        return f"unix://{self.socket}"

    @property
    def dockerd(self) -> Daemon:
        """The running daemon."""
        if self._dockerd is None:
            raise RuntimeError(f"no dockerd runs on {self.name}")
        return self._dockerd

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return ``command`` so that it runs on this machine (its network, host name and ``/run``)."""
        if self._keeper is None:
            raise RuntimeError(f"{self.name} is not booted")
        entered = ["nsenter", "-t", str(self._keeper.pid), "--net", "--uts", "--mount", "--wd=/"]
        return [*entered, find_program(command[0]), *command[1:]]

    def run(
        self, *command: str, timeout_s: float = 60.0, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on this machine to its end."""
        return run(self.inside(command), timeout_s=timeout_s, check=check, env=environment(env))

    def start(self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> Daemon:
        """Start a program on this machine; the caller stops it (or the machine's end does)."""
        return Daemon(self.inside(command), log=log, env=environment(env))

    def docker(self, *args: str, timeout_s: float = _DOCKER_S, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``docker ARGS`` against this machine's daemon."""
        return run(["docker", "-H", self.docker_url, *args], timeout_s=timeout_s, check=check, env=environment())

    def start_docker(self) -> None:
        """Start dockerd and wait until it answers."""
        config = self.directory / "daemon.json"
        engine.write_config(config)
        with contextlib.suppress(FileNotFoundError):
            (self.directory / "docker.pid").unlink()
        command = [engine.DOCKERD, "--config-file", str(config), "--data-root", str(self.directory / "data")]
        command += ["--exec-root", str(self.directory / "exec"), "--pidfile", str(self.directory / "docker.pid")]
        command += ["-H", self.docker_url, "--cgroup-parent", f"/{self.name}"]
        self._dockerd = self.start(command, log=self.directory / "dockerd.log")
        self._dockerd.wait_until(self._answers, timeout_s=_START_S)

    def stop_docker(self) -> None:
        """Stop dockerd as a service manager would: its tasks stop with it."""
        self.dockerd.stop(timeout_s=30.0)
        self._dockerd = None

    def restart_docker(self) -> None:
        """Stop dockerd and start it again."""
        self.stop_docker()
        self.start_docker()

    def kill(self) -> None:
        """End everything on the machine at once, as a power cut does; its disk stays."""
        for _ in range(100):
            if not (pids := self.pids()):
                break
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        for daemon in (self._dockerd, self._keeper):
            if daemon is not None:
                daemon.process.wait(timeout=10.0)
        self._dockerd = self._keeper = None
        # Mounts were in the machine's own namespace and went with it.
        _ip("netns", "delete", self.name, check=False)
        _ip("link", "delete", self.link, check=False)
        shutil.rmtree(self.directory / "exec", ignore_errors=True)

    def power_on(self) -> None:
        """Boot after :meth:`kill`, dockerd included."""
        self.boot()
        self.start_docker()

    def cut(self) -> None:
        """Pull the cable: packets vanish in both directions, nothing is told."""
        _ip("link", "set", self.link, "down")

    def heal(self) -> None:
        """Plug the cable in again."""
        _ip("link", "set", self.link, "up")

    def pids(self) -> list[int]:
        """Return every process of the machine: those in its network namespace, and those in its containers."""
        shown = _ip("netns", "pids", self.name, check=False).stdout.split()
        return [pid for pid in sorted({int(pid) for pid in shown} | set(_cgroup_pids(self.name))) if is_alive(pid)]

    def end(self) -> None:
        """Kill everything and remove every trace; works on what an earlier run left behind, too."""
        self.kill()
        _remove_cgroups(self.name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        # A manager that lost its peers lets most calls wait; a ping is answered at once.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2.0)
            client.connect(str(self.socket))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(64)
        return False


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without proxies and Docker's own variables, sbin in its path."""
    kept = {key: value for key, value in os.environ.items() if key not in _DROPPED and not key.startswith("DOCKER_")}
    return {**kept, "PATH": f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin", **(extra or {})}


def _ip(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(["ip", *args], timeout_s=20.0, check=check)


def _cgroups(name: str) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    tops = [root / name, *(controller / name for controller in root.iterdir() if controller.is_dir())]
    return [top for top in tops if top.is_dir()]


def _cgroup_pids(name: str) -> list[int]:
    found: list[int] = []
    for top in _cgroups(name):
        for file in top.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found += [int(pid) for pid in file.read_text().split()]
    return found


def _remove_cgroups(name: str) -> None:
    for top in _cgroups(name):
        below = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
        for directory in [*below, top]:
            with contextlib.suppress(OSError):
                directory.rmdir()
