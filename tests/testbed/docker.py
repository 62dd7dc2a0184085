"""Real clients in directories of their own: Docker Engine, containerd with ``ctr``, podman, buildah and skopeo.

Needs root. Nothing of the machine's own Docker or containers is touched: each daemon has its own roots, sockets and
pid file, no bridge and no firewall rules.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testbed.processes import descendants, is_alive
from testbed.programs import Daemon, find_program, run

_START_S: Final = 45.0
_PULL_S: Final = 120.0


@dataclass(slots=True, kw_only=True)
class Docker:
    """A running Docker Engine and its client."""

    socket: Path
    daemon: Daemon
    config_dir: Path
    """The client's: where ``config.json`` with passwords lies."""

    def __call__(self, *args: str, timeout_s: float = _PULL_S, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``docker ARGS``."""
        command = ["docker", "--config", str(self.config_dir), "-H", f"unix://{self.socket}", *args]
        return run(command, timeout_s=timeout_s, check=check)

    def remember_password(self, registry: str, user: str, password: str) -> None:
        """Write a password into the client's ``config.json``, as ``docker login`` does without asking the registry."""
        file = self.config_dir / "config.json"
        config: dict[str, dict[str, object]] = json.loads(file.read_text()) if file.exists() else {}
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        config.setdefault("auths", {})[registry] = {"auth": auth}
        file.write_text(json.dumps(config))

    def forget_images(self) -> None:
        """Remove every container and image, so that the next pull downloads all."""
        containers = self("ps", "-aq").stdout.split()
        if containers:
            self("rm", "-f", *containers)
        images = sorted(set(self("images", "-aq").stdout.split()))
        if images:
            self("rmi", "-f", *images)


@contextlib.contextmanager
def docker_engine(
    directory: Path,
    *,
    registry_mirrors: Sequence[str] = (),
    insecure: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    root: Path | None = None,
) -> Generator[Docker]:
    """Run ``dockerd`` without networking; its sockets lie in a short path (107 bytes is the most for their names).

    With ``root`` its daemon.json and its pid file lie below that as they would below ``/``.
    """
    for program in ("dockerd", "docker", "containerd", "runc", "iptables"):
        find_program(program)
    directory.mkdir(parents=True, exist_ok=True)
    config_dir = directory / "client"
    config_dir.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tb-docker-") as short:
        socket = Path(short) / "d.sock"
        config_file = root / "etc/docker/daemon.json" if root else _empty_json(directory)
        pid_file = root / "run/docker.pid" if root else Path(short) / "pid"
        command = ["dockerd", "--config-file", str(config_file), "--data-root", str(directory / "data")]
        command += ["--exec-root", f"{short}/exec", "--pidfile", str(pid_file), "-H", f"unix://{socket}"]
        command += [
            "--bridge",
            "none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ]
        for mirror in registry_mirrors:
            command += ["--registry-mirror", mirror]
        for registry in insecure:
            command += ["--insecure-registry", registry]
        daemon = Daemon(command, log=directory / "dockerd.log", env=_environment(env))
        docker = Docker(socket=socket, daemon=daemon, config_dir=config_dir)
        try:
            daemon.wait_until(lambda: socket.exists() and _docker_answers(docker), timeout_s=_START_S)
            yield docker
        finally:
            _stop_engine(docker)


def _docker_answers(docker: Docker) -> bool:
    return docker("version", "--format", "{{.Server.Version}}", timeout_s=10.0, check=False).returncode == 0


def _stop_engine(docker: Docker) -> None:
    below = descendants(docker.daemon.pid)
    with contextlib.suppress(Exception):
        containers = docker("ps", "-q", timeout_s=10.0).stdout.split()
        if containers:
            docker("rm", "-f", *containers, timeout_s=20.0)
    docker.daemon.stop(timeout_s=20.0)
    for pid in below:
        if is_alive(pid):
            os.kill(pid, 9)
    run(["umount", "-R", "-l", str(docker.socket.parent)], check=False)


def _empty_json(directory: Path) -> Path:
    file = directory / "daemon.json"
    file.write_text("{}")
    return file


@dataclass(slots=True, kw_only=True)
class Containerd:
    """A running containerd and its ``ctr``."""

    socket: Path
    daemon: Daemon
    hosts_dir: Path

    def __call__(self, *args: str, timeout_s: float = _PULL_S, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``ctr ARGS``."""
        return run(["ctr", "-a", str(self.socket), "-n", "testbed", *args], timeout_s=timeout_s, check=check)

    def pull(self, reference: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Pull by the hosts directory."""
        command = ["images", "pull", "--hosts-dir", str(self.hosts_dir), "--snapshotter", "native", *options, reference]
        return self(*command, check=check)

    def write_hosts(self, registry: str, toml: str) -> None:
        """Write ``hosts.toml`` for ``registry`` (or ``_default``)."""
        directory = self.hosts_dir / registry
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "hosts.toml").write_text(toml)

    def remove_images(self) -> None:
        """Remove all images and their content, so that the next pull downloads all."""
        names = self("images", "ls", "-q").stdout.split()
        if names:
            self("images", "rm", "--sync", *names)
        digests = self("content", "ls", "-q").stdout.split()
        if digests:
            self("content", "rm", *digests)


@contextlib.contextmanager
def containerd(directory: Path) -> Generator[Containerd]:
    """Run containerd with its own root and state, without the CRI plugin."""
    find_program("ctr")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tb-ctrd-") as short:
        socket = Path(short) / "c.sock"
        config = directory / "containerd.toml"
        config.write_text(
            f'version = 2\nroot = "{directory / "root"}"\nstate = "{short}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
            f'[grpc]\naddress = "{socket}"\n[ttrpc]\naddress = "{short}/t.sock"\n'
        )
        daemon = Daemon(
            ["containerd", "--config", str(config)], log=directory / "containerd.log", env=_environment(None)
        )
        running = Containerd(socket=socket, daemon=daemon, hosts_dir=directory / "certs.d")
        try:
            daemon.wait_until(
                lambda: socket.exists() and running("version", check=False).returncode == 0, timeout_s=_START_S
            )
            yield running
        finally:
            daemon.stop(timeout_s=10.0)
            run(["umount", "-R", "-l", short], check=False)


@dataclass(slots=True, kw_only=True)
class Toolbox:
    """podman, buildah and skopeo with storage, policy and passwords of their own (vfs: needs nothing of the kernel)."""

    directory: Path
    runroot: Path
    """Short: podman takes at most 50 characters."""
    env: dict[str, str] = field(default_factory=dict[str, str])

    def podman(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``podman ARGS``."""
        return self._run("podman", "--cgroup-manager", "cgroupfs", *self._storage(), *args, check=check)

    def buildah(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``buildah ARGS``."""
        return self._run("buildah", *self._storage(), *args, check=check)

    def skopeo(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``skopeo ARGS``."""
        return self._run("skopeo", "--policy", str(self.directory / "policy.json"), *args, check=check)

    def forget_images(self) -> None:
        """Remove every image, so that the next pull downloads all."""
        self.podman("rmi", "--all", "--force")

    def _storage(self) -> list[str]:
        return [
            "--root",
            str(self.directory / "root"),
            "--runroot",
            str(self.runroot),
            "--storage-driver",
            "vfs",
        ]

    def _run(self, program: str, *args: str, check: bool) -> subprocess.CompletedProcess[str]:
        return run([program, *args], timeout_s=_PULL_S, env=_environment(self.env), check=check)


@contextlib.contextmanager
def toolbox(directory: Path) -> Generator[Toolbox]:
    """Make a :class:`Toolbox` in ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    policy = {"default": [{"type": "insecureAcceptAnything"}]}
    (directory / "policy.json").write_text(json.dumps(policy))
    (directory / "auth.json").write_text("{}")
    (directory / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')
    home = directory / "home"
    (home / ".config" / "containers").mkdir(parents=True, exist_ok=True)
    (home / ".config" / "containers" / "policy.json").write_text(json.dumps(policy))
    environment = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "REGISTRY_AUTH_FILE": str(directory / "auth.json"),
        "CONTAINERS_REGISTRIES_CONF": str(directory / "registries.conf"),
        "TMPDIR": str(home),
    }
    with tempfile.TemporaryDirectory(prefix="tb-run-") as runroot:
        yield Toolbox(directory=directory, runroot=Path(runroot), env=environment)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    dropped = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "DOCKER_HOST"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "PATH": f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin", **(extra or {})}
