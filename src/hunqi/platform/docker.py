"""Docker as a program of this machine: installed where it is missing (Debian, as root), started where it does not run.

Where an init system runs, it starts Docker. Where there is none, Docker is started as a process of its own that
outlives us: its log lies in our log directory, and the next ``hunqi up`` starts it again should it be gone. Nothing
here touches a Docker that runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hunqi.platform.errors import DockerMissingError
from hunqi.platform.logs import open_log, tail

PACKAGES: Final = ("docker.io", "iptables", "iproute2", "ca-certificates")
DEFAULT_SOCKETS: Final = (Path("/var/run/docker.sock"), Path("/run/docker.sock"))
_INSTALL_S: Final = 600.0
_START_S: Final = 60.0
_LOOK_S: Final = 0.2
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_SYSTEMD: Final = Path("/run/systemd/system")
_SBIN: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerHost:
    """The machine's Docker. ``answers`` asks the socket, with a deadline of its own."""

    socket: Path
    log_dir: Path
    answers: Callable[[], bool]

    def ensure(self, tell: Tell) -> None:
        """Return once Docker answers; ``tell`` is told what is done about it. Raises :class:`DockerMissingError`."""
        if self.answers():
            return
        self._require_permission()
        if self.socket not in DEFAULT_SOCKETS:
            raise DockerMissingError(
                f"no Docker answers at {self.socket}: start the one that listens there, or name another with --docker"
            )
        if find_program("dockerd") is None:
            self._install(tell)
        self._start(tell)

    def _require_permission(self) -> None:
        if self.socket.exists() and not os.access(self.socket, os.R_OK | os.W_OK):
            raise DockerMissingError(
                f"this user may not use {self.socket}: try as root, or as a member of the group docker"
            )

    def _install(self, tell: Tell) -> None:
        apt = find_program("apt-get")
        if apt is None or os.geteuid() != 0:
            raise DockerMissingError(
                "Docker is not installed. As root: apt-get install docker.io (or see docs.docker.com/engine/install)"
            )
        tell(f"Docker is missing: installing the Debian packages {' '.join(PACKAGES)}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        with _no_services_by_themselves():
            for arguments in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
                _run([apt, "-qq", *arguments], environment)

    def _start(self, tell: Tell) -> None:
        if os.geteuid() != 0:
            raise DockerMissingError(
                "Docker is installed but does not run. As root: systemctl start docker (or dockerd)"
            )
        systemctl = find_program("systemctl")
        if _SYSTEMD.is_dir() and systemctl:
            tell("Docker does not run: starting it (systemctl start docker)")
            _run([systemctl, "start", "docker"], dict(os.environ))
        else:
            tell("Docker does not run and there is no init system: starting dockerd as a process")
            self._start_process()
        self._await_answer()

    def _start_process(self) -> None:
        program = find_program("dockerd")
        if program is None:
            raise DockerMissingError("dockerd is not found though it is installed: see dpkg -L docker.io")
        log = open_log(self.log_dir / "dockerd.log")
        try:
            subprocess.Popen(
                [program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SBIN}"},
            )
        except OSError as error:
            raise DockerMissingError(f"{program} cannot be started: {error.strerror}") from error
        finally:
            os.close(log)

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _START_S
        while not self.answers():
            if time.monotonic() > deadline:
                lines = "\n".join(f"  {line}" for line in tail(self.log_dir / "dockerd.log", 8))
                raise DockerMissingError(
                    f"Docker was started but does not answer after {_START_S:.0f} s\n{lines}".rstrip()
                )
            time.sleep(_LOOK_S)


def find_program(name: str) -> str | None:
    """Return the path of a program, from sbin too, or None."""
    return shutil.which(name) or shutil.which(name, path=_SBIN)


def _run(command: list[str], environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DockerMissingError(f"{' '.join(command)} failed: {error}") from error
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise DockerMissingError(f"{' '.join(command)} failed:\n{said}")


@contextlib.contextmanager
def _no_services_by_themselves():
    """Keep packages from starting services while they are installed, where there is no init system to keep them."""
    if _SYSTEMD.is_dir() or _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
