"""The operator's commands on a running mirror, from the command line as a person types them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import images
from testbed.client import fetch
from testbed.mirror import RunningMirror
from testbed.programs import ProcessFailedError
from testbed.registry import RealRegistry, real_registry

pytestmark = pytest.mark.real

IMAGE = images.opaque([300_000, 200_000], seed="operate")
NAME = "docker.io/library/app:1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(
        tmp_path_factory.mktemp("world"), seed={"library/app:1": IMAGE, "library/app:same": IMAGE}
    ) as registry:
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


def test_images_that_share_a_layer_are_both_whole_once_warm(mirror: RunningMirror, world: RealRegistry) -> None:
    names = []
    for number, image in enumerate(images.sharing(2, seed="warm-share", shared_bytes=200_000)):
        world.push(image, f"library/share{number}", "1")
        names.append(f"docker.io/library/share{number}:1")
    ask(mirror, "warm", *names)
    archive = mirror.directory / "both.tar"
    mirror.cli("export", *names, "-o", str(archive))
    assert archive.stat().st_size > 200_000


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
    with pytest.raises(ProcessFailedError, match="1 bad"):
        mirror.cli("verify")
    answer = fetch(f"{mirror.base_url}/v2/docker.io/library/app/blobs/{digest}")
    assert answer.digest == digest


@pytest.mark.parametrize("command", ["pin", "unpin", "rm", "export"])
def test_an_image_that_is_not_kept_is_named_with_the_next_step(mirror: RunningMirror, command: str) -> None:
    more = ["-o", str(mirror.directory / "x.tar")] if command == "export" else []
    with pytest.raises(ProcessFailedError, match=r"hunqi mirror warm docker\.io/library/none:1"):
        mirror.cli(command, "docker.io/library/none:1", *more)


def test_a_removed_mirrored_image_gives_its_space_back_and_is_fetched_again(
    mirror: RunningMirror, world: RealRegistry
) -> None:
    ask(mirror, "warm", NAME)
    (removed,) = ask(mirror, "rm", NAME)
    assert removed["freed_bytes"] > IMAGE.size_bytes
    assert ask(mirror, "stat")["cached_bytes"] == 0
    assert ask(mirror, "ls")["repositories"] == []
    world.wire.forget()
    ask(mirror, "warm", NAME)
    assert world.wire.sent_bytes(IMAGE.layers[0]) == len(IMAGE.blobs[IMAGE.layers[0]])


def test_of_two_tags_only_the_named_one_is_removed(mirror: RunningMirror) -> None:
    ask(mirror, "warm", NAME, "docker.io/library/app:same")
    (removed,) = ask(mirror, "rm", NAME)
    assert removed["only_tag"]
    assert [row["tag"] for row in ask(mirror, "ls", "docker.io/library/app")["tags"]] == ["same"]
    text = mirror.cli("rm", "docker.io/library/app:same")
    assert "freed" in text


def test_what_is_pinned_is_not_removed_and_the_reason_is_shown(mirror: RunningMirror) -> None:
    ask(mirror, "warm", NAME)
    ask(mirror, "pin", NAME, "--reason", "production")
    listed = mirror.cli("ls", "docker.io/library/app")
    assert "production" in listed
    assert IMAGE.digest in listed, "whole where it is piped"
    with pytest.raises(ProcessFailedError, match="hunqi mirror unpin"):
        mirror.cli("rm", NAME)
    assert "unpinned" in mirror.cli("unpin", NAME)
    assert "was not pinned" in mirror.cli("unpin", NAME)


def test_reload_keeps_serving(mirror: RunningMirror) -> None:
    ask(mirror, "warm", NAME)
    ask(mirror, "reload")
    answer = fetch(f"{mirror.base_url}/v2/docker.io/library/app/manifests/1")
    assert answer.status == 200
