"""Fills a data directory with many small images through the store itself; run in a process of its own.

Nothing is flushed to the disk: how durable the store is has its tests, and here it would only take minutes.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.connections import Connections
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.paths import StorePaths
from hunqi.mirror.store.schema import create
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Manifest
from hunqi.oci.reference import Tag
from testbed import images

LAYERS: Final = 98
PER_REPOSITORY: Final = LAYERS + 2
"""Layers, a configuration and a manifest."""
BLOB_BYTES: Final = 1024
UPSTREAM: Final = "docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What a client asks for again and again: the first repository's, which is pinned."""

    manifest_path: str
    manifest: bytes
    blob_path: str
    blob: bytes


def probed() -> Probed:
    """Return what is to be asked for."""
    image, base = image_of(0), f"/v2/{repository(0)}"
    digest = image.layers[0]
    return Probed(
        manifest_path=f"{base}/manifests/{image.digest}",
        manifest=image.root.data,
        blob_path=f"{base}/blobs/{digest}",
        blob=image.blobs[digest],
    )


def repository(number: int) -> str:
    """Return a repository's name with its upstream."""
    return f"{UPSTREAM}/filled/r{number:04}"


def image_of(number: int) -> images.Image:
    """Return a repository's image."""
    return images.opaque([BLOB_BYTES] * LAYERS, seed=("filled", number))


def fill(data_dir: Path, blobs: int) -> None:
    """Store ``blobs`` digests, as mirrored content of public repositories."""
    os.fsync = lambda _descriptor: None
    paths = StorePaths(data_dir)
    create(paths)
    catalogue = Catalogue(Connections(paths.catalogue, synchronous="OFF"), paths, clock=time.time)
    files = ContentFiles(catalogue)
    for number in range(blobs // PER_REPOSITORY):
        repo, image = repository(number), image_of(number)
        catalogue.set_visibility(repo, public=True, decided_at=time.time())
        for text, data in image.blobs.items():
            source = paths.new_tmp()
            source.write_bytes(data)
            files.commit(source, Digest.parse(text), len(data), links=[(repo, LinkKind.BLOB, False)])
        body, digest = image.root.data, Digest.parse(image.digest)
        manifest = Manifest.parse(body, image.root.media_type)
        catalogue.put_manifest(repo, body, manifest=manifest, digest=digest, tags=[Tag("latest")], pushed=False)
        if number == 0:
            catalogue.pin(repo, digest, "probed")
    catalogue.close()


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))
