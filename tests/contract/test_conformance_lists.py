"""Content discovery: tags, referrers and the catalogue, a page at a time, over real HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

import support_conformance
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_INDEX, OCI_MANIFEST
from support_conformance import Subject
from support_push import Client, describe, image_manifest

registry = support_conformance.registry
subject = support_conformance.subject
client = support_conformance.client
repo = support_conformance.repo

EMPTY = b"{}"

DOCKER_REGISTRY_DEVIATES = {
    "tags_are_listed_in_byte_order": "2.8 lists tags in any order",
    "tags_are_paged": "2.8 lists all tags at once",
    "after_last": "2.8 lists all tags at once",
    "no_number": "2.8 lists all tags at once",
    "n_0": "2.8 lists all tags at once",
    "refer": "does not know the referrers API",
    "has_no_tags": "a repository without a tag is unknown to it",
}


def push_tags(client: Client, repo: str, *tags: str) -> None:
    client.push_blob(repo, EMPTY)
    data, _ = image_manifest(EMPTY, [])
    for tag in tags:
        assert client.put_manifest(repo, tag, data).status == 201


def next_page(reply) -> str | None:
    match = re.fullmatch(r'<([^>]+)>; rel="next"', reply["Link"] or "")
    return match[1] if match else None


def pages(client: Client, target: str, key: str) -> Iterator[list[Any]]:
    following: str | None = target
    while following:
        reply = client.ask("GET", following)
        assert reply.status == 200
        yield reply.document[key]
        following = next_page(reply)


TAGS = ["1.2", "1.2.3", "Latest", "_x", "latest", "v1", "v10", "v2"]


def test_tags_are_listed_in_byte_order(client: Client, repo: str) -> None:
    push_tags(client, repo, *reversed(TAGS))
    reply = client.ask("GET", f"/v2/{repo}/tags/list")
    assert (reply.status, reply.document) == (200, {"name": repo, "tags": TAGS})
    assert (reply["Content-Type"] or "").startswith("application/json")
    assert reply["Link"] is None


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8, 9, 10**30])
def test_tags_are_paged_without_a_gap(client: Client, repo: str, count: int) -> None:
    push_tags(client, repo, *TAGS)
    found = list(pages(client, f"/v2/{repo}/tags/list?n={count}", "tags"))
    assert [tag for page in found for tag in page] == TAGS
    assert [len(page) for page in found] == [len(TAGS[at : at + count]) for at in range(0, len(TAGS), count)]


@pytest.mark.parametrize("last", ["", "0", "1.2", "1.2.2", "latest", "v2", "zzz", "%ff%00", "no/tag"])
def test_tags_after_last(client: Client, repo: str, last: str) -> None:
    push_tags(client, repo, *TAGS)
    expected = [tag for tag in TAGS if tag > last] if "%" not in last else []
    assert client.ask("GET", f"/v2/{repo}/tags/list?last={last}").document["tags"] == expected
    assert client.ask("GET", f"/v2/{repo}/tags/list?n=2&last={last}").document["tags"] == expected[:2]


def test_n_0_is_an_empty_list_without_a_link(client: Client, repo: str) -> None:
    push_tags(client, repo, "one")
    reply = client.ask("GET", f"/v2/{repo}/tags/list?n=0")
    assert (reply.status, reply.document["tags"], reply["Link"]) == (200, [], None)


@pytest.mark.parametrize("count", ["-1", "x", "1.5", "0x10", "%d9%a3"])
def test_an_n_that_is_no_number_is_400(client: Client, repo: str, count: str) -> None:
    push_tags(client, repo, "one")
    assert client.ask("GET", f"/v2/{repo}/tags/list?n={count}").status == 400


def test_tags_of_a_repository_that_was_never_pushed_to_are_404(client: Client, repo: str) -> None:
    reply = client.ask("GET", f"/v2/{repo}/tags/list")
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")


def test_a_repository_of_blobs_has_no_tags(client: Client, repo: str) -> None:
    client.push_blob(repo, EMPTY)
    reply = client.ask("GET", f"/v2/{repo}/tags/list")
    assert (reply.status, reply.document["tags"]) == (200, [])


def refer(client: Client, repo: str, target: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Push an artifact that refers to ``target``; return the descriptor that the list must show."""
    client.push_blob(repo, EMPTY)
    config = describe(EMPTY, more.pop("config_type", "application/vnd.oci.empty.v1+json"))
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], "subject": target}
    data = json.dumps({**document, **more}).encode()
    reply = client.put_manifest(repo, Digest.of(data), data)
    assert (reply.status, reply["OCI-Subject"]) == (201, target["digest"])
    entry = {**describe(data), "artifactType": more.get("artifactType", config["mediaType"])}
    if "annotations" in more:
        entry["annotations"] = more["annotations"]
    return entry


def listed(client: Client, repo: str, digest: object, query: str = "") -> list[dict[str, Any]]:
    reply = client.ask("GET", f"/v2/{repo}/referrers/{digest}{query}")
    assert reply.status == 200
    assert reply["Content-Type"] == OCI_INDEX
    assert reply.document["schemaVersion"] == 2
    assert reply.document["mediaType"] == OCI_INDEX
    return reply.document["manifests"]


def by_digest(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: entry["digest"])


TARGET = describe(b"what is referred to")
TARGET_512 = describe(b"what is referred to", algorithm="sha512")


