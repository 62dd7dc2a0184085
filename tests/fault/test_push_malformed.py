"""Ten thousand malformed requests: no answer of 500 or more, and no file outside the data directory."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support_push import Client, push_server
from testbed.mirror import RunningMirror
from testbed.registry import real_registry

REQUESTS = 10_000
BATCH = 20
TOPS = frozenset(
    [
        "catalogue",
        "usage",
        "content",
        "uploads",
        "tmp",
        "trash",
        "quarantine",
        "parts",
        "lock",
        "node_id",
        "token",
        "fetcher",
        "relay",
    ],
)
DIGEST = "sha256:" + "0" * 64

WEIRD = st.sampled_from(
    [
        *(
            "..",
            ".",
            "%2e%2e",
            "%2f",
            "%2F..%2f",
            "%00",
            "%",
            "%zz",
            "%ff%fe",
            "~",
            "\\",
            "a" * 300,
            "A",
            "é",
            "_",
            "-",
        ),
        *("@", "uploads", "blobs", "manifests", "v2", "list", "tags", "_catalog", "a", "library", "docker.io"),
        *("?", "#", ";", ":"),
    ]
)
TEXT = st.text(st.characters(exclude_characters="\r\n ", exclude_categories=("Cs",)), max_size=12).flatmap(
    lambda text: st.sampled_from([text, quote(text)])
)
PART = st.one_of(WEIRD, TEXT)
NAME = st.one_of(st.just("fuzz/repo"), st.lists(PART, min_size=1, max_size=4).map("/".join))
REFERENCE = st.one_of(
    st.sampled_from(
        [DIGEST, "sha512:" + "0" * 128, "sha256:", "sha256:" + "g" * 64, "md5:00", "latest", "..", "%2e%2e"]
    ),
    PART,
)
QUERY = st.lists(
    st.tuples(
        st.sampled_from(
            ["digest", "mount", "from", "n", "last", "tag", "artifactType", "digest-algorithm", "ns", "%ff"]
        ),
        st.one_of(REFERENCE, st.sampled_from(["-1", "0", "1e9", "9" * 400, "x", "sha512", "fuzz/repo"])),
    ),
    max_size=3,
).map(lambda pairs: "&".join(f"{key}={value}" for key, value in pairs))
TARGET = st.one_of(
    st.builds("/v2/{}/manifests/{}".format, NAME, REFERENCE),
    st.builds("/v2/{}/blobs/{}".format, NAME, REFERENCE),
    st.builds("/v2/{}/blobs/uploads/".format, NAME),
    st.builds("/v2/{}/blobs/uploads/{}".format, NAME, PART),
    st.just("/v2/fuzz/repo/blobs/uploads/UPLOAD"),
    st.builds("/v2/{}/tags/list".format, NAME),
    st.builds("/v2/{}/referrers/{}".format, NAME, REFERENCE),
    st.just("/v2/_catalog"),
    st.lists(PART, max_size=6).map(lambda parts: "/" + "/".join(parts)),
)
RANGES = st.one_of(
    st.sampled_from(
        ["0-0", "0-", "-1", "1-0", "5-9", "bytes 0-1", "0-1,2-3", "9" * 50 + "-" + "9" * 51, "\u0663-\u0664"]
    ),
    TEXT,
)
HEADERS = st.lists(
    st.one_of(
        st.tuples(st.just("Content-Range"), RANGES),
        st.tuples(st.just("Range"), RANGES.map("bytes={}".format)),
        st.tuples(st.just("Content-Type"), TEXT),
        st.tuples(st.just("Expect"), st.sampled_from(["100-continue", "x"])),
        st.tuples(st.just("If-None-Match"), TEXT),
    ),
    max_size=2,
)
METHOD = st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "BREW"])
BODY = st.one_of(
    st.just(b""),
    st.binary(max_size=60),
    st.sampled_from([b"{}", b"[]", b'{"schemaVersion":2}', b'{"schemaVersion":2,"layers":[{"digest":1}]}', b"null"]),
    st.sampled_from([b'{"schemaVersion":2,"subject":{"size":-1}}', b'{"schemaVersion":2,"annotations":[1]}', b"\xff"]),
)


def send(client: Client, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> int | None:
    """Return the status; None when the connection was closed without an answer."""
    host, _, port = client.host.partition(":")
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers)
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode("utf-8", "surrogatepass") + body)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
    statuses = re.findall(rb"(?:^|\r\n\r\n)HTTP/1\.[01] (\d{3}) ", answer)
    return int(statuses[-1]) if statuses else None


@dataclass(frozen=True)
class Target:
    """Who is attacked; ``fence`` holds nothing but what the server made in ``data``."""

    client: Client
    fence: Path
    data: Path


@pytest.fixture(scope="module", params=["endpoints", "mirror"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    fence = tmp_path_factory.mktemp("fence")
    if request.param == "endpoints":
        with push_server(fence / "inner" / "data", stall_timeout_s=2.0) as running:
            yield Target(running.client, fence, running.data)
        return
    with real_registry(tmp_path_factory.mktemp("upstream")) as registry:
        upstreams = {"docker.io": registry.direct_url}
        arguments = ["--allow-anonymous-push"]
        with RunningMirror(fence / "inner", upstreams=upstreams, args=arguments, workers=1) as mirror:
            yield Target(Client(mirror.base_url), fence, mirror.data)


@pytest.mark.slow
def test_malformed_requests_do_no_harm(server: Target) -> None:
    sent = 0
    deadline = time.monotonic() + 180
    server.client.push_blob("fuzz/repo", b"{}")

    @settings(
        max_examples=REQUESTS // 2 // BATCH,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(st.lists(st.tuples(METHOD, TARGET, QUERY, HEADERS, BODY), min_size=BATCH, max_size=BATCH))
    def attack(requests: list[tuple[str, str, str, list[tuple[str, str]], bytes]]) -> None:
        nonlocal sent
        if time.monotonic() > deadline:
            return
        upload = server.client.start("fuzz/repo").rpartition("/")[2]
        for method, target, query, headers, body in requests:
            path = target.replace("UPLOAD", upload)
            status = send(server.client, method, f"{path}?{query}" if query else path, headers, body)
            assert status is None or status < 500, (method, path, query, headers, body, status)
            sent += 1

    attack()
    assert sent >= REQUESTS // 2, "too slow a machine for this test to say anything"
    assert [entry.name for entry in server.fence.iterdir()] == ["inner"]
    assert {entry.name for entry in (server.fence / "inner").iterdir()} <= {"data", "mirror.log"}
    assert_only_ours(server.data)
    assert server.client.push_blob("fuzz/repo", b"still alive")


def assert_only_ours(data: Path) -> None:
    """Every file has a name that the store gave it."""
    for entry in (data / "uploads").iterdir():
        assert str(uuid.UUID(entry.name)) == entry.name
    for file in (data / "content").rglob("*"):
        if file.is_file():
            assert re.fullmatch(r"sha(256|512)/[0-9a-f]{2}/[0-9a-f]{64,128}", str(file.relative_to(data / "content")))
    tops = {entry.name.partition(".")[0] for entry in data.iterdir()}
    assert tops <= TOPS
