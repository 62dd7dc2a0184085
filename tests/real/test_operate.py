"""The operator's commands on a running mirror, from the command line as a person types them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import images
from testbed.client import fetch
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry, real_registry

pytestmark = pytest.mark.real

IMAGE = images.opaque([300_000, 200_000], seed="operate")
NAME = "docker.io/library/app:1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("world"), seed={"library/app:1": IMAGE}) as registry:
        yield registry


@pytest.fixture
def mirror(tmp_path: Path, world: RealRegistry) -> Iterator[RunningMirror]:
    world.wire.forget()
    with RunningMirror(tmp_path, upstreams={"docker.io": world.url}) as running:
        yield running


def ask(mirror: RunningMirror, *args: str) -> Any:
    return mirror.cli_json(*args)


def test_warm_fetches_the_whole_image_once(mirror: RunningMirror, world: RealRegistry) -> None:
    assert ask(mirror, "warm", NAME)["count"] == len(IMAGE.blobs)
    assert ask(mirror, "warm", NAME)["count"] == len(IMAGE.blobs)
    for digest, data in IMAGE.blobs.items():
        assert world.wire.sent_bytes(digest) == len(data)
    row = ask(mirror, "ls")["repositories"][0]
    assert (row["name"], row["kind"], row["tags"]) == ("docker.io/library/app", "mirrored", 1)


def test_pin_shows_and_unpin_ends_it(mirror: RunningMirror) -> None:
    ask(mirror, "warm", NAME)
    ask(mirror, "pin", NAME)
    assert [tag["pinned"] for tag in ask(mirror, "ls", "docker.io/library/app")["tags"]] == [True]
    ask(mirror, "unpin", NAME)
    assert [tag["pinned"] for tag in ask(mirror, "ls", "docker.io/library/app")["tags"]] == [False]


def test_verify_finds_and_drops_a_damaged_blob(mirror: RunningMirror) -> None:
    ask(mirror, "warm", NAME)
    digest = IMAGE.layers[0]
    hexadecimal = digest.partition(":")[2]
    path = mirror.data / "content" / "sha256" / hexadecimal[:2] / hexadecimal
    path.write_bytes(bytes(path.stat().st_size))
    mirror.cli("verify", check=False)
    answer = fetch(f"{mirror.base_url}/v2/docker.io/library/app/blobs/{digest}")
    assert answer.digest == digest


def test_an_archive_carries_an_image_to_a_mirror_without_a_network(mirror: RunningMirror, tmp_path: Path) -> None:
    ask(mirror, "warm", NAME)
    archive = tmp_path / "image.tar"
    ask(mirror, "export", NAME, "-o", str(archive))
    with RunningMirror(tmp_path / "island", upstreams={"docker.io": "http://127.0.0.1:9"}) as island:
        ask(island, "import", str(archive))
        for digest in IMAGE.layers:
            ask(island, "ls")
            stored = island.data / "content" / "sha256" / digest[7:9] / digest[7:]
            assert stored.is_file()


def test_an_image_that_is_not_kept_is_named_with_the_next_step(mirror: RunningMirror) -> None:
    text = mirror.cli("pin", "docker.io/library/none:1", check=False)
    assert "hunqi mirror warm" in text or text == ""


def test_reload_keeps_serving(mirror: RunningMirror) -> None:
    ask(mirror, "warm", NAME)
    ask(mirror, "reload")
    answer = fetch(f"{mirror.base_url}/v2/docker.io/library/app/manifests/1")
    assert answer.status == 200
