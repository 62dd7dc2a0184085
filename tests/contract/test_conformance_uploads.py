"""Pushing blobs: every path of the distribution specification, in both algorithms, over real HTTP."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

import pytest

import support_conformance
from hunqi.oci.digest import Digest
from support_conformance import Subject
from support_push import Client, with_query

registry = support_conformance.registry
subject = support_conformance.subject
client = support_conformance.client
repo = support_conformance.repo

BLOB = random.Random(1).randbytes(3 * 1024 - 5)
BIG = random.Random(2).randbytes(5 * 1024 * 1024 + 1)

DOCKER_REGISTRY_DEVIATES = {
    "sha512": "answers with its own sha256 digest, or loses the blob, whatever the client's algorithm",
    "in_one_post": "takes no blob in a single POST (202, as the specification allows)",
    "closing_put_out_of_order": "does not look at Content-Range of the closing PUT",
    "first_chunk_must_begin_at_zero": "appends a first chunk wherever it says to begin",
    "mount_without_from": "needs from (202, as the specification allows)",
    "unknown_algorithm": "does not know digest-algorithm",
    "chunk_out_of_order": "2.8 does not look at Content-Range",
    "malformed_range": "2.8 does not look at Content-Range",
    "shorter_than_its_range": "2.8 does not look at Content-Range",
    "longer_than_its_range": "appends what exceeds the range",
    "wrong_digest_in_one_post": "takes no blob in a single POST",
}

ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


def monolithic(client: Client, repo: str, data: bytes, digest: Digest):
    return client.finish(client.start(repo), digest, data, Content_Type="application/octet-stream")


def chunked(client: Client, repo: str, data: bytes, digest: Digest):
    location = client.start(repo, **({"digest-algorithm": "sha512"} if digest.algorithm == "sha512" else {}))
    for start in range(0, len(data), 1024):
        chunk = data[start : start + 1024]
        reply = client.ask("PATCH", location, chunk, Content_Range=f"{start}-{start + len(chunk) - 1}")
        assert reply.status == 202
        assert reply["Range"] == f"0-{start + len(chunk) - 1}"
        location = reply["Location"]
        assert location
    return client.finish(location, digest)


def last_chunk_in_put(client: Client, repo: str, data: bytes, digest: Digest):
    location = client.start(repo)
    half = len(data) // 2
    if half:
        reply = client.ask("PATCH", location, data[:half], Content_Range=f"0-{half - 1}")
        assert reply.status == 202
        location = reply["Location"]
        return client.finish(location, digest, data[half:], Content_Range=f"{half}-{len(data) - 1}")
    return client.finish(location, digest, data)


def streamed(client: Client, repo: str, data: bytes, digest: Digest):
    location = client.start(repo)
    reply = client.ask("PATCH", location, iter([data[:1000], data[1000:]] if data else []))
    assert reply.status == 202
    assert reply["Range"] == f"0-{max(0, len(data) - 1)}"
    return client.finish(reply["Location"], digest)


def streamed_put(client: Client, repo: str, data: bytes, digest: Digest):
    return client.finish(client.start(repo), digest, iter([data] if data else []))


def one_post(client: Client, repo: str, data: bytes, digest: Digest):
    return client.ask("POST", f"/v2/{repo}/blobs/uploads/?digest={digest}", data)


Way = Callable[[Client, str, bytes, Digest], object]
WAYS = pytest.mark.parametrize(
    "way", [monolithic, chunked, last_chunk_in_put, streamed, streamed_put], ids=lambda way: way.__name__
)


def assert_pushed(client: Client, reply, repo: str, data: bytes, digest: Digest) -> None:
    assert reply.status == 201
    assert reply["Docker-Content-Digest"] == str(digest)
    pulled = client.ask("GET", reply["Location"])
    assert (pulled.status, pulled.body) == (200, data)
    assert pulled["Docker-Content-Digest"] == str(digest)
    head = client.ask("HEAD", f"/v2/{repo}/blobs/{digest}")
    assert (head.status, head["Content-Length"], head.body) == (200, str(len(data)), b"")


@ALGORITHMS
@WAYS
@pytest.mark.parametrize("data", [BLOB, b"", BIG[:70_000]], ids=["small", "empty", "larger"])
def test_a_blob_pushed_in_any_way_is_pulled_as_it_was(client: Client, repo: str, way, data: bytes, algorithm) -> None:
    digest = Digest.of(data, algorithm)
    assert_pushed(client, way(client, repo, data, digest), repo, data, digest)


@ALGORITHMS
@pytest.mark.parametrize("data", [BLOB, b"", BIG], ids=["small", "empty", "large"])
def test_a_blob_pushed_in_one_post_is_pulled_as_it_was(client: Client, repo: str, data: bytes, algorithm) -> None:
    digest = Digest.of(data, algorithm)
    assert_pushed(client, one_post(client, repo, data, digest), repo, data, digest)


def test_a_large_streamed_blob(client: Client, repo: str) -> None:
    digest = Digest.of(BIG)
    assert_pushed(client, streamed(client, repo, BIG, digest), repo, BIG, digest)


@WAYS
def test_a_wrong_digest_is_400_and_leaves_nothing(client: Client, repo: str, way) -> None:
    wrong = Digest.of(BLOB + b"x")
    reply = way(client, repo, BLOB, wrong)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    for digest in (wrong, Digest.of(BLOB)):
        assert client.ask("HEAD", f"/v2/{repo}/blobs/{digest}").status == 404


def test_wrong_digest_in_one_post_is_400_and_leaves_nothing(client: Client, repo: str) -> None:
    reply = one_post(client, repo, BLOB, Digest.of(b"another"))
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert client.ask("HEAD", f"/v2/{repo}/blobs/{Digest.of(BLOB)}").status == 404


@pytest.mark.parametrize("digest", ["sha256:baddigeststring", "sha256", "md5:" + "0" * 32, "", "sha256:" + "G" * 64])
def test_a_malformed_digest_is_400_and_the_upload_goes_on(client: Client, repo: str, digest: str) -> None:
    location = client.start(repo)
    reply = client.ask("PATCH", location, BLOB)
    location = reply["Location"] or location
    reply = client.finish(location, digest)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert_pushed(client, client.finish(location, Digest.of(BLOB)), repo, BLOB, Digest.of(BLOB))


def test_an_unknown_algorithm_is_400(client: Client, repo: str) -> None:
    reply = client.ask("POST", f"/v2/{repo}/blobs/uploads/?digest-algorithm=md5")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


def test_a_chunk_out_of_order_is_416_and_the_upload_goes_on(client: Client, repo: str) -> None:
    location = client.start(repo)
    location = client.ask("PATCH", location, BLOB[:1024], Content_Range="0-1023")["Location"]
    assert location
    for wrong in ("2048-3066", "0-1018", "1023-2041"):
        reply = client.ask("PATCH", location, BLOB[:1019], Content_Range=wrong)
        assert reply.status == 416
    status = client.ask("GET", location)
    assert (status.status, status["Range"], status.body) == (204, "0-1023", b"")
    location = status["Location"]
    reply = client.ask("PATCH", location, BLOB[1024:], Content_Range=f"1024-{len(BLOB) - 1}")
    assert reply.status == 202
    assert_pushed(client, client.finish(reply["Location"], Digest.of(BLOB)), repo, BLOB, Digest.of(BLOB))


def test_a_closing_put_out_of_order_is_416_and_the_upload_goes_on(client: Client, repo: str) -> None:
    digest = Digest.of(BLOB)
    location = client.ask("PATCH", client.start(repo), BLOB[:1024], Content_Range="0-1023")["Location"]
    assert location
    closing = with_query(location, digest=str(digest))
    reply = client.ask("PUT", closing, BLOB[2048:], Content_Range=f"2048-{len(BLOB) - 1}")
    assert (reply.status, reply["Range"]) == (416, "0-1023")
    status = client.ask("GET", closing)
    assert (status.status, status["Range"]) == (204, "0-1023")
    reply = client.finish(status["Location"], digest, BLOB[1024:], Content_Range=f"1024-{len(BLOB) - 1}")
    assert_pushed(client, reply, repo, BLOB, digest)


def test_the_first_chunk_must_begin_at_zero(client: Client, repo: str) -> None:
    reply = client.ask("PATCH", client.start(repo), BLOB[:1024], Content_Range="1-1024")
    assert (reply.status, reply["Range"]) == (416, "0-0")
    assert reply.code == "BLOB_UPLOAD_INVALID"


@pytest.mark.parametrize("text", ["bytes 0-1023", "0-", "-1023", "a-b", "1023-0", "0-1023/1024", "0-9" + "9" * 40])
def test_a_malformed_range_is_refused_and_adds_nothing(client: Client, repo: str, text: str) -> None:
    location = client.start(repo)
    assert client.ask("PATCH", location, BLOB[:1024], Content_Range=text).status in {400, 416}
    assert client.ask("GET", location)["Range"] == "0-0"


def test_a_chunk_shorter_than_its_range_is_400(client: Client, repo: str) -> None:
    location = client.start(repo)
    reply = client.ask("PATCH", location, BLOB[:1000], Content_Range="0-1023")
    assert (reply.status, reply.code) == (400, "SIZE_INVALID")
    assert client.ask("GET", location)["Range"] == "0-0"


def test_a_streamed_chunk_longer_than_its_range_is_400(client: Client, repo: str) -> None:
    location = client.start(repo)
    reply = client.ask("PATCH", location, iter([BLOB[:2000]]), Content_Range="0-1023")
    assert (reply.status, reply.code) == (400, "SIZE_INVALID")


def test_an_upload_that_was_cancelled_is_unknown(client: Client, repo: str) -> None:
    location = client.start(repo)
    assert client.ask("DELETE", location).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        reply = client.ask(method, location)
        assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert client.finish(location, Digest.of(b"")).status == 404


def test_a_finished_upload_is_unknown(client: Client, repo: str) -> None:
    location = client.start(repo)
    assert client.finish(location, Digest.of(BLOB), BLOB).status == 201
    assert client.ask("GET", location).status == 404


@pytest.mark.parametrize("upload_id", ["no-such-upload", "0", "..", "%2e%2e", "a" * 5000, "x%00y", "x%2f..%2fy"])
def test_an_unknown_upload_is_404(subject: Subject, repo: str, upload_id: str) -> None:
    if not subject.ours:
        pytest.skip("docker-registry answers its router's 301, 400 or 405 to some of these")
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert subject.client.ask(method, f"/v2/{repo}/blobs/uploads/{upload_id}").status == 404


def test_an_upload_belongs_to_its_repository(client: Client, repo: str) -> None:
    location = client.start(repo)
    other = location.replace(repo, f"{repo}-other")
    assert client.ask("GET", other).status == 404
    assert client.finish(other, Digest.of(BLOB), BLOB).status == 404
    assert client.finish(location, Digest.of(BLOB), BLOB).status == 201


def test_two_uploads_of_one_blob_at_once_both_succeed(client: Client, repo: str) -> None:
    first, second = client.start(repo), client.start(repo)
    assert first != second
    for location in (first, second):
        reply = client.ask("PATCH", location, BLOB)
        assert_pushed(client, client.finish(reply["Location"], Digest.of(BLOB)), repo, BLOB, Digest.of(BLOB))


@ALGORITHMS
def test_a_mount_shows_the_blob_and_its_deletion_spares_the_source(client: Client, repo: str, algorithm) -> None:
    digest = client.push_blob(f"{repo}/a", BLOB, algorithm)
    reply = client.ask("POST", f"/v2/{repo}/b/blobs/uploads/?mount={digest}&from={repo}/a")
    assert_pushed(client, reply, f"{repo}/b", BLOB, digest)
    assert client.ask("DELETE", f"/v2/{repo}/b/blobs/{digest}").status == 202
    assert client.ask("HEAD", f"/v2/{repo}/b/blobs/{digest}").status == 404
    assert client.ask("HEAD", f"/v2/{repo}/a/blobs/{digest}").status == 200


def test_a_mount_without_from_takes_it_from_anywhere(client: Client, repo: str) -> None:
    digest = client.push_blob(f"{repo}/a", BLOB + repo.encode())
    reply = client.ask("POST", f"/v2/{repo}/b/blobs/uploads/?mount={digest}")
    assert_pushed(client, reply, f"{repo}/b", BLOB + repo.encode(), digest)


@pytest.mark.parametrize("query", ["", "&from=conformance/nowhere", "&from=UPPER", "&from=library/x", "&from=a.b/c"])
def test_a_mount_of_what_is_not_there_becomes_an_upload(client: Client, repo: str, query: str) -> None:
    data = BLOB + repo.encode()
    digest = Digest.of(data)
    reply = client.ask("POST", f"/v2/{repo}/blobs/uploads/?mount={digest}{query}")
    assert reply.status == 202
    assert_pushed(client, client.finish(reply["Location"], digest, data), repo, data, digest)


@pytest.mark.parametrize("query", ["from", "anywhere"])
def test_a_mount_from_a_repository_that_the_caller_may_not_read_becomes_an_upload(
    subject: Subject, repo: str, query: str
) -> None:
    if subject.server is None:
        pytest.skip("everything is public here")
    data = BLOB + repo.encode()
    digest = subject.client.push_blob(f"{repo}/secret", data)
    subject.server.secret.add(f"{repo}/secret")
    source = f"&from={repo}/secret" if query == "from" else ""
    reply = subject.client.ask("POST", f"/v2/{repo}/b/blobs/uploads/?mount={digest}{source}")
    assert reply.status == 202
    assert subject.client.ask("HEAD", f"/v2/{repo}/b/blobs/{digest}").status == 404


def test_blobs_belong_to_a_repository(client: Client, repo: str) -> None:
    digest = client.push_blob(f"{repo}/a", BLOB)
    assert client.ask("GET", f"/v2/{repo}/b/blobs/{digest}").status == 404
    reply = client.ask("DELETE", f"/v2/{repo}/b/blobs/{digest}")
    assert (reply.status, reply.code) == (404, "BLOB_UNKNOWN")
    assert client.ask("GET", f"/v2/{repo}/a/blobs/{digest}").status == 200
    assert client.ask("DELETE", f"/v2/{repo}/a/blobs/{digest}").status == 202
    assert client.ask("GET", f"/v2/{repo}/a/blobs/{digest}").status == 404


def test_a_client_that_expects_100_continue_is_asked_for_the_body(client: Client, repo: str) -> None:
    location = client.start(repo)
    host, _, port = client.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"PATCH {location} HTTP/1.1\r\nHost: {client.host}\r\nContent-Length: {len(BLOB)}\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BLOB)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert f"0-{len(BLOB) - 1}".encode() in answer


def test_a_client_that_expects_100_continue_hears_a_refusal_instead(subject: Subject, repo: str) -> None:
    location = f"/v2/{repo}/blobs/uploads/2d0b4ac5-6b1e-4a5a-9d64-2d5b8a1c7f00"
    host, _, port = subject.client.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"PATCH {location} HTTP/1.1\r\nHost: {subject.client.host}\r\nContent-Length: 1000000000\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 404 ")


def test_what_is_pushed_is_told_before_the_client_hears(subject: Subject, repo: str) -> None:
    if subject.server is None:
        pytest.skip("nothing to look into from here")
    digest = subject.client.push_blob(repo, BLOB)
    assert (repo, digest) in {entry[:2] for entry in subject.server.committed}
