"""Mirrors in a row: what one can do through another; and mirrors in a circle, which is an error that says so."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.mirror import RunningMirror, chain
from testbed.registry import Auth, RealRegistry, real_registry
from testbed.wire import Link

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("relays")]
REPOSITORY = "library/relayed"
IMAGE = images.opaque([6 * images.MIB, 2 * images.MIB, images.MIB], seed="relayed")
BIG, RANGED, UNREAD = IMAGE.layers


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    seed = {f"{REPOSITORY}:latest": IMAGE}
    with real_registry(tmp_path_factory.mktemp("world"), seed=seed, link=Link()) as running:
        yield running


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory, world: RealRegistry) -> Iterator[list[RunningMirror]]:
    """Three mirrors; only the first reaches the world."""
    directory = tmp_path_factory.mktemp("row")
    with RunningMirror(directory / "0", upstreams={"docker.io": world.url}, args=["--no-read-ahead"]) as regional:
        dead = {"docker.io": "http://127.0.0.1:9"}
        relays = [("docker.io", regional.base_url)]
        with RunningMirror(directory / "1", upstreams=dead, relays=relays, args=["--no-read-ahead"]) as middle:
            relays = [("docker.io", middle.base_url)]
            with RunningMirror(directory / "2", upstreams=dead, relays=relays, args=["--no-read-ahead"]) as edge:
                yield [regional, middle, edge]


def ask(mirror: RunningMirror, rest: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    accept = {"Accept": MANIFEST_TYPES, **(headers or {})}
    return fetch(f"{mirror.base_url}/v2/docker.io/{REPOSITORY}/{rest}", method=method, headers=accept)


def stored(mirrors: Sequence[RunningMirror], digest: str) -> list[bool]:
    return [(one.data / "content" / "sha256" / digest[7:9] / digest[7:]).exists() for one in mirrors]


def test_a_manifest_and_its_blobs_come_along_the_row_once(row: list[RunningMirror], world: RealRegistry) -> None:
    for _ in range(2):
        answer = ask(row[-1], "manifests/latest")
        assert (answer.status, answer.body) == (200, IMAGE.root.data)
        assert ask(row[-1], f"manifests/{IMAGE.digest}").body == IMAGE.root.data
        assert ask(row[-1], f"blobs/{BIG}").digest == BIG
    assert world.wire.count("GET", BIG) <= 2, "ranges of one download"
    assert world.wire.sent_bytes(BIG) == len(IMAGE.blobs[BIG])
    assert stored(row, BIG) == [True] * 3


def test_bytes_stream_through_all_of_them_before_the_first_has_them_all(
    row: list[RunningMirror], world: RealRegistry
) -> None:
    image = images.opaque([8 * images.MIB], seed="streams")
    world.push(image, REPOSITORY, "streams")
    world.wire.set_link(pace_bytes_s=4 * images.MIB)
    try:
        answer = ask(row[-1], f"blobs/{image.layers[0]}")
    finally:
        world.wire.set_link()
    assert answer.digest == image.layers[0]
    assert answer.first_byte_s < answer.took_s / 2


def test_head_of_a_blob_downloads_nothing_anywhere(row: list[RunningMirror], world: RealRegistry) -> None:
    answer = ask(row[-1], f"blobs/{UNREAD}", method="HEAD")
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(IMAGE.blobs[UNREAD])))
    assert world.wire.count("GET", UNREAD) == 0
    assert stored(row, UNREAD) == [False] * 3


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=100-199", 100, 200), ("bytes=1048576-", images.MIB, None), ("bytes=-5", -5, None)],
)
def test_ranges_pass_through(row: list[RunningMirror], header: str, start: int, end: int | None) -> None:
    answer = ask(row[-1], f"blobs/{RANGED}", headers={"Range": header})
    assert (answer.status, answer.body) == (206, IMAGE.blobs[RANGED][start:end])


def test_what_the_world_does_not_have_is_404_at_the_edge(row: list[RunningMirror]) -> None:
    for rest, code in (("manifests/none", "MANIFEST_UNKNOWN"), (f"blobs/{images.digest_of(b'none')}", "BLOB_UNKNOWN")):
        answer = ask(row[-1], rest)
        assert (answer.status, json.loads(answer.body)["errors"][0]["code"]) == (404, code)


def test_tags_of_the_world_are_listed_at_the_edge(row: list[RunningMirror]) -> None:
    answer = ask(row[-1], "tags/list")
    assert answer.status == 200, answer.body
    assert "latest" in json.loads(answer.body)["tags"]


def test_a_private_repository_is_refused_at_the_edge_and_a_public_one_is_not(tmp_path: Path) -> None:
    secret, open_image = images.layered([1000], seed="secret"), images.layered([1000], seed="open")
    with (
        real_registry(
            tmp_path / "world",
            auth=Auth.BEARER,
            public=("library/open",),
            seed={"library/secret:latest": secret, "library/open:latest": open_image},
        ) as world,
        chain(tmp_path, length=2, upstream=("docker.io", world.url)) as (_, edge),
    ):
        url = f"{edge.base_url}/v2/docker.io/library"
        accept = {"Accept": MANIFEST_TYPES}
        assert fetch(f"{url}/open/manifests/latest", headers=accept).status == 200
        refused = fetch(f"{url}/secret/manifests/latest", headers=accept)
        assert refused.status in (401, 403)
        assert json.loads(refused.body)["errors"][0]["code"] in ("DENIED", "UNAUTHORIZED")
        assert fetch(f"{url}/secret/blobs/{secret.layers[0]}").status in (401, 403)


@pytest.mark.parametrize("name", ["*", "docker.io"])
def test_what_a_relay_shows_to_our_credentials_only_is_nobody_elses_from_the_first_question(
    tmp_path: Path, name: str
) -> None:
    secret = images.layered([1000], seed="relay-secret")
    seed = {"docker.io/corp/secret:latest": secret}
    with real_registry(tmp_path / "world", auth=Auth.BASIC, seed=seed) as world:
        pair = base64.b64encode(f"{world.user}:{world.password}".encode()).decode()
        file = tmp_path / "credentials.json"
        file.write_text(json.dumps({"auths": {world.host: {"auth": pair}}}))
        file.chmod(0o600)
        config = f'[[mirror.relays]]\nname = "{name}"\nurl = "{world.url}"\ncredentials-file = "{file}"\n'
        mirror = RunningMirror(tmp_path, upstreams={"docker.io": "http://127.0.0.1:9"}, config=config)
        mirror.add_user("carol", "allowed-in", "docker.io/corp:pull")
        with mirror:
            url = f"{mirror.base_url}/v2/docker.io/corp/secret"
            for _ in range(2):
                assert fetch(f"{url}/manifests/latest", headers={"Accept": MANIFEST_TYPES}).status in (401, 403)
            basic = base64.b64encode(b"carol:allowed-in").decode()
            carol = {"Accept": MANIFEST_TYPES, "Authorization": f"Basic {basic}"}
            assert fetch(f"{url}/manifests/latest", headers=carol).status == 200
            assert fetch(f"{url}/blobs/{secret.layers[0]}", headers=carol).digest == secret.layers[0]
            assert fetch(f"{url}/blobs/{secret.layers[0]}").status in (401, 403)


def test_a_circle_of_relays_ends_with_an_error_that_says_so(tmp_path: Path) -> None:
    dead = {"docker.io": "http://127.0.0.1:9"}
    one, two = RunningMirror(tmp_path / "1", upstreams=dead), RunningMirror(tmp_path / "2", upstreams=dead)
    one.relays, two.relays = [("docker.io", two.base_url)], [("docker.io", one.base_url)]
    with one, two:
        for mirror in (one, two):
            for rest in ("manifests/latest", f"blobs/{BIG}", "tags/list"):
                answer = ask(mirror, rest)
                assert answer.status == 508, answer.body
                message = json.loads(answer.body)["errors"][0]["message"]
                assert "loop" in message
                assert "--relay" in message
