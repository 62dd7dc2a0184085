"""Writing a setup's files: checked, backed up, whole or not at all; then Docker is told, never restarted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

from hunqi.cli.setup.docker import DAEMON_JSON
from hunqi.cli.setup.model import FileChange, Plan
from hunqi.errors import UserError

VALIDATE_TIMEOUT_S: Final = 20.0
_PID_FILE: Final = Path("/run/docker.pid")


class WriteError(UserError):
    """A file could not be written; those before it were, and have backups."""

    code: ClassVar[str] = "cli.write"


class DockerRefusesError(UserError):
    """``dockerd --validate`` does not take the new daemon.json; nothing was changed."""

    code: ClassVar[str] = "cli.docker_refuses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The machine's files, or a directory that stands for its root."""

    root: Path = Path("/")

    def path(self, path: Path) -> Path:
        """Return where ``path`` lies under the root."""
        return self.root / path.relative_to("/")

    def read(self, path: Path) -> str | None:
        """Return a file's text; ``None`` where there is none; raise :class:`WriteError`."""
        try:
            return self.path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise WriteError(f"{self.path(path)} cannot be read: {error}") from error


def write_plan(plan: Plan, disk: Disk, *, now: datetime) -> list[str]:
    """Write what the plan needs and return a line for each thing done.

    Raises :class:`WriteError` and, before anything is written, :class:`DockerRefusesError`.
    """
    needed = [change for change in plan.changes if change.is_needed]
    for change in needed:
        if change.path == DAEMON_JSON:
            _validate(change.after)
    return [line for change in needed for line in _write(change, disk, now=now)]


def _write(change: FileChange, disk: Disk, *, now: datetime) -> list[str]:
    lines: list[str] = []
    path = disk.path(change.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        real = path.resolve()  # a link stays a link
        if change.before is not None:
            backup = real.with_name(f"{real.name}.before-hunqi-{now:%Y%m%d-%H%M%S}")
            shutil.copy2(real, backup)
            lines.append(f"kept  {backup}")
        _replace(real, change.after)
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror}. Try as root.") from error
    return [*lines, f"wrote {path}"]


def _replace(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        if path.exists():
            status = path.stat()
            os.chown(name, status.st_uid, status.st_gid)
            Path(name).chmod(status.st_mode & 0o7777)
        else:
            Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _validate(daemon_json: str) -> None:
    """Ask dockerd, where it is here and knows how (23.0 and later)."""
    program = shutil.which("dockerd")
    if program is None:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(daemon_json)
        file.flush()
        code, said = _run([program, "--validate", "--config-file", file.name])
    if code != 0 and "unknown flag" not in said:
        raise DockerRefusesError(f"dockerd does not accept the new daemon.json, nothing was changed: {said.strip()}")


def reload_docker(disk: Disk) -> str:
    """Have Docker read daemon.json again by SIGHUP and return what was done; it is never restarted."""
    pid = _docker_pid(disk)
    if pid is not None:
        try:
            os.kill(pid, signal.SIGHUP)
        except PermissionError as error:
            raise WriteError(f"Docker (process {pid}) may not be told to reload by this user: try as root") from error
        return f"Docker (process {pid}) was told to read it again; it was not restarted"
    if disk.root == Path("/") and Path("/run/systemd/system").is_dir():
        code, said = _run(["systemctl", "reload", "docker"])
        if code == 0:
            return "Docker was reloaded by systemctl; it was not restarted"
        return f"systemctl reload docker failed: {said.strip()}"
    return "Docker does not run here: it will read the file when it starts"


def _docker_pid(disk: Disk) -> int | None:
    try:
        pid = int(disk.path(_PID_FILE).read_text(encoding="ascii"))
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return pid if name == "dockerd" else None  # a stale file may name any process


def _run(command: Sequence[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=VALIDATE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout + done.stderr
