"""Import: an OCI image layout from a tar stream, of which nothing is believed.

Members are never extracted by their names: a name must be exactly ``oci-layout``, ``index.json`` or
``blobs/<algorithm>/<hex>`` of a regular file, else it is skipped, and where a blob goes follows from its parsed digest.
Every blob is hashed on the way; the catalogue is touched only when the archive has been read whole.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import RawIOBase
from pathlib import Path
from typing import IO, Final, Protocol

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.errors import DigestMismatchError, translated
from hunqi.mirror.store.layout import (
    INDEX_FILE,
    LAYOUT_FILE,
    ImportedImage,
    ImportTarget,
    LayoutError,
    LayoutProgress,
)
from hunqi.mirror.store.model import LinkKind
from hunqi.oci.digest import Digest, DigestError
from hunqi.oci.manifest import MANIFEST_TYPES, MAX_MANIFEST_BYTES, OCI_INDEX, Descriptor, Manifest, ManifestError

_PIECE_BYTES: Final = 1024 * 1024
_MAX_EXTENDED_HEADER_BYTES: Final = 1024 * 1024
_MAX_DEPTH: Final = 16


class Source(Protocol):
    """Where the archive comes from."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        ...


def import_layout(
    catalogue: Catalogue,
    source: Source,
    *,
    naming: Callable[[Sequence[Descriptor]], Sequence[ImportTarget | None]],
    progress: Callable[[LayoutProgress], None],
) -> list[ImportedImage]:
    """Store the images of an archive and return its roots.

    ``naming`` says where each root of ``index.json`` goes (its annotations carry the names). A root for which it says
    None goes where what it refers to went, as signatures do, else nowhere. Raises :class:`LayoutError`,
    :class:`DigestMismatchError`, what ``naming`` raises, or the store's errors; what was already linked stays.
    """
    staging = catalogue.paths.new_tmp()
    with translated():
        staging.mkdir()
    try:
        archive = _Archive(staging, progress)
        with translated():
            archive.read(source)
        return _import_roots(catalogue, archive, naming)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _import_roots(
    catalogue: Catalogue,
    archive: _Archive,
    naming: Callable[[Sequence[Descriptor]], Sequence[ImportTarget | None]],
) -> list[ImportedImage]:
    roots = archive.roots()
    waiting: list[Descriptor] = []
    imported: list[ImportedImage] = []
    placed: dict[Digest, list[ImportTarget]] = {}

    def place(root: Descriptor, target: ImportTarget) -> None:
        linker = _Linker(catalogue, archive, target)
        linker.manifest(root, depth=0, tagged=True)
        imported.append(ImportedImage(descriptor=root, target=target))
        for digest in linker.seen:
            placed.setdefault(digest, []).append(target)

    for root, target in zip(roots, naming(roots), strict=True):
        if target is None:
            waiting.append(root)
        else:
            place(root, target)
    while ready := [(root, homes) for root in waiting if (homes := _homes(placed, archive.subject_of(root)))]:
        for root, homes in ready:
            waiting.remove(root)
            for home in list(homes):
                place(root, replace(home, tag=None))
    return imported


def _homes(placed: Mapping[Digest, list[ImportTarget]], subject: Digest | None) -> list[ImportTarget]:
    return [] if subject is None else placed.get(subject, [])


class _BoundedHeader(tarfile.TarInfo):
    """Refuses extended headers, which :mod:`tarfile` reads into memory whole, beyond a sensible size."""

    def _proc_member(self, tarfile: tarfile.TarFile) -> tarfile.TarInfo:
        if not self.isreg() and self.size > _MAX_EXTENDED_HEADER_BYTES:
            raise LayoutError(f"the archive has an extended header of {self.size} bytes")
        return super()._proc_member(tarfile)  # pyright: ignore  # documented in tarfile.py as the point to override


