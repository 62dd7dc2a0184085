"""Local repositories of a cluster: whatever node was pushed to, every node has it, and no acknowledged push is lost."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support_resolve import small_disk
from testbed import images
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.cluster import Cluster, cluster
from testbed.docker import Toolbox, toolbox
from testbed.mirror import RunningMirror
from testbed.registry import real_registry

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("peers")]
OPEN = ("--allow-anonymous-push",)
ACCEPT = {"Accept": MANIFEST_TYPES}


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An upstream that has nothing."""
    with real_registry(tmp_path_factory.mktemp("world")) as world:
        yield {"docker.io": world.url}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, upstreams: dict[str, str]) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("three"), count=3, upstreams=upstreams, args=OPEN) as running:
        yield running


@pytest.fixture
def repo(request: pytest.FixtureRequest) -> str:
    """Return a local repository of this test's own."""
    return f"team/{re.sub('[^a-z0-9]+', '-', request.node.name)[:60].strip('-')}"


def ask(node: RunningMirror, path: str, *, method: str = "GET", body: bytes | None = None) -> Answer:
    return fetch(f"{node.base_url}/v2/{path}", method=method, headers=ACCEPT, body=body)


def holders(nodes: Sequence[RunningMirror], digest: str) -> list[RunningMirror]:
    """Return the nodes that have the bytes on their disk."""
    return [node for node in nodes if (node.data / "content" / "sha256" / digest[7:9] / digest[7:]).exists()]


def test_a_push_is_on_two_nodes_when_it_is_acknowledged_and_every_node_serves_it(three: Cluster, repo: str) -> None:
    for number, node in enumerate(three.nodes):
        image = images.layered([300_000, 200_000], seed=(repo, number))
        images.push(image, node.base_url, repo, f"v{number}")
        for digest in (image.digest, *image.layers):
            found = holders(three.nodes, digest)
            assert len(found) == 2
            assert node in found
        for other in three.nodes:
            answer = ask(other, f"{repo}/manifests/v{number}")
            assert (answer.status, answer.headers["docker-content-digest"]) == (200, image.digest)
            assert ask(other, f"{repo}/manifests/{image.digest}").body == image.root.data
            for digest in image.layers:
                assert ask(other, f"{repo}/blobs/{digest}").digest == digest


def test_a_tag_that_moved_is_moved_for_every_node_at_once(three: Cluster, repo: str) -> None:
    for number in range(5):
        image = images.layered([1000], seed=(repo, number))
        images.push(image, three.nodes[number % 3].base_url, repo, "latest")
        for node in three.nodes:
            for method in ("GET", "HEAD"):
                assert ask(node, f"{repo}/manifests/latest", method=method).headers["docker-content-digest"] == (
                    image.digest
                )


@pytest.mark.parametrize("what", ["tag", "manifest", "blob"])
def test_what_is_deleted_at_any_node_is_gone_at_all(three: Cluster, repo: str, what: str) -> None:
    image = images.layered([1000], seed=repo)
    images.push(image, three.nodes[0].base_url, repo)
    path = {
        "tag": f"{repo}/manifests/latest",
        "manifest": f"{repo}/manifests/{image.digest}",
        "blob": f"{repo}/blobs/{image.layers[0]}",
    }[what]
    without = next(node for node in three.nodes if node not in holders(three.nodes, image.digest))
    assert ask(without, path, method="DELETE").status == 202
    for node in three.nodes:
        assert ask(node, path).status == 404
        assert ask(node, path, method="HEAD").status == 404
        assert ask(node, path, method="DELETE").status == 404


def test_what_nobody_has_is_404_at_every_node(three: Cluster, repo: str) -> None:
    images.push(images.layered([1000], seed=repo), three.nodes[0].base_url, repo)
    for node in three.nodes:
        assert ask(node, f"{repo}/manifests/none").status == 404
        assert ask(node, f"{repo}/blobs/{images.digest_of(b'none')}").status == 404
        assert ask(node, f"{repo}/blobs/{images.digest_of(b'none')}", method="HEAD").status == 404


def test_a_blob_of_another_repository_is_not_found_through_a_peer(three: Cluster, repo: str) -> None:
    image = images.layered([1000], seed=repo)
    images.push(image, three.nodes[0].base_url, repo)
    images.push(images.layered([1000], seed=(repo, "other")), three.nodes[0].base_url, f"{repo}/other")
    for node in three.nodes:
        assert ask(node, f"{repo}/other/blobs/{image.layers[0]}").status == 404


def test_tags_of_all_nodes_are_one_list_without_a_gap(three: Cluster, repo: str) -> None:
    names = [f"t{number:02}" for number in range(9)]
    for number, name in enumerate(names):
        images.push(images.layered([500], seed=(repo, number)), three.nodes[number % 3].base_url, repo, name)
    for node in three.nodes:
        assert json.loads(ask(node, f"{repo}/tags/list").body) == {"name": repo, "tags": names}
        for size in (1, 2, 4, 9):
            found, path = [], f"{repo}/tags/list?n={size}"
            while path:
                answer = ask(node, path)
                page = json.loads(answer.body)["tags"]
                assert len(page) <= size
                found += page
                path = answer.headers.get("link", "").partition("</v2/")[2].partition(">")[0]
            assert found == names
        assert ask(node, f"{repo}/none/tags/list").status == 404


