"""What every client of the whole mirror relies on: names in three forms, conditional requests, exact bodies."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.mirror import RunningMirror
from testbed.zoo import ZooRegistry

IMAGE = images.opaque([200_000, 100_000], seed="answers")
COLD = images.opaque([100_000], seed="cold")
BLOB = IMAGE.layers[0]
REPOSITORY = "/v2/docker.io/library/app"


@pytest.fixture(scope="module")
def zoo() -> Iterator[ZooRegistry]:
    with ZooRegistry([IMAGE, COLD]) as registry:
        yield registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, zoo: ZooRegistry) -> Iterator[RunningMirror]:
    directory = tmp_path_factory.mktemp("answers")
    upstreams = {"docker.io": zoo.url, "ghcr.io": zoo.url}
    with RunningMirror(directory, upstreams=upstreams, args=["--allow-anonymous-push"], workers=1) as running:
        yield running


def ask(mirror: RunningMirror, path: str, method: str = "GET", **headers: str) -> Answer:
    sent = {"Accept": MANIFEST_TYPES, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return fetch(f"{mirror.base_url}{path}", method=method, headers=sent)


def error_code(answer: Answer) -> str:
    return json.loads(answer.body)["errors"][0]["code"]


PATHS = {
    "manifest-by-tag": (f"{REPOSITORY}/manifests/latest", IMAGE.digest),
    "manifest-by-digest": (f"{REPOSITORY}/manifests/{IMAGE.digest}", IMAGE.digest),
    "blob": (f"{REPOSITORY}/blobs/{BLOB}", BLOB),
}
MATCHING = ['"{}"', 'W/"{}"', '"other", "{}"', "*"]


@pytest.mark.parametrize(("what", "method"), list(product(PATHS, ["GET", "HEAD"])))
def test_who_has_it_already_gets_304_and_no_body(mirror: RunningMirror, what: str, method: str) -> None:
    path, digest = PATHS[what]
    assert ask(mirror, path).digest == digest
    for _ in range(2):  # the second time from memory, where there is a memory
        whole = ask(mirror, path, method)
        assert (whole.status, whole.headers["etag"]) == (200, f'"{digest}"')
        for condition in MATCHING:
            answer = ask(mirror, path, method, If_None_Match=condition.format(digest))
            assert (answer.status, answer.body, answer.cut) == (304, b"", False), condition
            assert answer.headers["etag"] == f'"{digest}"'
        other = ask(mirror, path, method, If_None_Match='"sha256:0"')
        assert (other.status, other.promised_bytes) == (200, whole.promised_bytes)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_condition_on_a_cold_blob_costs_a_head_and_no_download(
    mirror: RunningMirror, zoo: ZooRegistry, method: str
) -> None:
    cold = COLD.layers[0]
    zoo.server.forget()
    answer = ask(mirror, f"/v2/ghcr.io/org/cold/blobs/{cold}", method, If_None_Match=f'"{cold}"')
    assert (answer.status, answer.body) == (304, b"")
    assert zoo.server.requests("GET", containing=cold) == []


def test_a_condition_on_what_is_not_there_is_404(mirror: RunningMirror) -> None:
    missing = images.digest_of(b"missing")
    for kind, method in product(["blobs", "manifests"], ["GET", "HEAD"]):
        answer = ask(mirror, f"{REPOSITORY}/{kind}/{missing}", method, If_None_Match="*")
        assert answer.status == 404


def test_bodies_are_exact_whatever_encoding_the_client_would_take(mirror: RunningMirror) -> None:
    for path, digest in PATHS.values():
        answer = ask(mirror, path, Accept_Encoding="zstd, gzip, deflate")
        assert answer.digest == digest
        assert answer.promised_bytes == len(answer.body)
        assert not {"transfer-encoding", "content-encoding"} & answer.headers.keys()


def test_three_forms_of_a_name_are_one_repository(mirror: RunningMirror, zoo: ZooRegistry) -> None:
    forms = [
        "/v2/docker.io/library/forms/manifests/latest",
        "/v2/docker.io/forms/manifests/latest",
        "/v2/library/forms/manifests/latest?ns=docker.io",
        "/v2/forms/manifests/latest?ns=docker.io",
        "/v2/library/forms/manifests/latest",
        "/v2/forms/manifests/latest",
    ]
    zoo.server.forget()
    answers = [ask(mirror, form) for form in forms]
    assert {(answer.status, answer.digest) for answer in answers} == {(200, IMAGE.digest)}
    assert len(zoo.server.requests("GET", containing="/manifests/")) == 1
    asked = {record.path for record in zoo.server.requests("GET") if "/blobs/" not in record.path}
    assert asked == {"/v2/library/forms/manifests/latest"}, "besides what an earlier test had read ahead"


def test_ns_is_answered_with_oci_namespace(mirror: RunningMirror) -> None:
    query = "?ns=ghcr.io"
    for path in (f"/v2/org/app/manifests/latest{query}", f"/v2/org/app/blobs/{BLOB}{query}"):
        for method, headers in product(["GET", "HEAD"], [{}, {"If_None_Match": "*"}, {"Range": "bytes=0-9"}]):
            answer = ask(mirror, path, method, **headers)
            assert answer.headers.get("oci-namespace") == "ghcr.io", (path, method, headers)
            assert answer.status in {200, 206, 304}
    assert "oci-namespace" not in ask(mirror, f"/v2/ghcr.io/org/app/blobs/{BLOB}").headers


@pytest.mark.parametrize(
    "path",
    [
        "/v2/evil.example/org/app/manifests/latest",
        "/v2/127.0.0.1:9/org/app/manifests/latest",
        "/v2/localhost/app/manifests/latest",
        "/v2/[::1]/app/manifests/latest",
        "/v2/org/app/manifests/latest?ns=evil.example",
        "/v2/docker.io/org/app/manifests/latest?ns=evil.example",
        "/v2/org/app/manifests/latest?ns=http://docker.io",
    ],
)
def test_an_unknown_host_is_refused_in_the_registrys_form_and_never_dialled(
    mirror: RunningMirror, zoo: ZooRegistry, path: str
) -> None:
    zoo.server.forget()
    answer = ask(mirror, path)
    assert answer.status in {400, 404}
    assert error_code(answer) in {"NAME_UNKNOWN", "NAME_INVALID"}
    assert zoo.server.records == []


@pytest.mark.parametrize(
    "name", ["library/app", "library", "docker.io/team/app", "ghcr.io/team/app", "team/v1.2/app", "host.example/app"]
)
def test_a_name_that_could_be_an_upstreams_is_never_pushed_to(mirror: RunningMirror, name: str) -> None:
    answer = ask(mirror, f"/v2/{name}/blobs/uploads/", "POST")
    assert (answer.status, error_code(answer)) == (403, "DENIED")


def test_a_name_that_became_local_is_answered_from_here_at_once(mirror: RunningMirror, zoo: ZooRegistry) -> None:
    by_tag, by_digest = "/v2/shop/web/manifests/latest", f"/v2/shop/web/manifests/{IMAGE.digest}"
    for path in (by_tag, by_digest, by_tag, by_digest):
        assert ask(mirror, path).status == 200  # mirrored from docker.io, and hot now
    own = images.opaque([1000], seed="own")
    images.push(own, mirror.base_url, "shop/web", "v1")
    zoo.server.forget()
    for path in (by_tag, by_digest, f"/v2/shop/web/blobs/{BLOB}"):
        for method in ("GET", "HEAD"):
            assert ask(mirror, path, method).status == 404, (path, method)
    assert ask(mirror, "/v2/shop/web/manifests/v1").digest == own.digest
    assert ask(mirror, "/v2/docker.io/shop/web/manifests/latest").status == 200  # its own name is still the upstream's
    assert zoo.server.records == []


def test_ranges_of_a_hit(mirror: RunningMirror) -> None:
    path, data = f"{REPOSITORY}/blobs/{BLOB}", IMAGE.blobs[BLOB]
    assert ask(mirror, path).status == 200
    size = len(data)
    for header, expected in {
        "bytes=0-": data,
        "bytes=5-14": data[5:15],
        "bytes=-7": data[-7:],
        f"bytes={size - 3}-{size + 99}": data[-3:],
    }.items():
        answer = ask(mirror, path, Range=header)
        assert (answer.status, answer.body) == (206, expected)
        assert answer.promised_bytes == len(expected)
    for header in (f"bytes={size}-", "bytes=9-5", "bytes=-0"):
        answer = ask(mirror, path, Range=header)
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
    assert ask(mirror, path, Range="bytes=0-1,5-6").body == data


def test_a_grant_makes_a_name_local_at_once(tmp_path: Path, zoo: ZooRegistry) -> None:
    with RunningMirror(tmp_path, upstreams={"docker.io": zoo.url}, workers=1) as own:
        path = f"/v2/acme/web/manifests/{IMAGE.digest}"
        for _ in range(2):
            assert ask(own, path).status == 200  # mirrored, and hot now
        own.add_user("dev", "pw", "acme:pull,push")
        assert ask(own, path).status == 401
        basic = base64.b64encode(b"dev:pw").decode()
        assert ask(own, path, Authorization=f"Basic {basic}").status == 404  # local, and nothing was pushed
        assert ask(own, f"/v2/docker.io/acme/web/manifests/{IMAGE.digest}").status == 200
