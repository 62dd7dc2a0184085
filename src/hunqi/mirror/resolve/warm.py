"""Warming: which manifests and blobs make up an image, so that all of it can be fetched before anyone pulls it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from hunqi.errors import UserError
from hunqi.mirror.names import Target
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Descriptor, Manifest
from hunqi.oci.reference import Reference

MAX_DEPTH: Final = 4
"""Indexes inside indexes that are followed."""


class NoSuchPlatform(UserError):
    """The image has none of the platforms that were asked for."""

    code: ClassVar[str] = "resolve.no_such_platform"

    def __init__(self, wanted: tuple[str, ...], available: tuple[str, ...]) -> None:
        super().__init__(f"the image has no {' or '.join(wanted)}; it has {', '.join(available) or 'no platforms'}")
        self.wanted = wanted
        self.available = available


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmManifest:
    """A manifest or index of the image is here now."""

    digest: Digest
    media_type: str
    platform: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmBlob:
    """A blob of the image; the caller has it fetched unless ``is_stored``."""

    blob: Descriptor
    is_stored: bool


WarmStep = WarmManifest | WarmBlob


class WarmShelf(Protocol):
    """What warming needs: manifests by reference, and which contents are here."""

    def open_manifest(self, target: Target, reference: Reference) -> tuple[Digest, Manifest]:
        """Return a manifest, fetched if need be; raises what resolving raises."""
        ...

    def is_stored(self, digest: Digest) -> bool:
        """Whether the content is here, whoever links it."""
        ...


def warm(shelf: WarmShelf, target: Target, reference: Reference, platforms: Sequence[str] = ()) -> Iterator[WarmStep]:
    """Yield the image's manifests as they arrive, and each of its distributable blobs once.

    ``platforms`` are of the form ``linux/amd64`` (``linux/arm64`` includes ``linux/arm64/v8``); none means all. An
    image that is not an index is taken as it is. Iterating raises what resolving raises, and :class:`NoSuchPlatform`.
    """
    digest, root = shelf.open_manifest(target, reference)
    wanted = tuple(platforms)
    if root.is_index and wanted and not any(_chosen(root, wanted)):
        raise NoSuchPlatform(wanted, tuple(sorted({child.platform for child in root.manifests if child.platform})))
    yield from _Walk(shelf, target, wanted).image(digest, root, None, MAX_DEPTH)


class _Walk:
    """One image's walk, which sees each digest once."""

    def __init__(self, shelf: WarmShelf, target: Target, platforms: tuple[str, ...]) -> None:
        self._shelf = shelf
        self._target = target
        self._platforms = platforms
        self._seen: set[Digest] = set()

    def image(self, digest: Digest, manifest: Manifest, platform: str | None, depth: int) -> Iterator[WarmStep]:
        if digest in self._seen:
            return
        self._seen.add(digest)
        yield WarmManifest(digest=digest, media_type=manifest.media_type, platform=platform)
        if manifest.is_index and depth > 0:
            for child in _chosen(manifest, self._platforms):
                _, opened = self._shelf.open_manifest(self._target, child.digest)
                yield from self.image(child.digest, opened, child.platform or platform, depth - 1)
        for blob in manifest.blobs:
            if blob.is_distributable and blob.digest not in self._seen:
                self._seen.add(blob.digest)
                yield WarmBlob(blob=blob, is_stored=self._shelf.is_stored(blob.digest))


def _chosen(index: Manifest, platforms: tuple[str, ...]) -> Iterator[Descriptor]:
    """Yield the children for ``platforms``; those that name none (nested indexes) belong to every platform."""
    for child in index.manifests:
        if not platforms or child.platform is None or any(_matches(child.platform, wanted) for wanted in platforms):
            yield child


def _matches(platform: str, wanted: str) -> bool:
    return platform == wanted or platform.startswith(f"{wanted}/")
