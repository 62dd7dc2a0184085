"""Programs that tests drive, found by name or missed with their Debian package; processes with bounds."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

PACKAGE_OF: Final[Mapping[str, str]] = {
    "buildah": "buildah",
    "busybox": "busybox-static",
    "containerd": "containerd",
    "ctr": "containerd",
    "curl": "curl",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "docker-registry": "docker-registry",
    "gcc": "gcc libc6-dev",
    "htpasswd": "apache2-utils",
    "iptables": "iptables",
    "nginx": "nginx-light",
    "podman": "podman",
    "runc": "runc",
    "skopeo": "skopeo",
    "systemd-analyze": "systemd",
    "umoci": "umoci",
    "wrk": "wrk",
    "zstd": "zstd",
}
_FIRST_PORT: Final = 12_000
_PORT_TRIES: Final = 200
_GIVEN: Final[set[int]] = set()
_GIVEN_BY_ALL: Final = Path(f"/tmp/hunqi-test-ports-{os.getuid()}")
"""Byte N is locked by the process that gave port N away, until it ends."""
_locked: list[int] = []
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class MissingProgramError(Exception):
    """A program that a test drives is not installed."""

    def __init__(self, program: str) -> None:
        package = PACKAGE_OF.get(program, program)
        super().__init__(
            f"{program} is missing: apt-get install --no-install-recommends {package} (or make test, as root)"
        )
        self.program = program
        self.package = package


class ProcessFailedError(Exception):
    """A program ended wrongly, or did not become ready; the message ends with the tail of what it wrote."""


def find_program(name: str) -> str:
    """Return the path of ``name``, also from sbin; raise :class:`MissingProgramError`."""
    found = shutil.which(name) or shutil.which(name, path=_PATH)
    if found is None:
        raise MissingProgramError(name)
    return found


def free_port(*, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that nobody listens on and no other test run was given.

    It is from below the kernel's own range, so that the kernel gives it to no connection.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first, last = (1024, 65535) if low <= _FIRST_PORT else (_FIRST_PORT, low - 1)
    for _ in range(_PORT_TRIES):
        port = secrets.randbelow(last - first) + first
        if not _reserve(port):
            continue
        with socket.socket(type=kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port
    raise ProcessFailedError("no free port was found")


def _reserve(port: int) -> bool:
    """Whether this process may have the port: what another worker was given may have nobody listening yet."""
    if port in _GIVEN:
        return False
    if not _locked:
        _locked.append(os.open(_GIVEN_BY_ALL, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
    try:
        fcntl.lockf(_locked[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _GIVEN.add(port)
    return True


def run(
    command: Sequence[str],
    *,
    timeout_s: float = 60.0,
    env: Mapping[str, str] | None = None,
    input_text: str | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; raise :class:`ProcessFailedError` with all it wrote when it fails or takes too long."""
    command = [find_program(command[0]), *command[1:]]
    try:
        done = subprocess.run(
            command,
            timeout=timeout_s,
            env=dict(env) if env is not None else None,
            input=input_text,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise ProcessFailedError(
            f"{' '.join(command)} took over {timeout_s} s\n{expired.stdout}\n{expired.stderr}"
        ) from expired
    if check and done.returncode != 0:
        raise ProcessFailedError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


class Daemon:
    """One long-running program: started with its output in a file, waited for, stopped with a bound."""

    def __init__(self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        """Start ``command``; everything that it writes is appended to ``log``."""
        self.command = [find_program(command[0]), *command[1:]]
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until ``ready()``; raise :class:`ProcessFailedError` if the program ends first or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.process.poll() is not None:
                raise ProcessFailedError(f"{self._title()} ended with {self.process.returncode}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"{self._title()} was not ready after {timeout_s} s\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, lines: int = 40) -> str:
        """Return the last lines that the program wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, *, timeout_s: float = 15.0) -> int:
        """SIGTERM, then after ``timeout_s`` SIGKILL to its whole session; return the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.wait(5.0)

    def kill(self) -> None:
        """SIGKILL to the program and to what it started in its session."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait(5.0)

    def _title(self) -> str:
        return Path(self.command[0]).name


def accepts(host: str, port: int) -> bool:
    """Whether somebody listens at ``host:port``."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
