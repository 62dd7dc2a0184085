"""A really full disk (a small tmpfs): blobs stream through without being kept, and it recovers by itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from testbed.images import MIB, opaque
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.registry import RealRegistry, real_registry
from testbed.trial import REPOSITORY, get_blob, get_manifest, get_until_right, is_right, wrong_files
from testbed.zoo import ANIMALS, ZooRegistry

pytestmark = [pytest.mark.real, pytest.mark.slow]

IMAGE = opaque([48 * MIB, 2 * MIB, 40 * MIB], seed="full")
ARGS = ("--no-read-ahead", "--fetch-connections", "1")
TOO_LARGE, SMALL, IN_THE_MIDDLE = IMAGE.layers


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("world"), seed={f"{REPOSITORY}:latest": IMAGE}) as registry:
        yield registry


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "hunqi-test", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def mirror(disk: Path, world: RealRegistry) -> Iterator[RunningMirror]:
    world.wire.forget()
    with RunningMirror(disk, upstreams={"docker.io": world.url}, args=ARGS) as running:
        yield running


def test_a_blob_larger_than_the_disk_streams_through(mirror: RunningMirror) -> None:
    assert get_manifest(mirror).status == 200
    get_until_right(mirror, TOO_LARGE)
    again = get_blob(mirror, TOO_LARGE)
    assert is_right(again, TOO_LARGE)
    assert wrong_files(mirror.data) == []


def test_a_reader_in_the_middle_goes_on_from_where_it_stands(mirror: RunningMirror, world: RealRegistry) -> None:
    """Its own bytes are proved, and the source sends only what the disk did not hold."""
    assert get_manifest(mirror).status == 200
    answer = get_blob(mirror, IN_THE_MIDDLE)
    assert is_right(answer, IN_THE_MIDDLE)
    assert world.wire.sent_bytes(IN_THE_MIDDLE) < 1.5 * 40 * MIB
    assert wrong_files(mirror.data) == []
    assert not any((mirror.data / "parts").iterdir())


def test_several_readers_in_the_middle_at_different_places_all_go_on(mirror: RunningMirror) -> None:
    assert get_manifest(mirror).status == 200
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: get_blob(mirror, IN_THE_MIDDLE), range(4)))
    assert [is_right(answer, IN_THE_MIDDLE) for answer in answers] == [True] * 4


def test_wrong_bytes_before_the_disk_was_full_are_never_completed(tmp_path: Path, disk: Path) -> None:
    """What was read from the part file is hashed too: a right rest does not make it right."""
    with (
        ZooRegistry([IMAGE], ANIMALS["wrong-bytes-at-the-start-once"]) as zoo,
        RunningMirror(disk, upstreams={"docker.io": zoo.url}, args=ARGS) as mirror,
    ):
        assert get_manifest(mirror).status == 200
        assert not get_blob(mirror, IN_THE_MIDDLE).is_whole
        get_until_right(mirror, IN_THE_MIDDLE)
        wait_for(lambda: "cut" in outcomes(mirror), timeout_s=10.0, what="the line of the answer that was cut")


def outcomes(mirror: RunningMirror) -> set[str]:
    lines = [json.loads(line) for line in mirror.log.read_text().splitlines() if line.startswith("{")]
    return {line["outcome"] for line in lines}


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
