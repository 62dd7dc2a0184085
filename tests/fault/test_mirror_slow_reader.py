"""A client that reads slowly while a download turns out to be wrong and is done again: it is cut, never misled."""

from __future__ import annotations

import socket
from hashlib import sha256
from pathlib import Path

import pytest

from testbed.images import MIB, opaque
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.trial import REPOSITORY, get_manifest
from testbed.zoo import ANIMALS, ZooRegistry

pytestmark = pytest.mark.real
IMAGE = opaque([24 * MIB], seed="slow-reader")
BLOB = IMAGE.layers[0]
READ_FIRST = 64 * 1024
ARGS = ("--no-read-ahead", "--fetch-connections", "1")


def test_a_reader_whose_first_bytes_were_wrong_never_gets_a_complete_body(tmp_path: Path) -> None:
    with (
        ZooRegistry([IMAGE], ANIMALS["wrong-bytes-at-the-start-once"]) as liar,
        ZooRegistry([IMAGE]) as honest,
        RunningMirror(
            tmp_path, upstreams={"docker.io": honest.url}, relays=[("docker.io", liar.url)], args=ARGS, workers=1
        ) as mirror,
    ):
        get_manifest(mirror)
        with _opened(mirror) as client:
            head, _, first = _read(client, READ_FIRST).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            wait_for(lambda: _is_stored(mirror), timeout_s=30.0, what="the second download")
            body = first + _read_all(client)
        assert len(body) < 24 * MIB or f"sha256:{sha256(body).hexdigest()}" == BLOB


def _opened(mirror: RunningMirror) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", mirror.port), timeout=30.0)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    path = f"/v2/docker.io/{REPOSITORY}/blobs/{BLOB}"
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: {mirror.host}\r\nConnection: close\r\n\r\n".encode())
    return client


def _read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := client.recv(64 * 1024)):
        data += piece
    return data


def _read_all(client: socket.socket) -> bytes:
    data = bytearray()
    try:
        while piece := client.recv(1024 * 1024):
            data += piece
    except ConnectionResetError:
        pass
    return bytes(data)


def _is_stored(mirror: RunningMirror) -> bool:
    hexadecimal = BLOB.partition(":")[2]
    return (mirror.data / "content" / "sha256" / hexadecimal[:2] / hexadecimal).exists()
