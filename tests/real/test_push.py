"""Real clients that push to the whole mirror, with an upstream that would not hear of those names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_push import Client
from testbed import images
from testbed.client import MANIFEST_TYPES, fetch
from testbed.docker import Toolbox, toolbox
from testbed.mirror import RunningMirror
from testbed.programs import ProcessFailedError
from testbed.registry import Auth, RealRegistry, real_registry

pytestmark = pytest.mark.real
IMAGE = images.runnable(seed="push")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    seed = {"library/base:1": IMAGE}
    with real_registry(tmp_path_factory.mktemp("world"), auth=Auth.BEARER, public=("library/base",), seed=seed) as one:
        yield one


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    with toolbox(tmp_path_factory.mktemp("tools")) as running:
        yield running


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, world: RealRegistry) -> Iterator[RunningMirror]:
    directory = tmp_path_factory.mktemp("mirror")
    with RunningMirror(directory, upstreams={"docker.io": world.url}, args=["--allow-anonymous-push"]) as running:
        yield running


def test_a_first_push_makes_a_name_local_whatever_the_upstream_says_of_it(
    mirror: RunningMirror, tools: Toolbox, world: RealRegistry, tmp_path: Path
) -> None:
    """Docker Hub refuses strangers a repository that does not exist, and clients ask for its blobs before they push."""
    layout = images.write_layout(IMAGE, tmp_path / "layout")
    tools.skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{mirror.host}/skopeo/app:1")
    tools.podman("pull", "--tls-verify=false", f"{mirror.host}/docker.io/library/base:1")
    source = f"{mirror.host}/docker.io/library/base:1"
    tools.podman("push", "--tls-verify=false", source, f"docker://{mirror.host}/podman/app:1")
    container = tools.buildah("from", "--tls-verify=false", source).stdout.strip()
    tools.buildah("commit", container, "built")
    tools.buildah("push", "--tls-verify=false", "built", f"docker://{mirror.host}/buildah/app:1")
    world.wire.forget()
    for name in ("skopeo", "podman", "buildah"):
        answer = fetch(f"{mirror.base_url}/v2/{name}/app/manifests/1", headers={"Accept": MANIFEST_TYPES})
        assert answer.status == 200, answer.body
        for layer in json.loads(answer.body)["layers"]:
            assert fetch(f"{mirror.base_url}/v2/{name}/app/blobs/{layer['digest']}").digest == layer["digest"]
    assert world.wire.count(containing="app") == 0, "a local namespace is never asked upstream"


@pytest.mark.parametrize("name", ["library/app", "docker.io/team/app", "quay.example/app", "team/a.b"])
def test_a_name_that_could_be_an_upstreams_is_denied(
    mirror: RunningMirror, tools: Toolbox, tmp_path: Path, name: str
) -> None:
    layout = images.write_layout(IMAGE, tmp_path / "layout")
    with pytest.raises(ProcessFailedError):
        tools.skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{mirror.host}/{name}:1")
    reply = Client(mirror.base_url).ask("POST", f"/v2/{name}/blobs/uploads/")
    assert (reply.status, reply.code) == (403, "DENIED")


def test_a_tag_deleted_by_skopeo_goes_with_its_manifest_and_its_blobs_are_collected(
    mirror: RunningMirror, tools: Toolbox, tmp_path: Path
) -> None:
    layout = images.write_layout(IMAGE, tmp_path / "layout")
    target = f"docker://{mirror.host}/gone/app:1"
    tools.skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:latest", target)
    tools.skopeo("delete", "--tls-verify=false", target)
    assert fetch(f"{mirror.base_url}/v2/gone/app/manifests/1").status == 404
    assert fetch(f"{mirror.base_url}/v2/gone/app/manifests/{IMAGE.digest}").status == 404
