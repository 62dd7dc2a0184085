"""Images carried in archives between mirrors and other tools, to a machine that reaches no upstream."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.docker import Toolbox, toolbox
from testbed.images import Pusher
from testbed.mirror import RunningMirror
from testbed.programs import ProcessFailedError, run
from testbed.registry import RealRegistry, real_registry

pytestmark = pytest.mark.real
MULTI = images.multi_platform(seed="archives")["index"]
SINGLE = images.layered([80_000], seed="archives")
NOWHERE = {"docker.io": "http://127.0.0.1:9"}
MIRRORED, LOCAL = "docker.io/library/multi:1", "team/app:1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("world"), seed={"library/multi:1": MULTI}) as registry:
        yield registry


@pytest.fixture(scope="module")
def mainland(tmp_path_factory: pytest.TempPathFactory, world: RealRegistry) -> Iterator[RunningMirror]:
    directory = tmp_path_factory.mktemp("mainland")
    with RunningMirror(directory, upstreams={"docker.io": world.url}, args=["--allow-anonymous-push"]) as mirror:
        mirror.cli("warm", MIRRORED)
        Pusher(base_url=mirror.base_url).push(SINGLE, "team/app", "1")
        sign(mirror)
        yield mirror


@pytest.fixture(scope="module")
def island(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMirror]:
    args = ("--connect-timeout", "1s")
    with RunningMirror(tmp_path_factory.mktemp("island"), upstreams=NOWHERE, args=args) as mirror:
        yield mirror


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    with toolbox(tmp_path_factory.mktemp("tools")) as running:
        yield running


def sign(mirror: RunningMirror) -> None:
    """Push a manifest that refers to the image, as cosign and notation do."""
    config = next(digest for digest in SINGLE.blobs if digest not in SINGLE.layers)
    body = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/x-signature",
        "config": {"mediaType": "application/x-signature", "digest": config, "size": len(SINGLE.blobs[config])},
        "layers": [],
        "subject": {
            "mediaType": SINGLE.root.media_type,
            "digest": SINGLE.digest,
            "size": len(SINGLE.root.data),
        },
    }
    answer = fetch(
        f"{mirror.base_url}/v2/team/app/manifests/sig",
        method="PUT",
        headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
        body=json.dumps(body).encode(),
    )
    assert answer.status == 201, answer.body


def pull(mirror: RunningMirror, name: str, tools: Toolbox, directory: Path) -> dict[str, bytes]:
    tools.skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{mirror.host}/{name}", f"dir:{directory}")
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def manifest(mirror: RunningMirror, name: str) -> Answer:
    repository, _, tag = name.rpartition(":")
    return fetch(f"{mirror.base_url}/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST_TYPES})


def ask(mirror: RunningMirror, *args: str) -> Any:
    return mirror.cli_json(*args)


def test_an_island_serves_what_an_archive_brought(
    mainland: RunningMirror, island: RunningMirror, tools: Toolbox, tmp_path: Path
) -> None:
    archive = str(tmp_path / "both.tar")
    ask(mainland, "export", MIRRORED, LOCAL, "-o", archive)
    told = ask(island, "import", archive)["images"]
    assert [(one["image"], one["visibility"]) for one in told[:2]] == [(MIRRORED, "public"), (LOCAL, "local")]
    files = pull(island, MIRRORED, tools, tmp_path / "multi")
    for digest, data in MULTI.blobs.items():
        assert files[digest.partition(":")[2]] == data
    assert manifest(island, MIRRORED).digest == MULTI.digest
    assert manifest(island, LOCAL).digest == SINGLE.digest
    referrers = fetch(f"{island.base_url}/v2/team/app/referrers/{SINGLE.digest}")
    assert [one["artifactType"] for one in json.loads(referrers.body)["manifests"]] == ["application/x-signature"]
    rows = {row["name"]: row["kind"] for row in ask(island, "ls")["repositories"]}
    assert (rows["docker.io/library/multi"], rows["team/app"]) == ("mirrored", "local")


def test_an_archive_is_read_by_skopeo_umoci_and_podman(mainland: RunningMirror, tools: Toolbox, tmp_path: Path) -> None:
    archive = tmp_path / "multi.tar"
    ask(mainland, "export", MIRRORED, "-o", str(archive))
    tools.skopeo("copy", "--all", f"oci-archive:{archive}:1", f"dir:{tmp_path / 'copied'}")
    assert (tmp_path / "copied" / "manifest.json").read_bytes() == MULTI.root.data
    layout = tmp_path / "layout"
    with tarfile.open(archive) as tar:
        tar.extractall(layout, filter="data")
    assert run(["umoci", "ls", "--layout", str(layout)]).stdout.split() == ["1"]
    image_id = tools.podman("pull", f"oci-archive:{archive}").stdout.split()[-1]
    assert tools.podman("image", "exists", image_id, check=False).returncode == 0


def test_two_images_with_one_tag_are_told_apart(mainland: RunningMirror, tools: Toolbox, tmp_path: Path) -> None:
    archive = tmp_path / "both.tar"
    ask(mainland, "export", MIRRORED, LOCAL, "-o", str(archive))
    tools.skopeo("copy", f"oci-archive:{archive}:{LOCAL}", f"dir:{tmp_path / 'copied'}")
    assert (tmp_path / "copied" / "manifest.json").read_bytes() == SINGLE.root.data


def test_as_says_name_and_tag(mainland: RunningMirror, tmp_path: Path) -> None:
    archive = str(tmp_path / "one.tar")
    ask(mainland, "export", LOCAL, "-o", archive)
    assert ask(mainland, "import", archive, "--as", "team/renamed:7")["images"][0]["image"] == "team/renamed:7"
    assert ask(mainland, "import", archive, "--as", "team/kept")["images"][0]["image"] == "team/kept:1"
    assert "7" in [row["tag"] for row in ask(mainland, "ls", "team/renamed")["tags"]]
    referrers = fetch(f"{mainland.base_url}/v2/team/renamed/referrers/{SINGLE.digest}")
    assert len(json.loads(referrers.body)["manifests"]) == 1


def test_an_archive_of_another_tool_needs_a_name_and_then_works(
    mainland: RunningMirror, island: RunningMirror, tools: Toolbox, tmp_path: Path
) -> None:
    archive = tmp_path / "skopeo.tar"
    source = f"docker://{mainland.host}/{LOCAL}"
    tools.skopeo("copy", "--src-tls-verify=false", source, f"oci-archive:{archive}")
    with pytest.raises(ProcessFailedError, match="--as NAME:TAG"):
        island.cli("import", str(archive))
    assert ask(island, "import", str(archive), "--as", "tools/app:2")["images"][0]["image"] == "tools/app:2"
    assert manifest(island, "tools/app:2").digest == SINGLE.digest


def test_a_private_image_stays_private_on_the_island(
    mainland: RunningMirror, island: RunningMirror, tmp_path: Path
) -> None:
    archive = str(tmp_path / "private.tar")
    ask(mainland, "export", LOCAL, "-o", archive)
    told = ask(island, "import", archive, "--as", "docker.io/corp/app:1", "--private")["images"]
    assert told[0]["visibility"] == "private"
    assert manifest(island, "docker.io/corp/app:1").status in (401, 403)
    marked = str(tmp_path / "marked.tar")
    ask(island, "export", "docker.io/corp/app:1", "-o", marked)
    with tarfile.open(marked) as tar:
        index = json.loads((tar.extractfile("index.json") or io.BytesIO()).read())
    assert index["manifests"][0]["annotations"]["hunqi.visibility"] == "private"


@pytest.mark.parametrize("name", ["library/app:1", "quay.io/x/app:1", "team/app@sha256:" + "0" * 64, "Team:1"])
def test_a_name_that_cannot_be_is_refused_with_the_reason(mainland: RunningMirror, tmp_path: Path, name: str) -> None:
    archive = str(tmp_path / "one.tar")
    ask(mainland, "export", LOCAL, "-o", archive)
    with pytest.raises(ProcessFailedError, match="error:"):
        mainland.cli("import", archive, "--as", name)
