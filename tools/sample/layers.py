"""Layers: the files of packages, or of a directory, as one deterministic tar.

Packages are unpacked, not installed: no script of theirs runs. Their paths are put where a merged ``/usr`` has them,
manuals and translations are left out, licences stay.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

_MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_LEFT_OUT: Final = (
    "usr/share/man/",
    "usr/share/locale/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/bash-completion/",
    "usr/share/postgresql/15/man/",
    "usr/lib/postgresql/15/lib/bitcode/",
    "usr/share/perl",
    "lib/systemd/",
    "etc/init.d/",
)
_COMPRESSION: Final = 1
_PIECE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who owns a path of a layer, and with which mode."""

    uid: int
    mode: int = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A gzip layer in a file."""

    path: Path
    digest: str
    diff_id: str
    size_bytes: int


class LayerWriter(AbstractContextManager["LayerWriter"]):
    """Writes one layer; a path that was written already is left as it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._sink = _Gzip(self._file)
        self._tar = tarfile.TarFile(fileobj=self._sink, mode="w", format=tarfile.GNU_FORMAT)
        self._written = set[str]()
        self.layer: Layer | None = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._tar.close()
        self._sink.finish()
        self._file.close()
        if kind is None:
            self.layer = Layer(
                path=self._path,
                digest=self._sink.digest,
                diff_id=self._sink.diff_id,
                size_bytes=self._path.stat().st_size,
            )

    def skeleton(self) -> None:
        """Write what every root file system has."""
        for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "run", "var/lib", "home", "root"):
            self.directory(name, Owner(uid=0))
        for name in ("bin", "sbin", "lib", "lib64"):
            self.link(name, f"usr/{name}")
        self.directory("tmp", Owner(uid=0, mode=0o1777))
        self.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nshop:x:999:999:shop:/tmp:/bin/sh\n")
        self.file("etc/group", b"root:x:0:\nshop:x:999:\n")

    def packages(self, files: Iterable[Path]) -> None:
        """Write what packages hold."""
        for file in files:
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(file)], stdout=subprocess.PIPE) as unpacking:
                assert unpacking.stdout is not None
                with tarfile.open(fileobj=unpacking.stdout, mode="r|") as source:
                    for entry in source:
                        self._take(source, entry)
                while unpacking.stdout.read(_PIECE):
                    pass
            if unpacking.returncode != 0:
                raise OSError(f"{file} cannot be unpacked")

    def tree(self, source: Path, target: str, *, mode: int = 0o644) -> None:
        """Write the files of a directory of ours below ``target``."""
        for path in sorted(source.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                self.file(f"{target}/{path.relative_to(source)}", path.read_bytes(), mode=mode)

    def directory(self, name: str, owner: Owner) -> None:
        """Write an empty directory and those above it."""
        self._parents(name)
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, owner.mode, owner.uid, owner.uid
        self._add(entry, None)

    def link(self, name: str, target: str) -> None:
        """Write a symbolic link."""
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
        self._add(entry, None)

    def file(self, name: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write a file and the directories above it."""
        self._parents(name)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), mode
        self._add(entry, io.BytesIO(data))

    def _take(self, source: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        name = entry.name.removeprefix("./").strip("/")
        if not name or any(name.startswith(part) or f"{name}/" == part for part in _LEFT_OUT):
            return
        if name.startswith("usr/share/doc/") and not (entry.isdir() or name.endswith("/copyright")):
            return
        name = _merged(name)
        clean = tarfile.TarInfo(name)
        clean.type, clean.size, clean.mode = entry.type, entry.size, entry.mode
        clean.uid, clean.gid = entry.uid, entry.gid
        clean.linkname = _merged(entry.linkname.removeprefix("./")) if entry.islnk() else entry.linkname
        self._add(clean, source.extractfile(entry) if entry.isfile() else None)

    def _parents(self, name: str) -> None:
        for parent in reversed([str(path) for path in Path(name).parents if str(path) != "."]):
            entry = tarfile.TarInfo(parent)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            self._add(entry, None)

    def _add(self, entry: tarfile.TarInfo, data: IO[bytes] | None) -> None:
        if entry.name in self._written:
            return
        self._written.add(entry.name)
        self._tar.addfile(entry, data)


def _merged(name: str) -> str:
    top = name.partition("/")[0]
    return f"usr/{name}" if top in _MERGED else name


class _Gzip:
    """A sink that compresses, and hashes both sides; its header holds no time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._compress = zlib.compressobj(_COMPRESSION, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self._length = 0
        self._inner, self._outer = hashlib.sha256(), hashlib.sha256()

    def tell(self) -> int:
        return self._length

    def write(self, data: bytes) -> int:
        self._length += len(data)
        self._inner.update(data)
        self._put(self._compress.compress(data))
        return len(data)

    def finish(self) -> None:
        self._put(self._compress.flush())

    @property
    def digest(self) -> str:
        return f"sha256:{self._outer.hexdigest()}"

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._inner.hexdigest()}"

    def _put(self, data: bytes) -> None:
        self._outer.update(data)
        self._file.write(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image to be: its layers from the bottom, and how it runs."""

    name: str
    layers: Sequence[Layer]
    config: Mapping[str, object]
