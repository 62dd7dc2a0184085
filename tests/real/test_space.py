"""``--cache-max`` on a running mirror: what leaves when it is passed, what stays, and what does not count."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, fetch
from testbed.images import MIB, Image, Pusher
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.registry import RealRegistry, real_registry

pytestmark = pytest.mark.real
PINNED, MOUNTED, STALE, USED, NEW, NEWER = (images.opaque([MIB], seed=("space", n)) for n in range(6))
NAMES = {"pinned": PINNED, "mounted": MOUNTED, "stale": STALE, "used": USED, "new": NEW, "newer": NEWER}
BIG = images.opaque([24 * MIB], seed="space-big")
LIMIT = "4608KiB"
"""Four images and a half; the low mark is at four."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    seed = {f"library/{name}:1": image for name, image in NAMES.items()} | {"library/big:1": BIG}
    with real_registry(tmp_path_factory.mktemp("world"), seed=seed) as registry:
        yield registry


@pytest.fixture
def mirror(tmp_path: Path, world: RealRegistry) -> Iterator[RunningMirror]:
    args = ["--cache-max", LIMIT, "--allow-anonymous-push", "--no-read-ahead", "--fetch-connections", "1"]
    with RunningMirror(tmp_path, upstreams={"docker.io": world.url}, args=args, workers=1) as running:
        yield running


def pull(mirror: RunningMirror, name: str) -> None:
    image = NAMES[name]
    base = f"{mirror.base_url}/v2/docker.io/library/{name}"
    assert fetch(f"{base}/manifests/1", headers={"Accept": MANIFEST_TYPES}).digest == image.digest
    for digest in image.blobs:
        assert fetch(f"{base}/blobs/{digest}").digest == digest


def is_kept(mirror: RunningMirror, digest: str) -> bool:
    return content(mirror, digest).exists()


def content(mirror: RunningMirror, digest: str) -> Path:
    algorithm, _, hexadecimal = digest.partition(":")
    return mirror.data / "content" / algorithm / hexadecimal[:2] / hexadecimal


def is_whole(mirror: RunningMirror, image: Image) -> bool:
    return all(is_kept(mirror, digest) for digest in (image.digest, *image.blobs))


def wait_for_eviction(mirror: RunningMirror, image: Image) -> None:
    wait_for(lambda: not is_kept(mirror, image.digest), timeout_s=15.0, what="an eviction")


def test_the_least_recently_used_leaves_and_what_must_stay_stays(mirror: RunningMirror) -> None:
    for name in ("pinned", "mounted", "stale", "used"):
        pull(mirror, name)
    mirror.cli("pin", "docker.io/library/pinned:1")
    query = urlencode({"mount": MOUNTED.layers[0], "from": "docker.io/library/mounted"})
    assert fetch(f"{mirror.base_url}/v2/team/app/blobs/uploads/?{query}", method="POST").status == 201
    Pusher(base_url=mirror.base_url).push(images.opaque([3 * MIB], seed="pushed"), "team/app", "1")
    time.sleep(0.1)
    for digest in USED.blobs:
        fetch(f"{mirror.base_url}/v2/docker.io/library/used/blobs/{digest}")
    before = mirror.metrics()
    assert before["hunqi_mirror_pushed_bytes"] > 4 * MIB, "three and a mount, whose bytes do not count any more"
    assert before["hunqi_mirror_cached_bytes"] < 3.1 * MIB
    pull(mirror, "new")
    pull(mirror, "newer")
    wait_for_eviction(mirror, STALE)
    wait_for(lambda: not is_kept(mirror, STALE.layers[0]), timeout_s=15.0, what="the blobs after the manifest")
    for image in (PINNED, NEW, NEWER):
        assert is_whole(mirror, image)
    assert is_kept(mirror, USED.layers[0])
    assert is_kept(mirror, MOUNTED.layers[0])
    evicted = "hunqi_mirror_evicted_bytes_total"
    wait_for(lambda: mirror.metrics()[evicted] >= MIB, timeout_s=10.0, what="the count at the end of the pass")
    assert mirror.metrics()["hunqi_mirror_cached_bytes"] <= 4.2 * MIB
    pull(mirror, "stale")


def test_what_is_being_read_stays(mirror: RunningMirror) -> None:
    pull(mirror, "stale")
    mirror.cli("pin", "docker.io/library/stale:1")
    with reader(mirror, f"/v2/docker.io/library/big/blobs/{BIG.layers[0]}") as response:
        first = response.read(1000)
        wait_for(lambda: is_kept(mirror, BIG.layers[0]), timeout_s=15.0, what="the whole blob, over the limit alone")
        time.sleep(5.0)  # two passes
        assert is_kept(mirror, BIG.layers[0])
        assert sha256(first + response.read()).hexdigest() == BIG.layers[0].partition(":")[2]
    wait_for(lambda: not is_kept(mirror, BIG.layers[0]), timeout_s=15.0, what="its eviction after the last reader")


def test_parts_of_downloads_count(mirror: RunningMirror, world: RealRegistry) -> None:
    pull(mirror, "stale")
    world.wire.set_link(pace_bytes_s=2 * MIB)
    try:
        with reader(mirror, f"/v2/docker.io/library/big/blobs/{BIG.layers[0]}"):
            wait_for_eviction(mirror, STALE)
            assert mirror.metrics()["hunqi_mirror_part_bytes"] > 0
    finally:
        world.wire.set_link()


@contextmanager
def reader(mirror: RunningMirror, path: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(mirror.host, timeout=30.0)
    try:
        connection.request("GET", path)
        yield connection.getresponse()
    finally:
        connection.close()
