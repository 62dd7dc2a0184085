"""Pushes that break in the middle: what was written stays, and the upload goes on where it stopped."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import support_push
from hunqi.oci.digest import Digest
from support_push import Client, PushServer, push_server

MIB = 1024 * 1024
DATA = random.Random(3).randbytes(3 * MIB + 17)
REPO = "fault/blobs"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PushServer]:
    with push_server(tmp_path / "data", stall_timeout_s=1.0) as running:
        yield running


def open_patch(client: Client, location: str, length: int | None, method: str = "PATCH") -> socket.socket:
    """Begin a request and leave its body to the caller; ``None`` is a chunked body."""
    host, _, port = client.host.partition(":")
    connection = socket.create_connection((host, int(port)), timeout=15)
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    connection.sendall(f"{method} {location} HTTP/1.1\r\nHost: {client.host}\r\n{size}\r\n\r\n".encode())
    return connection


def written(client: Client, location: str) -> int:
    """How many bytes an upload has."""
    reply = client.ask("GET", location)
    assert reply.status == 204, reply
    last = int((reply["Range"] or "").removeprefix("0-"))
    return last + 1 if last else 0


def wait_until_written(client: Client, location: str, at_least: int) -> int:
    deadline = time.monotonic() + 10
    while (size := written(client, location)) < at_least:
        assert time.monotonic() < deadline, f"only {size} bytes were written"
        time.sleep(0.02)
    return size


def go_on(client: Client, location: str, data: bytes = DATA) -> None:
    """Finish an upload from where it is, and pull what came of it."""
    offset = written(client, location)
    reply = client.ask("PATCH", location, data[offset:], Content_Range=f"{offset}-{len(data) - 1}")
    assert reply.status == 202, reply
    digest = Digest.of(data)
    assert client.finish(reply["Location"] or "", digest).status == 201
    assert client.ask("GET", f"/v2/{REPO}/blobs/{digest}").body == data


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_client_that_leaves_in_the_middle_of_a_patch_goes_on_later(server: PushServer, chunked: bool) -> None:
    location = server.client.start(REPO)
    sent = 2 * MIB + 12_345
    body = b"%x\r\n" % (len(DATA)) + DATA[:sent] if chunked else DATA[:sent]
    with open_patch(server.client, location, None if chunked else len(DATA)) as connection:
        connection.sendall(body)
        wait_until_written(server.client, location, MIB)
    # A FIN or RST may overtake at most what the server had not read from its socket yet.
    size = wait_until_written(server.client, location, MIB)
    assert size <= sent
    go_on(server.client, location)


def test_a_body_that_is_not_http_is_refused_and_the_upload_goes_on(server: PushServer) -> None:
    location = server.client.start(REPO)
    with open_patch(server.client, location, None) as connection:
        connection.sendall(b"100000\r\n" + DATA[:MIB] + b"\r\nnot a chunk\r\n" + DATA[:100])
        answer = connection.recv(4096)
        # aiohttp's parser drops the rest silently, so the end is that of a silent client.
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))
    assert wait_until_written(server.client, location, 1) <= MIB
    go_on(server.client, location)


def test_a_client_that_falls_silent_is_told_so_and_keeps_what_it_sent(server: PushServer) -> None:
    location = server.client.start(REPO)
    with open_patch(server.client, location, len(DATA)) as connection:
        connection.sendall(DATA[:1000])
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert written(server.client, location) == 1000
    go_on(server.client, location)


def test_a_closing_put_that_breaks_leaves_the_upload(server: PushServer) -> None:
    location = server.client.start(REPO)
    target = support_push.with_query(location, digest=str(Digest.of(DATA)))
    with open_patch(server.client, target, len(DATA), "PUT") as connection:
        connection.sendall(DATA[: 2 * MIB])
        wait_until_written(server.client, location, MIB)
    time.sleep(0.1)
    assert server.client.ask("HEAD", f"/v2/{REPO}/blobs/{Digest.of(DATA)}").status == 404
    go_on(server.client, location)


def test_a_post_that_breaks_leaves_nothing(server: PushServer) -> None:
    target = f"/v2/{REPO}/blobs/uploads/?digest={Digest.of(DATA)}"
    with open_patch(server.client, target, len(DATA), "POST") as connection:
        connection.sendall(DATA[:MIB])
        time.sleep(0.2)
    deadline = time.monotonic() + 10
    while any((server.data / "uploads").iterdir()):
        assert time.monotonic() < deadline, "the upload that nobody knows of is still there"
        time.sleep(0.05)
    assert server.client.ask("HEAD", f"/v2/{REPO}/blobs/{Digest.of(DATA)}").status == 404


def test_of_two_streams_into_one_upload_one_is_refused_and_nothing_is_interleaved(server: PushServer) -> None:
    location = server.client.start(REPO)
    ones, twos = b"1" * (4 * MIB), b"2" * (4 * MIB)
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda body: server.client.ask("PATCH", location, iter([body])), (ones, twos)))
    statuses = sorted(reply.status for reply in replies)
    # Each may be over before the other began; else exactly one continues what the other wrote.
    assert statuses in ([202, 202], [202, 416])
    (only,) = (server.data / "uploads").iterdir()
    kept = (only / "data").read_bytes()
    if statuses == [202, 202]:
        assert sorted([kept[: 4 * MIB], kept[4 * MIB :]]) == [ones, twos]
    else:
        # The loser's pieces, if any, stand before the winner's stream, which is whole and in one run.
        winner, loser = (b"1", b"2") if replies[0].status == 202 else (b"2", b"1")
        assert kept == loser * (len(kept) - 4 * MIB) + winner * (4 * MIB)
    assert server.client.ask("DELETE", location).status == 204


def test_two_chunks_for_the_same_place_at_once_one_is_kept(server: PushServer) -> None:
    for _ in range(10):
        location = server.client.start(REPO)
        bodies = [bytes([number]) * 300_000 for number in (1, 2)]

        def send(body: bytes, location: str = location) -> int:
            return server.client.ask("PATCH", location, body, Content_Range=f"0-{len(body) - 1}").status

        with ThreadPoolExecutor(2) as pool:
            statuses = sorted(pool.map(send, bodies))
        assert statuses == [202, 416]
        (only,) = (server.data / "uploads").iterdir()
        kept = (only / "data").read_bytes()
        assert len(set(kept)) == 1
        assert len(kept) == 300_000
        assert server.client.ask("DELETE", location).status == 204


def test_many_idle_uploads_do_not_hold_the_threads(server: PushServer) -> None:
    with push_server(server.data.parent / "idle", stall_timeout_s=20.0) as patient:
        locations = [patient.client.start(REPO) for _ in range(40)]
        idle = [open_patch(patient.client, location, len(DATA)) for location in locations]
        try:
            for connection in idle:
                connection.sendall(DATA[:100])
            begun = time.monotonic()
            patient.client.push_blob(REPO, DATA)
            assert time.monotonic() - begun < 5
        finally:
            for connection in idle:
                connection.close()


@contextmanager
def process(data: Path) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """A server in a process of its own, which is killed at the end."""
    command = [sys.executable, support_push.__file__, str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, Client(running.stdout.readline().strip())
        finally:
            running.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_in_the_middle_of_an_upload_loses_only_the_tail(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    kept = 0
    with process(tmp_path / "data") as (running, client):
        other = client.push_blob(REPO, b"acknowledged before the kill")
        location = client.start(REPO)
        with open_patch(client, location, len(DATA)) as connection:
            connection.sendall(DATA[: chance.randrange(MIB, len(DATA))])
            kept = wait_until_written(client, location, MIB // 2)
            running.send_signal(signal.SIGKILL)
            running.wait(10)
    with process(tmp_path / "data") as (_, client):
        assert written(client, location) >= kept
        assert client.ask("GET", f"/v2/{REPO}/blobs/{other}").status == 200
        assert client.ask("GET", f"/v2/{REPO}/blobs/{Digest.of(DATA)}").status == 404
        go_on(client, location)


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_in_the_middle_of_a_closing_put_leaves_all_or_nothing_and_no_wrong_blob(
    tmp_path: Path, seed: int
) -> None:
    digest = Digest.of(DATA)
    with process(tmp_path / "data") as (running, client):
        location = client.start(REPO)
        assert client.ask("PATCH", location, DATA).status == 202
        killer = threading.Timer(random.Random(seed).uniform(0.0, 0.02), running.send_signal, [signal.SIGKILL])
        killer.start()
        with suppress(OSError):
            client.finish(location, digest)
        killer.join()
        running.wait(10)
    with process(tmp_path / "data") as (_, client):
        if client.ask("HEAD", f"/v2/{REPO}/blobs/{digest}").status == 404:
            # Between the file's move and the commit an upload that nobody was told of may go: the client begins again.
            gone = client.ask("GET", location).status == 404
            go_on(client, client.start(REPO) if gone else location)
        assert client.ask("GET", f"/v2/{REPO}/blobs/{digest}").body == DATA


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(mounted)], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def test_a_full_disk_is_told_in_the_registrys_form_and_nothing_is_lost(small_disk: Path) -> None:
    with push_server(small_disk / "data") as server:
        client = server.client
        before = client.push_blob(REPO, b"before" * 1000)
        location = client.start(REPO)
        assert client.ask("PATCH", location, DATA[:MIB]).status == 202
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            file.write(bytes(shutil.disk_usage(small_disk).free - MIB // 2))
        reply = client.ask("PATCH", location, DATA[MIB:], Content_Range=f"{MIB}-{len(DATA) - 1}")
        assert (reply.status, reply.code) == (507, "UNAVAILABLE")
        assert written(client, location) >= MIB
        reply = client.ask("POST", f"/v2/{REPO}/blobs/uploads/?digest={Digest.of(DATA)}", DATA)
        assert (reply.status, reply.code) == (507, "UNAVAILABLE")
        assert client.ask("GET", f"/v2/{REPO}/blobs/{before}").body == b"before" * 1000
        filler.unlink()
        go_on(client, location)