@pytest.mark.parametrize("target", [TARGET, TARGET_512], ids=["sha256", "sha512"])
def test_referrers_show_type_and_annotations(client: Client, repo: str, target: dict[str, Any]) -> None:
    expected = [
        refer(client, repo, target, artifactType="application/x-sbom", annotations={"a": "1", "ü": "ü"}),
        refer(client, repo, target, artifactType="application/x-signature"),
        refer(client, repo, target, config_type="application/x-config"),
    ]
    refer(client, repo, describe(b"another subject"), artifactType="application/x-sbom")
    assert by_digest(listed(client, repo, target["digest"])) == by_digest(expected)
    assert listed(client, f"{repo}/other", target["digest"]) == []


def test_referrers_of_an_index_without_a_type_show_none(client: Client, repo: str) -> None:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": TARGET}
    data = json.dumps(document).encode()
    assert client.put_manifest(repo, "refers", data, OCI_INDEX).status == 201
    assert listed(client, repo, TARGET["digest"]) == [describe(data, OCI_INDEX)]


def test_referrers_are_filtered_by_type_and_say_so(client: Client, repo: str) -> None:
    wanted = refer(client, repo, TARGET, artifactType="application/x-sbom+json")
    refer(client, repo, TARGET, artifactType="application/x-signature")
    target = f"/v2/{repo}/referrers/{TARGET['digest']}?artifactType="
    reply = client.ask("GET", target + "application%2Fx-sbom%2Bjson")
    assert reply.document["manifests"] == [wanted]
    assert reply["OCI-Filters-Applied"] == "artifactType"
    nothing = client.ask("GET", target + "application/x-none")
    assert (nothing.document["manifests"], nothing["OCI-Filters-Applied"]) == ([], "artifactType")
    assert client.ask("GET", f"/v2/{repo}/referrers/{TARGET['digest']}")["OCI-Filters-Applied"] is None


def test_referrers_of_a_repository_that_was_never_pushed_to_are_an_empty_index(client: Client, repo: str) -> None:
    assert listed(client, repo, TARGET["digest"]) == []
    assert listed(client, repo, TARGET_512["digest"]) == []


def test_referrers_of_a_malformed_digest_are_400(client: Client, repo: str) -> None:
    assert client.ask("GET", f"/v2/{repo}/referrers/sha256:bad").status == 400
    assert client.ask("GET", f"/v2/{repo}/referrers/latest").status == 400


def test_referrers_that_were_deleted_are_gone_at_once(client: Client, repo: str) -> None:
    first = refer(client, repo, TARGET, artifactType="application/x-sbom")
    second = refer(client, repo, TARGET, artifactType="application/x-signature")
    assert client.ask("DELETE", f"/v2/{repo}/manifests/{first['digest']}").status == 202
    assert listed(client, repo, TARGET["digest"]) == [second]


def test_referrers_stay_when_their_subject_is_deleted(client: Client, repo: str) -> None:
    client.push_blob(repo, EMPTY)
    data, _ = image_manifest(EMPTY, [])
    assert client.put_manifest(repo, "subject", data).status == 201
    entry = refer(client, repo, describe(data), artifactType="application/x-sbom")
    assert client.ask("DELETE", f"/v2/{repo}/manifests/{Digest.of(data)}").status == 202
    assert listed(client, repo, Digest.of(data)) == [entry]


def test_referrers_over_4_mib_are_paged(client: Client, repo: str) -> None:
    def big(number: int) -> dict[str, Any]:
        kind = "application/x-a" if number % 2 else "application/x-b"
        return refer(client, repo, TARGET, artifactType=kind, annotations={"n": str(number), "x": "x" * 900_000})

    expected = by_digest([big(number) for number in range(10)])
    found = list(pages(client, f"/v2/{repo}/referrers/{TARGET['digest']}", "manifests"))
    assert [entry for page in found for entry in page] == expected
    assert len(found) == 3
    query = "?artifactType=application/x-a"
    filtered = list(pages(client, f"/v2/{repo}/referrers/{TARGET['digest']}{query}", "manifests"))
    assert [entry for page in filtered for entry in page] == [
        entry for entry in expected if entry["artifactType"] == "application/x-a"
    ]
    assert len(filtered) == 2


def test_referrers_include_those_of_the_tag_schema(client: Client, repo: str) -> None:
    client.push_blob(repo, EMPTY)
    data, _ = image_manifest(EMPTY, [], artifactType="application/x-old")
    assert client.put_manifest(repo, Digest.of(data), data).status == 201
    entry = {**describe(data), "artifactType": "application/x-old"}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    tag = TARGET["digest"].replace(":", "-")
    assert client.put_manifest(repo, tag, json.dumps(index).encode(), OCI_INDEX).status == 201
    new = refer(client, repo, TARGET, artifactType="application/x-new")
    assert by_digest(listed(client, repo, TARGET["digest"])) == by_digest([entry, new])


def test_the_catalogue_is_paged_and_shows_what_may_be_seen(subject: Subject, repo: str) -> None:
    names = [f"{repo}/{letter}" for letter in "abcde"]
    for name in names:
        push_tags(subject.client, name, "latest")
    if subject.server:
        subject.server.secret.add(names[2])
        names.remove(names[2])
    found = list(pages(subject.client, "/v2/_catalog?n=2", "repositories"))
    assert [name for page in found for name in page if name.startswith(repo)] == names
    assert all(len(page) == 2 for page in found[:-1])
    reply = subject.client.ask("GET", f"/v2/_catalog?n=2&last={names[1]}")
    assert reply.document["repositories"] == names[2:4]