class _Archive:
    """The staged contents of one archive."""

    def __init__(self, staging: Path, progress: Callable[[LayoutProgress], None]) -> None:
        self._staging = staging
        self._progress = progress
        self._done_bytes = 0
        self._index: bytes | None = None
        self.sizes: dict[Digest, int] = {}

    def path(self, digest: Digest) -> Path:
        return self._staging / f"{digest.algorithm}-{digest.hex}"

    def read(self, source: Source) -> None:
        """Stage all blobs of the archive."""
        layout = False
        try:
            with tarfile.open(fileobj=_Reader(source), mode="r|", tarinfo=_BoundedHeader) as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isreg() and not member.issparse() else None
                    name = member.name.removeprefix("./")
                    if file is None:
                        continue
                    if name == INDEX_FILE:
                        self._index = _small(file, name)
                    elif name == LAYOUT_FILE:
                        layout = b"imageLayoutVersion" in _small(file, name)
                    elif digest := _blob_name(name):
                        self._stage(file, digest)
        except tarfile.TarError as error:
            raise LayoutError(f"the archive cannot be read as a tar file: {error}") from error
        if not layout or self._index is None:
            raise LayoutError(f"the archive is no OCI image layout: it lacks {LAYOUT_FILE} or {INDEX_FILE}")

    def roots(self) -> tuple[Descriptor, ...]:
        """Return the descriptors of ``index.json``."""
        try:
            return Manifest.parse(self._index or b"", OCI_INDEX).manifests
        except ManifestError as error:
            raise LayoutError(f"{INDEX_FILE}: {error}") from error

    def subject_of(self, root: Descriptor) -> Digest | None:
        """Return what a root refers to, if it is a manifest of this archive."""
        size = self.sizes.get(root.digest, MAX_MANIFEST_BYTES + 1)
        path = self.path(root.digest)
        if size > MAX_MANIFEST_BYTES or not path.exists():
            return None
        try:
            manifest = Manifest.parse(path.read_bytes(), root.media_type if root.media_type in MANIFEST_TYPES else "")
        except ManifestError:
            return None
        return manifest.subject.digest if manifest.subject else None

    def _stage(self, file: IO[bytes], digest: Digest) -> None:
        hasher = hashlib.new(digest.algorithm)
        size = 0
        with self.path(digest).open("wb", buffering=0) as staged:
            while piece := file.read(_PIECE_BYTES):
                hasher.update(piece)
                size += len(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[staged.write(rest) :]
        if hasher.hexdigest() != digest.hex:
            raise DigestMismatchError(expected=digest, actual=f"{digest.algorithm}:{hasher.hexdigest()}")
        self.sizes[digest] = size
        self._done_bytes += size
        self._progress(LayoutProgress(done_bytes=self._done_bytes, total_bytes=None, digest=digest))


class _Reader(RawIOBase):
    """What :mod:`tarfile` asks of a stream."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        return self._source.read(size)


class _Linker:
    """Stores one root with all that it names, from the bottom up."""

    def __init__(self, catalogue: Catalogue, archive: _Archive, target: ImportTarget) -> None:
        self._catalogue = catalogue
        self._files = ContentFiles(catalogue)
        self._archive = archive
        self._target = target
        self.seen: set[Digest] = set()
        """The manifests that were stored, or are about to be."""

    def manifest(self, descriptor: Descriptor, *, depth: int, tagged: bool) -> None:
        """Store a manifest or index after everything that it names."""
        if depth > _MAX_DEPTH:
            raise LayoutError(f"indexes are nested more than {_MAX_DEPTH} deep")
        digest = descriptor.digest
        if digest in self.seen and not tagged:
            return
        self.seen.add(digest)
        data = self._body(digest)
        try:
            manifest = Manifest.parse(data, descriptor.media_type if descriptor.media_type in MANIFEST_TYPES else "")
        except ManifestError as error:
            raise LayoutError(f"{digest}: {error}") from error
        for child in manifest.manifests:
            if self._has(child.digest):
                self.manifest(child, depth=depth + 1, tagged=False)
        for blob in manifest.blobs:
            self._blob(blob)
        self._check(manifest, digest)
        tag = self._target.tag if tagged else None
        self._catalogue.put_manifest(
            self._target.repo,
            data,
            manifest=manifest,
            digest=digest,
            tags=(tag,) if tag else (),
            pushed=self._target.pushed,
        )

    def _check(self, manifest: Manifest, digest: Digest) -> None:
        if (
            manifest.is_index
            and not any(self._has(child.digest) for child in manifest.manifests)
            and manifest.manifests
        ):
            raise LayoutError(f"{digest}: none of the index's manifests is in the archive")
        missing = [] if manifest.is_index else self._catalogue.missing_blobs(self._target.repo, manifest)
        if missing:
            raise LayoutError(f"{digest}: {len(missing)} blobs are not in the archive ({missing[0]})")

    def _has(self, digest: Digest) -> bool:
        return digest in self._archive.sizes or self._catalogue.link(self._target.repo, digest) is not None

    def _body(self, digest: Digest) -> bytes:
        size = self._archive.sizes.get(digest)
        if size is None:
            stored = self._catalogue.manifest(self._target.repo, digest)
            if stored is None:
                raise LayoutError(f"{digest} is named by {INDEX_FILE} but is not in the archive")
            return stored.body
        if size > MAX_MANIFEST_BYTES:
            raise LayoutError(f"{digest}: a manifest of {size} bytes is too big")
        path = self._archive.path(digest)
        if not path.exists():
            path = self._files.path(digest)
        with translated():
            return path.read_bytes()

    def _blob(self, blob: Descriptor) -> None:
        digest, target = blob.digest, self._target
        size = self._archive.sizes.get(digest)
        if size is None:
            return
        staged = self._archive.path(digest)
        if staged.exists():
            self._files.commit(staged, digest, size, links=[(target.repo, LinkKind.BLOB, target.pushed)])
        else:
            self._catalogue.add_link(target.repo, digest, kind=LinkKind.BLOB, pushed=target.pushed)


def _small(file: IO[bytes], name: str) -> bytes:
    body = file.read(MAX_MANIFEST_BYTES + 1)
    if len(body) > MAX_MANIFEST_BYTES:
        raise LayoutError(f"{name} has more than {MAX_MANIFEST_BYTES} bytes")
    return body


def _blob_name(name: str) -> Digest | None:
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs":
        return None
    try:
        return Digest.parse(f"{parts[1]}:{parts[2]}")
    except DigestError:
        return None
