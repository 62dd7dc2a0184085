"""Export: images with everything that they name, written as one tar stream."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO, RawIOBase
from typing import TYPE_CHECKING, Final, Protocol

from hunqi.errors import DependencyError
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.layout import (
    IMAGE_NAME,
    INDEX_FILE,
    LAYOUT_BODY,
    LAYOUT_FILE,
    REF_NAME,
    VISIBILITY,
    ExportImage,
    ExportIncompleteError,
    LayoutProgress,
)
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_INDEX, Manifest

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PIECE_BYTES: Final = 1024 * 1024


class Sink(Protocol):
    """Where the archive goes: a file, or a pipe to a client."""

    def write(self, data: bytes, /) -> object:
        """Take bytes; raise to stop."""
        ...


def export_images(
    catalogue: Catalogue,
    images: Sequence[ExportImage],
    sink: Sink,
    *,
    referrers: bool,
    progress: Callable[[LayoutProgress], None],
) -> int:
    """Write the images (and what refers to them, if ``referrers``) to ``sink``; return the bytes of content written.

    Everything is found before the first byte is written. Raises :class:`ExportIncompleteError`, what ``sink`` and
    ``progress`` raise, or :class:`~hunqi.errors.DependencyError` when content vanishes in the middle.
    """
    sizes: dict[Digest, int] = {}
    roots: list[dict[str, object]] = []
    tags = Counter(image.tag for image in images)
    for image in images:
        search = _Search(catalogue, image, sizes)
        roots.append(_root(search.manifest_entry(image.digest), image, is_only=tags[image.tag] == 1))
        if referrers:
            roots += [search.manifest_entry(digest) for digest in search.referrers()]
        search.check()
    total = sum(sizes.values())
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": roots}).encode()
    files = ContentFiles(catalogue)
    done = 0
    with tarfile.open(fileobj=_Writer(sink), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, LAYOUT_FILE, LAYOUT_BODY)
        _add(archive, INDEX_FILE, index)
        for digest, size in sizes.items():
            _add_content(archive, files, digest, size)
            done += size
            progress(LayoutProgress(done_bytes=done, total_bytes=total, digest=digest))
    return total


class _Writer(RawIOBase):
    """What :mod:`tarfile` asks of a stream."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def write(self, data: Buffer, /) -> int:
        piece = bytes(data)
        self._sink.write(piece)
        return len(piece)


class _Search:
    """Finds what belongs to one image; ``sizes`` grows by it, manifests before what they name."""

    def __init__(self, catalogue: Catalogue, image: ExportImage, sizes: dict[Digest, int]) -> None:
        self._catalogue = catalogue
        self._image = image
        self._sizes = sizes
        self._seen: list[Digest] = []
        self._missing: list[Digest] = []

    def manifest_entry(self, digest: Digest) -> dict[str, object]:
        """Add a manifest with all that it names and return its descriptor."""
        stored = self._catalogue.manifest(self._image.repo, digest)
        if stored is None:
            self._missing.append(digest)
            return {}
        self._sizes[digest] = stored.size
        self._seen.append(digest)
        manifest = Manifest.parse(stored.body, stored.media_type)
        for child in manifest.manifests:
            if child.digest not in self._seen:
                self.manifest_entry(child.digest)
        for blob in manifest.blobs:
            if blob.is_distributable:
                self._blob(blob.digest)
        return {"mediaType": stored.media_type, "digest": str(digest), "size": stored.size}

    def referrers(self) -> list[Digest]:
        """Return who refers to the manifests found so far, and who to those."""
        found: list[Digest] = []
        for subject in self._seen:
            for entry in self._catalogue.referrers(self._image.repo, subject, None):
                if entry.digest not in self._seen and entry.digest not in found:
                    found.append(entry.digest)
        return found

    def check(self) -> None:
        """Raise :class:`ExportIncompleteError` if anything is not here."""
        if self._missing:
            raise ExportIncompleteError(name=self._image.name, missing=tuple(dict.fromkeys(self._missing)))

    def _blob(self, digest: Digest) -> None:
        link = self._catalogue.link(self._image.repo, digest)
        if link is None or not self._catalogue.paths.content_file(digest).is_file():
            self._missing.append(digest)
        else:
            self._sizes[digest] = link.size


def _root(entry: dict[str, object], image: ExportImage, *, is_only: bool) -> dict[str, object]:
    """Return a root with its names; those who read by ``ref.name`` alone must not find two images under one."""
    annotations = {IMAGE_NAME: image.name}
    if image.tag:
        annotations[REF_NAME] = image.tag.name if is_only else image.name
    if image.is_private:
        annotations[VISIBILITY] = "private"
    return {**entry, "annotations": annotations}


def _add(archive: tarfile.TarFile, name: str, body: bytes) -> None:
    archive.addfile(_member(name, len(body)), BytesIO(body))


def _add_content(archive: tarfile.TarFile, files: ContentFiles, digest: Digest, size: int) -> None:
    descriptor = files.open_for_read(digest)
    if descriptor is None:
        raise DependencyError(f"{digest} was removed during the export: start it again")
    with os.fdopen(descriptor, "rb", buffering=_PIECE_BYTES) as source:
        archive.addfile(_member(f"blobs/{digest.algorithm}/{digest.hex}", size), source)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member
