"""skopeo, podman and buildah through the mirror: pulls by name and by ``registries.conf``, pushes, whole copies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from testbed import images
from testbed.docker import Toolbox, toolbox
from testbed.mirror import RunningMirror
from testbed.programs import ProcessFailedError
from testbed.registry import RealRegistry, real_registry
from testbed.server import Server

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("tools")]
TINY = images.runnable(seed="tools")
MULTI = images.multi_platform(seed="tools", dialect=images.Dialect.DOCKER)
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
    }
    with real_registry(tmp_path_factory.mktemp("world"), seed=seed) as registry:
        yield registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, world: RealRegistry) -> Iterator[RunningMirror]:
    directory = tmp_path_factory.mktemp("mirror")
    args = ["--allow-anonymous-push"]
    with RunningMirror(directory, upstreams={"docker.io": world.url}, args=args) as running:
        yield running


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    with toolbox(tmp_path_factory.mktemp("tools")) as running:
        yield running


@pytest.fixture
def tools(box: Toolbox, world: RealRegistry) -> Toolbox:
    box.forget_images()
    world.wire.forget()
    return box


def raw_digest(tools: Toolbox, reference: str) -> str:
    raw = tools.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}").stdout
    return images.digest_of(raw.encode())


def test_podman_pulls_by_name_and_again_for_nothing(tools: Toolbox, mirror: RunningMirror, world: RealRegistry) -> None:
    name = f"{mirror.host}/docker.io/library/tiny:latest"
    tools.podman("pull", "--tls-verify=false", name)
    assert json.loads(tools.podman("image", "inspect", name).stdout)[0]["Digest"] == TINY.digest
    tools.forget_images()
    world.wire.forget()
    tools.podman("pull", "--tls-verify=false", name)
    assert world.wire.sent_bytes("/blobs/") == 0


def test_podman_pulls_by_registries_conf(tools: Toolbox, mirror: RunningMirror, tmp_path: Path) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(
        '[[registry]]\nlocation = "docker.io"\n'
        f'[[registry.mirror]]\nlocation = "{mirror.host}/docker.io"\ninsecure = true\n'
    )
    box = replace(tools, env={**tools.env, "CONTAINERS_REGISTRIES_CONF": str(conf)})
    box.podman("pull", "docker.io/library/tiny:latest")


def test_podman_unpacks_zstd_layers(tools: Toolbox, mirror: RunningMirror) -> None:
    tools.podman("pull", "--tls-verify=false", f"{mirror.host}/docker.io/library/zstd:latest")


def test_skopeo_copies_every_platform_byte_for_byte(tools: Toolbox, mirror: RunningMirror, tmp_path: Path) -> None:
    source = f"{mirror.host}/docker.io/library/multi:latest"
    assert raw_digest(tools, source) == MULTI["index"].digest
    target = tmp_path / "copy"
    tools.skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{source}", f"dir:{target}")
    for digest in (*MULTI["index"].layers, *(part.digest for part in MULTI["index"].manifests[:-1])):
        name = digest.partition(":")[2]
        assert (target / name).exists() or (target / f"{name}.manifest.json").exists()


def test_skopeo_fetches_foreign_layers_from_where_they_are(
    tools: Toolbox, mirror: RunningMirror, elsewhere: Server, tmp_path: Path
) -> None:
    source = f"docker://{mirror.host}/docker.io/library/foreign:latest"
    tools.skopeo("copy", "--src-tls-verify=false", source, f"dir:{tmp_path / 'copy'}")
    assert elsewhere.requests("GET")


def test_skopeo_pushes_every_platform_to_a_local_namespace(
    tools: Toolbox, mirror: RunningMirror, tmp_path: Path
) -> None:
    images.write_layout(MULTI["index"], tmp_path / "layout")
    target = f"{mirror.host}/team/multi:1"
    tools.skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}", f"docker://{target}")
    assert raw_digest(tools, target) == MULTI["index"].digest
    tags = json.loads(tools.skopeo("list-tags", "--tls-verify=false", f"docker://{mirror.host}/team/multi").stdout)
    assert tags["Tags"] == ["1"]
    tools.skopeo("delete", "--tls-verify=false", f"docker://{target}")
    with pytest.raises(ProcessFailedError, match="unknown"):
        raw_digest(tools, target)


def test_buildah_builds_on_a_mirrored_base_and_pushes(
    tools: Toolbox, mirror: RunningMirror, world: RealRegistry, tmp_path: Path
) -> None:
    base, target = f"{mirror.host}/docker.io/library/tiny:latest", f"{mirror.host}/team/built:1"
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nRUN echo built > /built\n")
    build = ["--tls-verify=false", "--isolation", "chroot", "--layers=false"]
    tools.buildah("bud", *build, "-t", target, str(tmp_path))
    tools.buildah("push", "--tls-verify=false", target, f"docker://{target}")
    tools.forget_images()
    world.wire.forget()
    tools.podman("pull", "--tls-verify=false", target)
    assert world.wire.records() == []
