"""Pushing and deleting manifests: byte for byte, with subjects, in both algorithms, over real HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

import support_conformance
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from support_conformance import Subject
from support_push import Client, describe, image_manifest

registry = support_conformance.registry
subject = support_conformance.subject
client = support_conformance.client
repo = support_conformance.repo

CONFIG = b'{"architecture":"amd64","os":"linux"}'
LAYER = b"a layer" * 500
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
MIB = 1024 * 1024

DOCKER_REGISTRY_DEVIATES = {
    "sha512": "answers with its own sha256 digest, whatever the client's",
    "many_tags": "does not know ?tag=",
    "tag_that_cannot_be": "does not know ?tag=",
    "subject": "does not know OCI-Subject",
    "over_4_mib": "answers 400",
    "deleting_a_tag": "does not delete tags",
    "not_there_is_404[docker-registry-nothing]": "does not delete tags",
    "malformed_digest": "answers 500 to DELETE",
    "no_manifest_is_400[docker-registry-3]": "answers 500 to a document of no schema",
    "no_manifest_is_400[docker-registry-4]": "answers 500 to schema 1",
}


def push_image(client: Client, repo: str, reference: object = "latest", **more: object) -> Digest:
    client.push_blob(repo, CONFIG)
    client.push_blob(repo, LAYER)
    data, _ = image_manifest(CONFIG, [LAYER], **more)
    assert client.put_manifest(repo, reference, data).status == 201
    return Digest.of(data)


def assert_there(client: Client, repo: str, reference: object, data: bytes, media_type: str = OCI_MANIFEST) -> None:
    digest = reference if isinstance(reference, Digest) else Digest.of(data)
    accept = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
    for method in ("GET", "HEAD"):
        reply = client.ask(method, f"/v2/{repo}/manifests/{reference}", Accept=accept)
        assert reply.status == 200
        assert reply["Content-Type"] == media_type
        assert reply["Content-Length"] == str(len(data))
        assert reply["Docker-Content-Digest"] == str(digest)
        assert reply.body == (data if method == "GET" else b"")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_is_kept_byte_for_byte_by_digest(client: Client, repo: str, algorithm: Any) -> None:
    client.push_blob(repo, CONFIG, algorithm)
    client.push_blob(repo, LAYER, algorithm)
    data, _ = image_manifest(CONFIG, [LAYER], algorithm=algorithm)
    data = b"\n " + data.replace(b'"size"', b'"a-new-field": [1, "\xc3\xbc"], "size"') + b"\r\n\t"
    digest = Digest.of(data, algorithm)
    reply = client.put_manifest(repo, digest, data)
    assert reply.status == 201
    assert reply["Docker-Content-Digest"] == str(digest)
    assert client.ask("GET", reply["Location"], Accept=OCI_MANIFEST).body == data
    assert_there(client, repo, digest, data)


def test_a_manifest_by_tag_is_there_by_tag_and_by_digest(client: Client, repo: str) -> None:
    digest = push_image(client, repo, "v1")
    data, _ = image_manifest(CONFIG, [LAYER])
    assert_there(client, repo, "v1", data)
    assert_there(client, repo, digest, data)


def test_a_tag_moves(client: Client, repo: str) -> None:
    first = push_image(client, repo, "latest")
    second = push_image(client, repo, "latest", annotations={"second": "yes"})
    reply = client.ask("HEAD", f"/v2/{repo}/manifests/latest", Accept=OCI_MANIFEST)
    assert reply["Docker-Content-Digest"] == str(second)
    assert client.ask("HEAD", f"/v2/{repo}/manifests/{first}", Accept=OCI_MANIFEST).status == 200


def test_many_tags_in_one_push(client: Client, repo: str) -> None:
    client.push_blob(repo, CONFIG)
    data, _ = image_manifest(CONFIG, [])
    tags = [f"v{number}" for number in range(10)]
    reply = client.put_manifest(repo, Digest.of(data), data, query="?" + "&".join(f"tag={tag}" for tag in tags))
    assert reply.status == 201
    assert reply.headers.get_all("OCI-Tag") == tags
    for tag in tags:
        assert_there(client, repo, tag, data)


@pytest.mark.parametrize("query", ["?tag=.no", "?tag=", "?tag=a/b", "?" + "&".join(f"tag=v{n}" for n in range(200))])
def test_a_tag_that_cannot_be_is_400_and_nothing_is_kept(client: Client, repo: str, query: str) -> None:
    client.push_blob(repo, CONFIG)
    data, _ = image_manifest(CONFIG, [])
    assert client.put_manifest(repo, Digest.of(data), data, query=query).status == 400
    assert client.ask("HEAD", f"/v2/{repo}/manifests/{Digest.of(data)}", Accept=OCI_MANIFEST).status == 404


def test_a_manifest_with_another_digest_is_400(client: Client, repo: str) -> None:
    client.push_blob(repo, CONFIG)
    data, _ = image_manifest(CONFIG, [])
    wrong = Digest.of(b"another")
    reply = client.put_manifest(repo, wrong, data)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert client.ask("HEAD", f"/v2/{repo}/manifests/{wrong}", Accept=OCI_MANIFEST).status == 404


@pytest.mark.parametrize("reference", ["sha256:baddigeststring", "md5:00", "sha256:" + "A" * 64])
def test_a_malformed_digest_is_refused(subject: Subject, repo: str, reference: str) -> None:
    client = subject.client
    data, _ = image_manifest(CONFIG, [])
    expected = {400} if subject.ours else {400, 404}
    assert client.put_manifest(repo, reference, data).status in expected
    for method in ("GET", "HEAD", "DELETE"):
        assert client.ask(method, f"/v2/{repo}/manifests/{reference}", Accept=OCI_MANIFEST).status in {400, 404}


@pytest.mark.parametrize(
    "data", [b"", b"not json", b"[]", b"{}", b'{"schemaVersion":1}', b"\xff\xfe", b"[" * 100_000], ids=range(7)
)
def test_what_is_no_manifest_is_400(client: Client, repo: str, data: bytes) -> None:
    reply = client.put_manifest(repo, "latest", data)
    assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize("media_type", ["text html", "a/b\\u000d\\u000aSet-Cookie: x", "/", "a/" + "b" * 500])
def test_what_is_not_a_media_type_is_400(client: Client, repo: str, media_type: str) -> None:
    data = b'{"schemaVersion":2,"layers":[],"mediaType":"%s"}' % media_type.encode()
    reply = client.put_manifest(repo, "latest", data, "application/json")
    assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")


def test_content_type_and_media_type_must_agree(client: Client, repo: str) -> None:
    client.push_blob(repo, CONFIG)
    data, _ = image_manifest(CONFIG, [])
    assert client.put_manifest(repo, "latest", data, OCI_INDEX).status == 400


def test_parameters_of_the_content_type_are_answered_alike_without(client: Client, repo: str) -> None:
    client.push_blob(repo, CONFIG)
    data, _ = image_manifest(CONFIG, [])
    assert client.put_manifest(repo, "latest", data, f"{OCI_MANIFEST}; charset=utf-8").status == 201
    assert_there(client, repo, "latest", data)


def test_a_manifest_whose_blobs_are_missing_names_them(client: Client, repo: str) -> None:
    client.push_blob(repo, CONFIG)
    missing = b"never pushed to " + repo.encode()
    data, _ = image_manifest(CONFIG, [missing])
    reply = client.put_manifest(repo, "latest", data)
    assert reply.status in {400, 404}
    assert reply.code == "MANIFEST_BLOB_UNKNOWN"
    assert str(Digest.of(missing)) in reply.body.decode()
    assert client.ask("HEAD", f"/v2/{repo}/manifests/latest", Accept=OCI_MANIFEST).status == 404


def test_blobs_of_another_repository_are_missing_in_this_one(client: Client, repo: str) -> None:
    own = CONFIG + repo.encode()
    client.push_blob(f"{repo}/other", own)
    client.push_blob(repo, LAYER)
    data, _ = image_manifest(own, [LAYER])
    assert client.put_manifest(repo, "latest", data).code == "MANIFEST_BLOB_UNKNOWN"


def test_an_index_with_a_missing_child_is_refused(client: Client, repo: str) -> None:
    child, _ = image_manifest(CONFIG, [])
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [describe(child)]}).encode()
    reply = client.put_manifest(repo, "latest", data, OCI_INDEX)
    assert reply.code == "MANIFEST_BLOB_UNKNOWN"


def test_nested_indexes(client: Client, repo: str) -> None:
    push_image(client, repo, "one")
    one, _ = image_manifest(CONFIG, [LAYER])
    inner = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [describe(one)]}).encode()
    assert client.put_manifest(repo, Digest.of(inner), inner, OCI_INDEX).status == 201
    entries = [describe(inner, OCI_INDEX), describe(one)]
    outer = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    assert client.put_manifest(repo, "outer", outer, OCI_INDEX).status == 201
    assert_there(client, repo, "outer", outer, OCI_INDEX)


def test_an_empty_index(client: Client, repo: str) -> None:
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    assert client.put_manifest(repo, "none", data, OCI_INDEX).status == 201
    assert_there(client, repo, "none", data, OCI_INDEX)


def test_docker_schema_2_keeps_its_type(client: Client, repo: str) -> None:
    client.push_blob(repo, CONFIG)
    client.push_blob(repo, LAYER)
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": describe(CONFIG, "application/vnd.docker.container.image.v1+json"),
        "layers": [describe(LAYER, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
    }
    data = json.dumps(document, indent=3).encode()
    assert client.put_manifest(repo, "docker", data, DOCKER_MANIFEST).status == 201
    assert_there(client, repo, "docker", data, DOCKER_MANIFEST)


def test_foreign_layers_need_not_be_pushed(client: Client, repo: str) -> None:
    client.push_blob(repo, CONFIG)
    foreign = describe(b"somewhere else", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    foreign["urls"] = ["https://layers.example/x"]
    data, _ = image_manifest(CONFIG, [])
    document = {**json.loads(data), "layers": [foreign]}
    assert client.put_manifest(repo, "foreign", json.dumps(document).encode()).status == 201


def test_an_artifact_without_layers_with_data_in_its_descriptor(client: Client, repo: str) -> None:
    client.push_blob(repo, EMPTY)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/x-test",
        "config": {**describe(EMPTY, EMPTY_TYPE), "data": "e30="},
        "layers": [],
    }
    data = json.dumps(document).encode()
    assert client.put_manifest(repo, "artifact", data).status == 201
    assert_there(client, repo, "artifact", data)


def test_a_manifest_of_4_mib(client: Client, repo: str) -> None:
    client.push_blob(repo, CONFIG)
    data, _ = image_manifest(CONFIG, [], annotations={"padding": ""})
    data = data.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (4 * MIB - len(data))))
    assert len(data) == 4 * MIB
    assert client.put_manifest(repo, "large", data).status == 201
    assert_there(client, repo, "large", data)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_manifest_over_4_mib_is_413(client: Client, repo: str, streamed: bool) -> None:
    data = b"{" + b" " * (4 * MIB) + b"}"
    body = iter([data]) if streamed else data
    reply = client.ask("PUT", f"/v2/{repo}/manifests/large", body, Content_Type=OCI_MANIFEST)
    assert (reply.status, reply.code) == (413, "SIZE_INVALID")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_subject_that_is_not_there_is_accepted_and_named(client: Client, repo: str, algorithm: Any) -> None:
    client.push_blob(repo, EMPTY)
    pointed = describe(b"no manifest at all", algorithm=algorithm)
    data, _ = image_manifest(EMPTY, [], subject=pointed)
    reply = client.put_manifest(repo, Digest.of(data), data)
    assert (reply.status, reply["OCI-Subject"]) == (201, pointed["digest"])


def test_an_index_with_a_subject(client: Client, repo: str) -> None:
    pointed = describe(b"no manifest at all")
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": pointed}
    reply = client.put_manifest(repo, "index", json.dumps(document).encode(), OCI_INDEX)
    assert (reply.status, reply["OCI-Subject"]) == (201, pointed["digest"])


def test_deleting_a_tag_leaves_its_manifest(client: Client, repo: str) -> None:
    digest = push_image(client, repo, "one")
    push_image(client, repo, "two")
    assert client.ask("DELETE", f"/v2/{repo}/manifests/one").status == 202
    assert client.ask("HEAD", f"/v2/{repo}/manifests/one", Accept=OCI_MANIFEST).status == 404
    for reference in ("two", digest):
        assert client.ask("HEAD", f"/v2/{repo}/manifests/{reference}", Accept=OCI_MANIFEST).status == 200
    assert client.ask("GET", f"/v2/{repo}/tags/list").document["tags"] == ["two"]


def test_deleting_a_manifest_by_digest_and_its_tags_with_it(client: Client, repo: str) -> None:
    digest = push_image(client, repo, "one")
    push_image(client, repo, "two")
    other = push_image(client, repo, "three", annotations={"other": "yes"})
    assert client.ask("DELETE", f"/v2/{repo}/manifests/{digest}").status == 202
    for reference in ("one", "two", digest):
        assert client.ask("GET", f"/v2/{repo}/manifests/{reference}", Accept=OCI_MANIFEST).status == 404
    assert client.ask("GET", f"/v2/{repo}/manifests/{other}", Accept=OCI_MANIFEST).status == 200
    assert client.ask("GET", f"/v2/{repo}/tags/list").document["tags"] == ["three"]
    assert client.ask("DELETE", f"/v2/{repo}/manifests/{digest}").status == 404


@pytest.mark.parametrize("reference", ["nothing", "sha256:" + "0" * 64, "sha512:" + "0" * 128])
def test_deleting_what_is_not_there_is_404(client: Client, repo: str, reference: str) -> None:
    reply = client.ask("DELETE", f"/v2/{repo}/manifests/{reference}")
    assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")


def test_a_blob_is_no_manifest_and_a_manifest_is_not_deleted_as_a_blob(subject: Subject, repo: str) -> None:
    client = subject.client
    digest = push_image(client, repo)
    for method in ("GET", "DELETE"):
        reply = client.ask(method, f"/v2/{repo}/manifests/{Digest.of(LAYER)}", Accept=OCI_MANIFEST)
        assert reply.status in ({404} if subject.ours else {404, 202, 500})
    if subject.ours:
        assert client.ask("DELETE", f"/v2/{repo}/blobs/{digest}").status == 404
        assert client.ask("HEAD", f"/v2/{repo}/blobs/{Digest.of(LAYER)}").status == 200


def test_pushing_the_same_again_is_harmless(client: Client, repo: str) -> None:
    digest = push_image(client, repo, "same")
    assert push_image(client, repo, "same") == digest
    assert client.ask("GET", f"/v2/{repo}/tags/list").document["tags"] == ["same"]


def test_what_was_deleted_can_be_pushed_again(subject: Subject, repo: str) -> None:
    digest = push_image(subject.client, repo, "again")
    assert subject.client.ask("DELETE", f"/v2/{repo}/manifests/{digest}").status == 202
    assert push_image(subject.client, repo, "again") == digest
    data, _ = image_manifest(CONFIG, [LAYER])
    assert_there(subject.client, repo, "again", data)