def test_referrers_of_all_nodes_are_one_list(three: Cluster, repo: str) -> None:
    image = images.layered([500], seed=repo)
    images.push(image, three.nodes[0].base_url, repo)
    digests: set[str] = set()
    for number, node in enumerate(three.nodes):
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": f"application/vnd.test.{number % 2}",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": image.layers[0], "size": 1},
            "layers": [],
            "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest, "size": 1},
            "annotations": {"number": str(number)},
        }
        data = json.dumps(manifest).encode()
        digest = images.digest_of(data)
        assert ask(node, f"{repo}/manifests/{digest}", method="PUT", body=data).status == 201
        digests.add(digest)
    for node in three.nodes:
        listed = json.loads(ask(node, f"{repo}/referrers/{image.digest}").body)["manifests"]
        assert {one["digest"] for one in listed} == digests
        answer = ask(node, f"{repo}/referrers/{image.digest}?artifactType=application/vnd.test.0")
        assert len(json.loads(answer.body)["manifests"]) == 2
        assert answer.headers["oci-filters-applied"] == "artifactType"


def test_a_manifest_may_name_what_only_other_nodes_hold(three: Cluster, repo: str) -> None:
    image = images.index_of({"linux/amd64": images.layered([2000], seed=repo)})
    images.push(image, three.nodes[0].base_url, repo)
    for node in three.nodes:
        again = image.root.data + b" "
        digest = images.digest_of(again)
        answer = fetch(
            f"{node.base_url}/v2/{repo}/manifests/{digest}",
            method="PUT",
            body=again,
            headers={"Content-Type": image.root.media_type},
        )
        assert answer.status == 201, answer.body


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    with toolbox(tmp_path_factory.mktemp("tools")) as running:
        yield running


def test_skopeo_pushes_to_one_node_and_pulls_from_another(three: Cluster, repo: str, tmp_path: Path) -> None:
    image = images.layered([400_000, 300_000], seed=repo)
    layout = images.write_layout(image, tmp_path / "in")
    for command in (
        [
            "skopeo",
            "copy",
            "--dest-tls-verify=false",
            f"oci:{layout}:latest",
            f"docker://{three.nodes[0].host}/{repo}:a",
        ],
        [
            "skopeo",
            "copy",
            "--src-tls-verify=false",
            f"docker://{three.nodes[2].host}/{repo}:a",
            f"oci:{tmp_path}/out:a",
        ],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    stored = tmp_path / "out" / "blobs" / "sha256"
    assert {path.name for path in stored.iterdir()} >= {digest[7:] for digest in image.layers}


def test_a_node_that_was_away_learns_what_moved_and_what_was_founded(tmp_path: Path, upstreams: dict[str, str]) -> None:
    with cluster(tmp_path, count=3, upstreams=upstreams, args=OPEN) as three:
        old, new, other = (images.layered([1000], seed=("away", number)) for number in range(3))
        first = three.nodes[0]
        images.push(old, first.base_url, "team/app")
        away = next(node for node in three.nodes[1:] if node in holders(three.nodes, old.digest))
        staying = next(node for node in three.nodes[1:] if node is not away)
        away.stop()
        three.wait_for_peers(first, 1)
        images.push(new, first.base_url, "team/app")
        images.push(other, staying.base_url, "founded/meanwhile")
        assert len(holders([first, staying], new.digest)) == 2
        away.start()
        three.wait_for_peers(first, 2)
        three.wait_for_peers(staying, 2)
        three.wait_for_peers(away, 2)
        assert ask(away, "team/app/manifests/latest").headers["docker-content-digest"] == new.digest
        assert ask(away, "founded/meanwhile/manifests/latest").headers["docker-content-digest"] == other.digest


def test_one_node_alone_acknowledges_and_a_killed_one_loses_nothing(tmp_path: Path, upstreams: dict[str, str]) -> None:
    with cluster(tmp_path, count=3, upstreams=upstreams, args=OPEN) as three:
        first, second, third = three.nodes
        pushed = [images.layered([50_000], seed=("killed", number)) for number in range(4)]
        for image in pushed:
            images.push(image, first.base_url, "team/kept", image.digest[7:15])
        first.kill_all()
        for image in pushed:
            for node in (second, third):
                assert ask(node, f"team/kept/manifests/{image.digest[7:15]}").status == 200
                assert ask(node, f"team/kept/blobs/{image.layers[0]}").digest == image.layers[0]
        after = images.layered([50_000], seed="after")
        images.push(after, second.base_url, "team/kept", "after")
        assert holders([second, third], after.digest) == [second, third]
        third.kill_all()
        three.wait_for_peers(second, 0)
        alone = images.layered([50_000], seed="alone")
        images.push(alone, second.base_url, "team/kept", "alone")
        assert ask(second, "team/kept/manifests/alone").status == 200


def test_a_push_that_no_second_live_node_can_take_is_not_acknowledged(
    tmp_path: Path, upstreams: dict[str, str]
) -> None:
    small = tmp_path / "n1" / "data"
    small.parent.mkdir()
    with (
        small_disk(small, size_bytes=12 * images.MIB),
        cluster(tmp_path, count=2, upstreams=upstreams, args=OPEN) as two,
    ):
        first, full = two.nodes
        fits, large = (images.opaque([size], seed=("full", size)) for size in (1000, 32 * images.MIB))
        images.push(fits, first.base_url, "team/full", "fits")
        with pytest.raises(images.PushError, match=r"503.*no second node could take"):
            images.push(large, first.base_url, "team/full", "large")
        assert ask(first, "team/full/manifests/large").status == 404
        assert ask(full, "team/full/manifests/fits").status == 200
        full.kill_all()
        two.wait_for_peers(first, 0)
        images.push(large, first.base_url, "team/full", "large")
        assert ask(first, "team/full/manifests/large").status == 200
