"""A really full disk (a small tmpfs): blobs stream through without being kept, and it recovers by itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.images import MIB, opaque
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.registry import RealRegistry, real_registry
from testbed.trial import REPOSITORY, get_blob, get_manifest, get_until_right, is_right, wrong_files

pytestmark = [pytest.mark.real, pytest.mark.slow]

IMAGE = opaque([48 * MIB, 2 * MIB], seed="full")
TOO_LARGE, SMALL = IMAGE.layers


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("world"), seed={f"{REPOSITORY}:latest": IMAGE}) as registry:
        yield registry


@pytest.fixture
def mirror(tmp_path: Path, world: RealRegistry) -> Iterator[RunningMirror]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "hunqi-test", str(disk)], check=True)
    try:
        with RunningMirror(disk, upstreams={"docker.io": world.url}, args=["--no-read-ahead"]) as running:
            yield running
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_blob_larger_than_the_disk_streams_through(mirror: RunningMirror) -> None:
    assert get_manifest(mirror).status == 200
    get_until_right(mirror, TOO_LARGE)
    again = get_blob(mirror, TOO_LARGE)
    assert is_right(again, TOO_LARGE)
    assert wrong_files(mirror.data) == []


def test_caching_comes_back_by_itself(mirror: RunningMirror, world: RealRegistry) -> None:
    ballast = mirror.directory / "ballast"
    ballast.write_bytes(bytes(20 * MIB))
    get_until_right(mirror, TOO_LARGE)
    assert is_right(get_blob(mirror, SMALL), SMALL)
    ballast.unlink()
    wait_for(lambda: _is_kept(mirror, world), timeout_s=30.0, what="caching after the disk had room again")


def _is_kept(mirror: RunningMirror, world: RealRegistry) -> bool:
    assert is_right(get_blob(mirror, SMALL), SMALL)
    world.wire.forget()
    assert is_right(get_blob(mirror, SMALL), SMALL)
    return world.wire.sent_bytes(SMALL) == 0
