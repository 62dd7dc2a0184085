"""Pulling what was pushed: ranges, conditions, HEAD and errors, over real HTTP, from a whole mirror."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import support_conformance
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_MANIFEST
from support_conformance import MIRROR, THEIRS, Subject, running
from support_push import Client, image_manifest

BLOB = random.Random(5).randbytes(2000)
DOCKER_REGISTRY_DEVIATES = {"beyond_the_end": "its 416 promises the length of the blob"}

subject = support_conformance.subject
client = support_conformance.client
repo = support_conformance.repo


@pytest.fixture(scope="module", params=[MIRROR, THEIRS])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """Only registries that pull by their own code."""
    with running(request.param, tmp_path_factory.mktemp(request.param)) as subject:
        yield subject


def test_the_version_check(client: Client) -> None:
    reply = client.ask("GET", "/v2/")
    assert (reply.status, reply["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("500-1499", 500, 1499),
        ("500-", 500, 1999),
        ("-500", 1500, 1999),
        ("0-0", 0, 0),
        ("1999-1999", 1999, 1999),
        ("500-99999", 500, 1999),
    ],
)
def test_a_range_of_a_blob(client: Client, repo: str, asked: str, first: int, last: int) -> None:
    digest = client.push_blob(repo, BLOB)
    reply = client.ask("GET", f"/v2/{repo}/blobs/{digest}", Range=f"bytes={asked}")
    assert (reply.status, reply.body) == (206, BLOB[first : last + 1])
    assert reply["Content-Range"] == f"bytes {first}-{last}/2000"
    assert reply["Content-Length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", ["2000-", "99999-100000"])
def test_a_range_beyond_the_end_is_416(client: Client, repo: str, asked: str) -> None:
    digest = client.push_blob(repo, BLOB)
    assert client.ask("GET", f"/v2/{repo}/blobs/{digest}", Range=f"bytes={asked}").status == 416


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_is_whole_with_its_length_and_digest(subject: Subject, repo: str, algorithm) -> None:
    if not subject.ours and algorithm == "sha512":
        pytest.skip("docker-registry loses sha512")
    digest = subject.client.push_blob(repo, BLOB, algorithm)
    for method in ("GET", "HEAD"):
        reply = subject.client.ask(method, f"/v2/{repo}/blobs/{digest}", Accept_Encoding="zstd, gzip, deflate")
        assert (reply.status, reply["Content-Length"]) == (200, "2000")
        assert reply["Docker-Content-Digest"] == str(digest)
        assert reply["Content-Encoding"] is None
        assert reply["Transfer-Encoding"] is None
        assert reply.body == (BLOB if method == "GET" else b"")


def test_unknown_things_are_404_with_their_code(client: Client, repo: str) -> None:
    client.push_blob(repo, BLOB)
    digest = Digest.of(b"never pushed")
    for path, code in (
        (f"/v2/{repo}/blobs/{digest}", "BLOB_UNKNOWN"),
        (f"/v2/{repo}/manifests/{digest}", "MANIFEST_UNKNOWN"),
        (f"/v2/{repo}/manifests/nothing", "MANIFEST_UNKNOWN"),
    ):
        reply = client.ask("GET", path)
        assert (reply.status, reply.code) == (404, code)
        assert client.ask("HEAD", path).status == 404


def test_a_manifest_that_is_known_is_not_sent_again(client: Client, repo: str) -> None:
    client.push_blob(repo, BLOB)
    data, _ = image_manifest(BLOB, [])
    assert client.put_manifest(repo, "latest", data).status == 201
    for reference in ("latest", Digest.of(data)):
        path = f"/v2/{repo}/manifests/{reference}"
        etag = client.ask("GET", path, Accept=OCI_MANIFEST)["ETag"]
        assert etag
        reply = client.ask("GET", path, Accept=OCI_MANIFEST, If_None_Match=etag)
        assert (reply.status, reply.body) == (304, b"")


def test_a_pushed_tag_is_seen_at_once_by_every_worker(client: Client, repo: str) -> None:
    client.push_blob(repo, BLOB)
    for number in range(20):
        data, _ = image_manifest(BLOB, [], annotations={"n": str(number)})
        assert client.put_manifest(repo, "moving", data).status == 201
        for _ in range(4):
            reply = client.ask("GET", f"/v2/{repo}/manifests/moving", Accept=OCI_MANIFEST)
            assert reply["Docker-Content-Digest"] == str(Digest.of(data))
