"""The testbed's images are real and repeatable."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from testbed import images
from testbed.programs import MissingProgramError, find_program, run

pytestmark = pytest.mark.real


@pytest.mark.parametrize("dialect", images.Dialect)
def test_same_seed_makes_the_same_image(dialect: images.Dialect) -> None:
    first, again = (images.runnable(seed=7, dialect=dialect) for _ in range(2))
    assert first.digest == again.digest
    assert first.digest != images.runnable(seed=8, dialect=dialect).digest
    assert first.root.media_type == dialect.manifest


def test_every_descriptor_tells_the_truth() -> None:
    index = images.multi_platform()["index"]
    known = {**index.blobs, **{manifest.digest: manifest.data for manifest in index.manifests}}
    for manifest in index.manifests:
        value = json.loads(manifest.data)
        parts = value.get("manifests") or [*value["layers"], value["config"]]
        for descriptor in parts:
            assert len(known[descriptor["digest"]]) == descriptor["size"]
            assert images.digest_of(known[descriptor["digest"]]) == descriptor["digest"]


def test_layers_unpack_to_their_diff_id() -> None:
    layer = images.payload_layer(100_000, seed=1)
    tar = gzip.decompress(layer.data)
    assert images.digest_of(tar) == layer.diff_id
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert max(member.size for member in archive) == 100_000


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 300_001])
def test_zstd_layer_is_read_by_zstd_itself(size: int, tmp_path: Path) -> None:
    tar = images.random_bytes(size, seed="zstd")
    (tmp_path / "layer.zst").write_bytes(images.zstd_layer(tar).data)
    run(["zstd", "-d", "-q", str(tmp_path / "layer.zst"), "-o", str(tmp_path / "layer")])
    assert (tmp_path / "layer").read_bytes() == tar


def test_sharing_images_have_two_layers_in_common() -> None:
    first, second, third = images.sharing(3, seed=5)
    assert len(set(first.layers) & set(second.layers) & set(third.layers)) == 2
    assert len({first.digest, second.digest, third.digest}) == 3


def test_opaque_layers_have_exactly_the_sizes_asked_for() -> None:
    sizes = [1, 1024, images.MIB + 1]
    image = images.opaque(sizes)
    assert [len(image.blobs[digest]) for digest in image.layers] == sizes


def test_foreign_layer_is_described_and_not_held() -> None:
    layer = images.foreign_layer(
        images.payload_layer(1000, seed=1), urls=["http://127.0.0.1/x"], dialect=images.Dialect.DOCKER
    )
    image = images.compose([layer], dialect=images.Dialect.DOCKER)
    assert layer.digest in image.layers
    assert layer.digest not in image.blobs
    assert json.loads(image.root.data)["layers"][0]["urls"] == ["http://127.0.0.1/x"]


def test_layout_is_read_by_umoci(tmp_path: Path) -> None:
    images.write_layout(images.runnable(), tmp_path / "layout", tag="v1")
    assert "v1" in run(["umoci", "ls", "--layout", str(tmp_path / "layout")]).stdout


def test_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("testbed.programs._PATH", "")
    with pytest.raises(MissingProgramError, match="docker-registry"):
        find_program("docker-registry")
    with pytest.raises(MissingProgramError, match=r"install .* apache2-utils"):
        find_program("htpasswd")
