"""Read-ahead through the whole mirror: the first blob's GET brings the image; a look at it brings nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.server import Exchange, Server
from testbed.zoo import ZooRegistry

QUIET_S = 0.7
"""Read-ahead begins within milliseconds; so long nothing came means that nothing comes."""


class Gated:
    """An upstream whose blobs wait for ``gate``; it counts how many wait at once."""

    def __init__(self, image: images.Image) -> None:
        self.zoo = ZooRegistry([image])
        self.gate = threading.Event()
        self.asked: list[str] = []
        self.server = Server(self._answer)

    def _answer(self, exchange: Exchange) -> None:
        if exchange.method == "GET" and "/blobs/" in exchange.path:
            self.asked.append(exchange.path.rpartition("/")[2])
            self.gate.wait(20.0)
        self.zoo.answer(exchange)


@contextmanager
def gated(image: images.Image) -> Iterator[Gated]:
    world = Gated(image)
    with world.server:
        try:
            yield world
        finally:
            world.gate.set()


@contextmanager
def mirror_of(
    directory: Path, upstreams: Mapping[str, str], *args: str, config: str | None = None
) -> Iterator[RunningMirror]:
    with RunningMirror(directory, upstreams=upstreams, args=args, workers=2, config=config) as running:
        yield running


def get(mirror: RunningMirror, path: str, method: str = "GET", **headers: str) -> Answer:
    sent = {"Accept": MANIFEST_TYPES, **headers}
    return fetch(f"{mirror.base_url}/v2/docker.io/library/app/{path}", method=method, headers=sent)


def stored(mirror: RunningMirror, digest: str) -> bool:
    return (mirror.data / "content" / "sha256" / digest[7:9] / digest[7:]).is_file()


@pytest.fixture(scope="module")
def zoo() -> Iterator[ZooRegistry]:
    with ZooRegistry([IMAGE, OTHER], tags={"latest": IMAGE, "other": OTHER}) as registry:
        yield registry


IMAGE = images.opaque([50_000 + number for number in range(6)], seed="ahead")
OTHER = images.opaque([40_000, 40_001], seed="other")


def test_the_first_blob_brings_config_and_layers_and_nothing_of_another_image(tmp_path: Path, zoo: ZooRegistry) -> None:
    zoo.server.forget()
    with mirror_of(tmp_path, {"docker.io": zoo.url}) as mirror:
        get(mirror, "manifests/other")
        get(mirror, "manifests/latest")
        time.sleep(QUIET_S)
        assert zoo.blob_gets() == []  # a manifest alone may be an update check
        assert get(mirror, f"blobs/{IMAGE.layers[2]}").digest == IMAGE.layers[2]
        wait_for(lambda: all(stored(mirror, one) for one in IMAGE.blobs), timeout_s=10.0, what="the image's blobs")
        assert sorted(record.path.rpartition("/")[2] for record in zoo.blob_gets()) == sorted(IMAGE.blobs)
        zoo.server.forget()
        for digest in IMAGE.blobs:
            assert get(mirror, f"blobs/{digest}").digest == digest
        assert zoo.server.records == []


def test_the_first_blob_may_be_one_that_is_stored_or_a_range_of_it(tmp_path: Path, zoo: ZooRegistry) -> None:
    zoo.server.forget()
    with mirror_of(tmp_path, {"docker.io": zoo.url}) as mirror:
        get(mirror, "manifests/latest")
        get(mirror, f"blobs/{IMAGE.layers[0]}", Range="bytes=0-99")
        wait_for(lambda: all(stored(mirror, one) for one in IMAGE.blobs), timeout_s=10.0, what="the image's blobs")


def test_an_update_check_brings_nothing(tmp_path: Path, zoo: ZooRegistry) -> None:
    zoo.server.forget()
    with mirror_of(tmp_path, {"docker.io": zoo.url}) as mirror:
        for method in ("HEAD", "GET"):
            assert get(mirror, "manifests/latest", method).status == 200
            assert get(mirror, f"manifests/{IMAGE.digest}", method).status == 200
        for digest in IMAGE.layers:
            assert get(mirror, f"blobs/{digest}", "HEAD").status == 200
            assert get(mirror, f"blobs/{digest}", **{"If-None-Match": f'"{digest}"'}).status == 304
        time.sleep(QUIET_S)
        assert zoo.blob_gets() == []


@pytest.mark.parametrize("by_file", [False, True], ids=["flag", "file"])
def test_it_can_be_turned_off(tmp_path: Path, zoo: ZooRegistry, by_file: bool) -> None:
    zoo.server.forget()
    args = () if by_file else ("--no-read-ahead",)
    config = "[mirror]\nfetch.read-ahead = false\n" if by_file else None
    with mirror_of(tmp_path, {"docker.io": zoo.url}, *args, config=config) as mirror:
        get(mirror, "manifests/latest")
        assert get(mirror, f"blobs/{IMAGE.layers[0]}").digest == IMAGE.layers[0]
        time.sleep(QUIET_S)
        assert len(zoo.blob_gets()) == 1


def test_it_is_bounded_and_a_client_never_waits_for_its_turn(tmp_path: Path) -> None:
    large = images.opaque([3 * images.MIB] * 5, seed="ahead-large")
    config = "[mirror]\nfetch.read-ahead-parallel = 2\n"
    with gated(large) as world, mirror_of(tmp_path, {"docker.io": world.server.url}, config=config) as mirror:
        get(mirror, "manifests/latest")
        first, last = large.layers[0], large.layers[-1]
        answers: list[Answer] = []
        clients = [
            threading.Thread(target=lambda digest=digest: answers.append(get(mirror, f"blobs/{digest}")))
            for digest in (first, last)
        ]
        clients[0].start()
        wait_for(lambda: len(set(world.asked)) == 3, timeout_s=10.0, what="the client's blob and two more")
        time.sleep(QUIET_S)
        assert len(set(world.asked)) == 3
        clients[1].start()
        wait_for(lambda: last in world.asked, timeout_s=10.0, what="the second client's own blob")
        world.gate.set()
        for client in clients:
            client.join(20.0)
        assert sorted(answer.digest for answer in answers) == sorted([first, last])
        wait_for(lambda: all(stored(mirror, one) for one in large.blobs), timeout_s=10.0, what="the image's blobs")
        assert len(world.asked) == len(set(world.asked))


def test_of_an_index_only_the_platform_that_is_pulled_is_read_ahead(tmp_path: Path) -> None:
    built = images.multi_platform(seed="ahead-index")
    index = built["index"]
    platforms = [image for name, image in built.items() if name != "index"]
    with ZooRegistry([index]) as zoo, mirror_of(tmp_path, {"docker.io": zoo.url}) as mirror:
        wanted, other = platforms[0], platforms[1]
        get(mirror, "manifests/latest")
        get(mirror, f"manifests/{wanted.digest}")
        own = [digest for digest in wanted.blobs if digest not in other.blobs]
        get(mirror, f"blobs/{own[0]}")
        wait_for(lambda: all(stored(mirror, one) for one in wanted.blobs), timeout_s=10.0, what="the platform's blobs")
        time.sleep(QUIET_S)
        assert {record.path.rpartition("/")[2] for record in zoo.blob_gets()} == set(wanted.blobs)


def test_an_upstream_that_fails_the_others_does_not_disturb_the_first(tmp_path: Path) -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.method == "GET" and "/blobs/" in exchange.path and IMAGE.layers[0] not in exchange.path:
            exchange.reply(500, b"no")
        else:
            zoo.answer(exchange)

    zoo = ZooRegistry([IMAGE])
    with Server(answer) as server, mirror_of(tmp_path, {"docker.io": server.url}) as mirror:
        get(mirror, "manifests/latest")
        assert get(mirror, f"blobs/{IMAGE.layers[0]}").digest == IMAGE.layers[0]
        assert get(mirror, "manifests/latest").status == 200
