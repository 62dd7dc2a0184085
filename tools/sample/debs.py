"""Debian packages by apt itself: what a program needs, downloaded and verified, nothing of it installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RESOLVE_S: Final = 60.0
_DOWNLOAD_S: Final = 300.0
_UPDATE_S: Final = 300.0


class DebianError(Exception):
    """apt could not do it; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package in one version."""

    name: str
    version: str

    @property
    def file_part(self) -> str:
        """How its file's name begins (apt writes the colon of an epoch as %3a)."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_"


class Apt:
    """apt with a state of its own, in which nothing is installed; it uses the machine's own lists and keys."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._status = self._directory / "status"
        self._archives = self._directory / "archives"
        self._archives.mkdir(parents=True, exist_ok=True)
        self._status.touch()
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise DebianError("the sample's images are made of Debian packages: this needs a Debian machine")

    def needs(self, roots: Sequence[str], *, without: Collection[str] = ()) -> list[Package]:
        """Return ``roots`` and all that they depend on, but for the names in ``without``, sorted."""
        text = self._resolve(roots)
        found: dict[str, Package] = {}
        for line in text.splitlines():
            words = line.split()
            if words and words[0] == "Inst":
                version = next(word for word in words[1:] if word.startswith("(")).strip("()")
                found[words[1]] = Package(name=words[1], version=version)
        return [found[name] for name in sorted(found) if name not in without]

    def fetch(self, packages: Sequence[Package], tell: Callable[[int, int], None]) -> list[Path]:
        """Return the files of ``packages``, downloading what is not there yet; ``tell`` is given done and total."""
        missing = [package for package in packages if self._file(package) is None]
        done = len(packages) - len(missing)
        for start in range(0, len(missing), 8):
            tell(done + start, len(packages))
            part = [f"{package.name}={package.version}" for package in missing[start : start + 8]]
            self._run("download", part, timeout_s=_DOWNLOAD_S)
        tell(len(packages), len(packages))
        files = [self._file(package) for package in packages]
        if None in files:
            raise DebianError("apt did not download everything; run apt-get update, then again")
        return [file for file in files if file is not None]

    def _resolve(self, roots: Sequence[str]) -> str:
        try:
            return self._run("install", ["--simulate", *roots], timeout_s=_RESOLVE_S)
        except DebianError:
            if os.geteuid() != 0:
                raise
        # A machine that has just been installed has no lists yet.
        subprocess.run(["apt-get", "-qq", "update"], timeout=_UPDATE_S, check=False, capture_output=True)
        return self._run("install", ["--simulate", *roots], timeout_s=_RESOLVE_S)

    def _file(self, package: Package) -> Path | None:
        return next(iter(self._archives.glob(f"{package.file_part}*.deb")), None)

    def _run(self, command: str, arguments: Sequence[str], *, timeout_s: float) -> str:
        options = ["-o", f"Dir::State::status={self._status}", "-o", "APT::Sandbox::User=root", "-qq"]
        options += ["-o", f"Dir::Cache::pkgcache={self._directory}/pkgcache.bin"]
        options += ["-o", f"Dir::Cache::srcpkgcache={self._directory}/srcpkgcache.bin"]
        full = ["apt-get", *options, "--no-install-recommends", command, *arguments]
        try:
            done = subprocess.run(
                full, cwd=self._archives, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DebianError(f"apt-get {command} took over {timeout_s:.0f} s: is the archive reachable?") from error
        if done.returncode != 0:
            said = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise DebianError(f"apt-get {command} failed; try apt-get update as root\n{said}")
        return done.stdout
