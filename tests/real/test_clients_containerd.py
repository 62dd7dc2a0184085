"""containerd through the mirror: ``hosts.toml`` for each registry, ``?ns=``, all platforms, zstd and foreign layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed import images
from testbed.docker import Containerd, containerd
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry, real_registry
from testbed.server import Server

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("containerd")]
TINY = images.runnable(seed="ctr")
QUAY = images.runnable(seed="quay")
MULTI = images.multi_platform(seed="ctr")
SHARING = images.sharing(3, seed="ctr")
ZSTD = images.compose(
    [images.busybox_layer(), images.zstd_layer(images.tar_of({"opt/z": images.random_bytes(500_000, seed="z")}))]
)
FOREIGN_LAYER = images.payload_layer(200_000, seed="foreign")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Server]:
    with Server(lambda exchange: exchange.reply(200, FOREIGN_LAYER.data)) as server:
        yield server


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, elsewhere: Server) -> Iterator[RealRegistry]:
    foreign = images.foreign_layer(FOREIGN_LAYER, urls=[f"{elsewhere.url}/layer"], dialect=images.Dialect.DOCKER)
    seed = {
        "library/tiny:latest": TINY,
        "library/multi:latest": MULTI["index"],
        "library/zstd:latest": ZSTD,
        "library/foreign:latest": images.compose(
            [images.busybox_layer(), foreign], dialect=images.Dialect.DOCKER, label="foreign"
        ),
        **{f"acme/app{number}:latest": image for number, image in enumerate(SHARING)},
    }
    with real_registry(tmp_path_factory.mktemp("world"), seed=seed) as registry:
        yield registry


@pytest.fixture(scope="module")
def quay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("quay"), seed={"library/tiny:latest": QUAY}) as registry:
        yield registry


@pytest.fixture(scope="module")
def mirror(
    tmp_path_factory: pytest.TempPathFactory, world: RealRegistry, quay: RealRegistry
) -> Iterator[RunningMirror]:
    upstreams = {"docker.io": world.url, "quay.io": quay.url}
    with RunningMirror(tmp_path_factory.mktemp("mirror"), upstreams=upstreams) as running:
        yield running


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, mirror: RunningMirror) -> Iterator[Containerd]:
    with containerd(tmp_path_factory.mktemp("containerd")) as running:
        host = f'[host."{mirror.base_url}"]\n  capabilities = ["pull", "resolve"]\n'
        running.write_hosts("_default", host)
        running.write_hosts("docker.io", f'server = "https://registry-1.docker.io"\n{host}')
        yield running


@pytest.fixture
def ctr(engine: Containerd, world: RealRegistry, quay: RealRegistry) -> Containerd:
    engine.remove_images()
    world.wire.forget()
    quay.wire.forget()
    return engine


def image_digest(ctr: Containerd, reference: str) -> str:
    lines = [line.split() for line in ctr("images", "ls").stdout.splitlines()]
    return next(words[2] for words in lines if words[0] == reference)


def test_a_pull_by_hosts_toml_and_a_second_one_for_nothing(ctr: Containerd, world: RealRegistry) -> None:
    ctr.pull("docker.io/library/tiny:latest")
    assert image_digest(ctr, "docker.io/library/tiny:latest") == TINY.digest
    ctr.remove_images()
    world.wire.forget()
    ctr.pull("docker.io/library/tiny:latest")
    assert world.wire.sent_bytes("/blobs/") == 0


def test_one_default_host_serves_every_registry_by_ns(ctr: Containerd, world: RealRegistry, quay: RealRegistry) -> None:
    ctr.pull("quay.io/library/tiny:latest")
    assert image_digest(ctr, "quay.io/library/tiny:latest") == QUAY.digest
    assert quay.wire.sent_bytes("/blobs/") > 0
    assert world.wire.records() == []


def test_an_unknown_registry_is_refused_and_never_dialled(ctr: Containerd, quay: RealRegistry) -> None:
    ctr.pull(f"{quay.host}/library/tiny:latest")  # by containerd's own fallback to the origin
    assert [record for record in quay.wire.records() if "hunqi" in record.headers.get("user-agent", "").lower()] == []


def test_all_platforms_are_pulled_with_their_digests(ctr: Containerd) -> None:
    ctr.pull("docker.io/library/multi:latest", "--all-platforms")
    held = set(ctr("content", "ls", "-q").stdout.split())
    assert {manifest.digest for manifest in MULTI["index"].manifests} <= held
    assert set(MULTI["index"].layers) <= held


def test_shared_layers_leave_the_upstream_once(ctr: Containerd, world: RealRegistry) -> None:
    for number in range(len(SHARING)):
        ctr.pull(f"docker.io/acme/app{number}:latest")
        ctr.remove_images()
    for image in SHARING:
        for digest in image.layers[1:]:
            assert world.wire.sent_bytes(digest) == len(image.blobs[digest])


def test_zstd_layers_pass_unchanged(ctr: Containerd) -> None:
    ctr.pull("docker.io/library/zstd:latest")
    assert set(ZSTD.layers) <= set(ctr("content", "ls", "-q").stdout.split())


def test_foreign_layers_come_from_where_they_are(ctr: Containerd, elsewhere: Server, world: RealRegistry) -> None:
    ctr.pull("docker.io/library/foreign:latest")
    assert FOREIGN_LAYER.digest in ctr("content", "ls", "-q").stdout.split()
    assert elsewhere.requests("GET")
    assert world.wire.count("GET", FOREIGN_LAYER.digest) == 0
