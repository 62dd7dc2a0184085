"""Clients that mean harm, against the whole mirror: bombs, headers without end, connections that say nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support_push import Client
from testbed.client import fetch
from testbed.mirror import RunningMirror

pytestmark = pytest.mark.real
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = '{"schemaVersion":2,"mediaType":"' + INDEX + '","manifests":[]'


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMirror]:
    args = ["--allow-anonymous-push", "--local", "team"]
    nowhere = {"docker.io": "http://127.0.0.1:9"}
    with RunningMirror(tmp_path_factory.mktemp("mirror"), upstreams=nowhere, args=args, workers=1) as running:
        yield running


def memory(mirror: RunningMirror) -> int:
    return mirror.pss_bytes()


@pytest.mark.parametrize(
    "body",
    [
        "[" * 2_000_000,
        '{"a":' * 700_000,
        EMPTY + ',"annotations":' + '{"a":' * 300_000 + "1" + "}" * 300_001,
        '{"schemaVersion":' + "9" * 1_000_000 + "}",
        EMPTY + ',"x":"' + "\\u0000" * 600_000 + '"}',
    ],
    ids=["arrays", "objects", "annotations", "number", "escapes"],
)
def test_a_manifest_that_is_a_bomb_is_refused_or_kept_and_costs_little(mirror: RunningMirror, body: str) -> None:
    before = memory(mirror)
    begun = time.monotonic()
    reply = Client(mirror.base_url).put_manifest("team/bomb", "1", body.encode(), INDEX)
    assert reply.status in (201, 400), reply.body[:300]
    assert time.monotonic() - begun < 5.0
    assert memory(mirror) - before < 150 * 1024 * 1024
    assert fetch(f"{mirror.base_url}/healthz").status == 200


@pytest.mark.parametrize(
    "target", ["/v2/team/app/blobs/uploads/?digest=sha256:%0d%0aX-Evil:%201", "/v2/?x=%0d%0aX-Evil:%201"]
)
def test_nothing_that_a_client_writes_becomes_a_header(mirror: RunningMirror, target: str) -> None:
    for headers in ({}, {"Host": 'evil"\\,x="1'}, {"Range": "bytes=0-1\tX-Evil: 1"}):
        reply = Client(mirror.base_url).ask("POST" if "uploads" in target else "GET", target, **headers)
        assert "X-Evil" not in reply.headers
        assert '"' not in (reply["WWW-Authenticate"] or "").replace('="', "").replace('",', "").removesuffix('"')


def test_heads_without_end_are_refused(mirror: RunningMirror) -> None:
    for head in (f"GET /v2/{'a' * 100_000} HTTP/1.1", "GET /v2/ HTTP/1.1\r\n" + f"X: {'a' * 100_000}"):
        with socket.create_connection(("127.0.0.1", mirror.port), timeout=10.0) as client:
            client.sendall(f"{head}\r\nHost: x\r\n\r\n".encode())
            assert client.recv(100).startswith((b"HTTP/1.0 4", b"HTTP/1.1 4"))


def test_clients_that_begin_and_say_no_more_hold_up_nobody(mirror: RunningMirror) -> None:
    """More of them than threads, in the middle of heads, forms, manifests and uploads."""
    location = Client(mirror.base_url).start("team/slow")
    beginnings = [
        "GET /v2/ HTTP/1.1\r\nHost: x\r\n",
        "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ngrant",
        "PUT /v2/team/slow/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    ]
    with ExitStack() as stack:
        for beginning in beginnings * 100:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", mirror.port), timeout=10.0))
            client.sendall(beginning.encode())
        begun = time.monotonic()
        assert fetch(f"{mirror.base_url}/v2/").status == 200
        Client(mirror.base_url).push_blob("team/quick", b"quick")
        assert time.monotonic() - begun < 5.0


def test_more_clients_than_the_customary_limit_of_open_files(mirror: RunningMirror) -> None:
    with ExitStack() as stack:
        for _ in range(1200):
            stack.enter_context(socket.create_connection(("127.0.0.1", mirror.port), timeout=10.0))
        assert fetch(f"{mirror.base_url}/readyz", timeout_s=10.0).status == 200


def test_an_unknown_host_in_ns_is_never_dialled(mirror: RunningMirror) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        host = f"127.0.0.1:{trap.getsockname()[1]}"
        for path in (f"/v2/library/x/manifests/1?ns={host}", f"/v2/{host}/library/x/manifests/1"):
            answer = fetch(mirror.base_url + path)
            assert (answer.status, json.loads(answer.body)["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
        with pytest.raises(TimeoutError):
            trap.accept()
