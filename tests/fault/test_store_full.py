"""A file system that is really full: a distinct error, nothing half done, and eviction makes room again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.errors import StoreFullError
from hunqi.mirror.store.eviction import Eviction
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.uploads import Uploads
from hunqi.mirror.store.usage import Usage
from hunqi.mirror.store.verify import verify
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_MANIFEST, Manifest

PIECE = 64 * 1024


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("ab", buffering=0) as ballast:
        for size in (PIECE, 512):
            try:
                while True:
                    ballast.write(os.urandom(size))
            except OSError:
                continue


def commit(catalogue: Catalogue, data: bytes) -> Digest:
    digest = Digest.of(data)
    source = catalogue.paths.new_tmp()
    source.write_bytes(data)
    ContentFiles(catalogue).commit(source, digest, len(data), links=[("docker.io/a", LinkKind.BLOB, False)])
    return digest


def test_an_upload_on_a_full_disk_keeps_its_bytes_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    catalogue = Catalogue.open(small_disk / "data")
    uploads = Uploads(catalogue, ContentFiles(catalogue))
    upload = uploads.start("team/a")
    uploads.append(upload, b"a" * PIECE, expected_start=0)
    fill(small_disk)
    with pytest.raises(StoreFullError):
        uploads.append(upload, b"b" * PIECE * 4, expected_start=PIECE)
    found = uploads.get("team/a", upload.id)
    assert found is not None
    assert found.offset == PIECE
    (small_disk / "ballast").unlink()
    uploads.append(upload, b"b" * PIECE, expected_start=PIECE)
    assert uploads.finish(upload, Digest.of(b"a" * PIECE + b"b" * PIECE)) == 2 * PIECE
    catalogue.close()


def test_a_manifest_on_a_full_disk_is_refused_whole(small_disk: Path) -> None:
    catalogue = Catalogue.open(small_disk / "data")
    body = b'{"schemaVersion":2,"mediaType":"%s","layers":[]%s}' % (OCI_MANIFEST.encode(), b" " * PIECE)
    fill(small_disk)
    with pytest.raises(StoreFullError):
        catalogue.put_manifest("team/a", body, manifest=Manifest.parse(body), digest=Digest.of(body), pushed=True)
    assert catalogue.manifest("team/a", Digest.of(body)) is None
    assert not catalogue.has_repository("team/a")
    assert list(catalogue.paths.tmp.iterdir()) == []
    catalogue.close()


def test_eviction_makes_room_on_a_disk_too_full_for_its_own_transaction(small_disk: Path) -> None:
    catalogue = Catalogue.open(small_disk / "data")
    usage = Usage.open(small_disk / "data")
    blobs = [commit(catalogue, b"%02d" % number * PIECE) for number in range(8)]
    connection = catalogue.connections
    connection.row("PRAGMA wal_checkpoint(TRUNCATE)")
    fill(small_disk)
    freed = sum(step.freed_bytes for step in Eviction(catalogue, usage).evict(10**9, in_use=frozenset))
    assert freed == 8 * 2 * PIECE
    assert catalogue.totals().cached_files == 0
    commit(catalogue, b"room again")
    assert verify(catalogue, progress=lambda _: None) == []
    assert all(catalogue.content(digest) is None for digest in blobs)
    usage.close()
    catalogue.close()
