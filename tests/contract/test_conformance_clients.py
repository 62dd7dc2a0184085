"""Real clients push to our endpoints and pull again: the digests are what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_push import PushServer, push_server
from testbed import images
from testbed.programs import run

pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PushServer]:
    with push_server(tmp_path / "data") as running:
        yield running


def index_digest(layout: Path) -> str:
    """What the layout's only image is."""
    return json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]


@pytest.mark.parametrize("dialect", list(images.Dialect), ids=lambda dialect: dialect.value)
def test_skopeo_copies_every_platform_there_and_back(server: PushServer, tmp_path: Path, dialect) -> None:
    image = images.multi_platform(dialect=dialect)["index"]
    target = f"docker://{server.client.host}/team/multi:v1"
    if dialect is images.Dialect.OCI:
        images.write_layout(image, tmp_path / "layout", tag="latest")
        run(["skopeo", "copy", "--all", "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}:latest", target])
    else:
        images.push(image, server.url, "team/multi", "v1")
    reply = server.client.ask("HEAD", "/v2/team/multi/manifests/v1")
    assert reply["Docker-Content-Digest"] == str(image.digest)
    run(["skopeo", "copy", "--all", "--src-tls-verify=false", target, f"dir:{tmp_path / 'back'}"])
    back = (tmp_path / "back" / "manifest.json").read_bytes()
    assert "sha256:" + hashlib.sha256(back).hexdigest() == str(image.digest)
    run(["skopeo", "copy", "--all", "--dest-tls-verify=false", f"dir:{tmp_path / 'back'}", f"{target}-again"])
    again = server.client.ask("HEAD", "/v2/team/multi/manifests/v1-again")
    assert again["Docker-Content-Digest"] == str(image.digest)
    listed = json.loads(run(["skopeo", "list-tags", "--tls-verify=false", target.rpartition(":")[0]]).stdout)
    assert listed["Tags"] == ["v1", "v1-again"]
    run(["skopeo", "delete", "--tls-verify=false", target])
    assert server.client.ask("HEAD", "/v2/team/multi/manifests/v1").status == 404


def test_buildah_pushes_a_large_layer_and_skopeo_pulls_it(server: PushServer, tmp_path: Path) -> None:
    image = images.layered([6 * images.MIB, 1000])
    images.write_layout(image, tmp_path / "layout", tag="latest")
    storage = ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    name = run(["buildah", *storage, "pull", f"oci:{tmp_path / 'layout'}:latest"], timeout_s=120).stdout.strip()
    digest = tmp_path / "digest"
    target = f"docker://{server.client.host}/team/built:v1"
    run(["buildah", *storage, "push", "--tls-verify=false", "--digestfile", str(digest), name, target], timeout_s=120)
    reply = server.client.ask("HEAD", "/v2/team/built/manifests/v1")
    assert reply["Docker-Content-Digest"] == digest.read_text().strip()
    run(["skopeo", "copy", "--src-tls-verify=false", target, f"dir:{tmp_path / 'back'}"])
    back = (tmp_path / "back" / "manifest.json").read_bytes()
    assert "sha256:" + hashlib.sha256(back).hexdigest() == digest.read_text().strip()
