"""Broken sources: each failure has its own error, in time, and leaves nothing open."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hunqi.mirror.names import Target
from hunqi.mirror.settings import Deadlines
from hunqi.mirror.sources.errors import (
    Blame,
    Forbidden,
    LoopDetected,
    NotFound,
    Phase,
    SourceCut,
    SourceError,
    SourceMisbehaves,
    SourceServerError,
    SourceTimeout,
    SourceUnreachable,
    StreamAborted,
    TooManyRequests,
)
from hunqi.mirror.sources.source import Source
from hunqi.mirror.sources.stream import BlobStream
from hunqi.oci.reference import Tag
from support_sources import (
    Answer,
    Authority,
    Seen,
    blob,
    blob_answer,
    raw_server,
    read,
    read_request,
    serving,
    source_of,
)

DATA = bytes(range(256)) * 1024
THING = Target("up.test", "library/thing")
LATEST = Tag("latest")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"

Script = Callable[[socket.socket], None]


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def silent(sock: socket.socket) -> None:
    read_request(sock)
    sock.recv(1)


def dripping_header(sock: socket.socket) -> None:
    read_request(sock)
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
        sock.sendall(bytes([byte]))
        time.sleep(0.05)


def after_header(then: Script, header: bytes = HEAD) -> Script:
    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(header)
        then(sock)

    return script


def opened_and_read(source: Source) -> None:
    with source.open_blob(blob(DATA)) as stream:
        read(stream)


def read_on(stream: BlobStream, received: bytearray) -> None:
    """Read until the stream fails."""
    buffer = memoryview(bytearray(65536))
    while count := stream.readinto(buffer):
        received += buffer[:count]


def test_nobody_listens() -> None:
    with source_of(f"http://127.0.0.1:{unused_port()}") as source:
        began = time.monotonic()
        with pytest.raises(SourceUnreachable):
            opened_and_read(source)
        assert time.monotonic() - began < 0.5
        assert source.connections_in_use == 0


def test_the_name_does_not_exist() -> None:
    with source_of("http://no-such-host.invalid") as source, pytest.raises(SourceUnreachable):
        source.probe()


def test_a_connection_that_is_never_accepted_costs_the_connect_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        time.sleep(0.05)
        with source_of(f"http://127.0.0.1:{address[1]}", deadlines=Deadlines(connect_s=0.3)) as source:
            began = time.monotonic()
            with pytest.raises(SourceUnreachable):
                opened_and_read(source)
            assert 0.2 < time.monotonic() - began < 1.5
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("script", [silent, dripping_header])
def test_a_late_first_byte(script: Script) -> None:
    with raw_server(script) as url, source_of(url) as source:
        began = time.monotonic()
        with pytest.raises(SourceTimeout) as caught:
            opened_and_read(source)
        assert caught.value.phase is Phase.FIRST_BYTE
        assert caught.value.blame is Blame.HARD
        assert 0.4 < time.monotonic() - began < 1.5, "as a whole, however it drips"


def test_a_stall_in_the_middle_keeps_what_came() -> None:
    def half(sock: socket.socket) -> None:
        sock.sendall(b"x" * 40_000)
        sock.recv(1)

    with raw_server(after_header(half)) as url, source_of(url) as source:
        stream, received = source.open_blob(blob(DATA)), bytearray()
        with pytest.raises(SourceTimeout) as caught:
            read_on(stream, received)
        assert (len(received), caught.value.phase) == (40_000, Phase.STALL)
        stream.close()
        assert source.connections_in_use == 0


def test_a_slow_trickle_is_no_stall() -> None:
    def trickle(sock: socket.socket) -> None:
        for _ in range(6):
            sock.sendall(b"x")
            time.sleep(0.15)

    header = HEAD.replace(b"100000", b"6")
    with (
        raw_server(after_header(trickle, header)) as url,
        source_of(url) as source,
        source.open_blob(blob(DATA)) as stream,
    ):
        assert read(stream) == b"x" * 6


def test_a_trickling_manifest_has_a_deadline_as_a_whole() -> None:
    def trickle(sock: socket.socket) -> None:
        while True:
            sock.sendall(b"x")
            time.sleep(0.1)

    with raw_server(after_header(trickle)) as url, source_of(url) as source:
        began = time.monotonic()
        with pytest.raises(SourceTimeout):
            source.get_manifest(THING, LATEST)
        assert time.monotonic() - began < 2.5


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_in_the_middle_keeps_what_came(reset: bool) -> None:
    def cut(sock: socket.socket) -> None:
        sock.sendall(b"x" * 40_000)
        time.sleep(0.1)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with raw_server(after_header(cut)) as url, source_of(url) as source:
        stream, received = source.open_blob(blob(DATA)), bytearray()
        with pytest.raises(SourceCut):
            read_on(stream, received)
        assert len(received) == 40_000
        stream.close()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"5\r\nhello\r\n", SourceCut),
        (b"5\r\nhel", SourceCut),
        (b"zz\r\nhello\r\n0\r\n\r\n", SourceError),
        (b"5\r\nhello\r\n" + b"1" * 100_000, SourceError),
    ],
)
def test_broken_chunks(body: bytes, error: type[SourceError]) -> None:
    header = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with (
        raw_server(after_header(lambda sock: sock.sendall(body), header)) as url,
        source_of(url) as source,
        pytest.raises(error),
    ):
        opened_and_read(source)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 banana OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\x00" * 1000,
    ],
)
def test_no_http(reply: bytes) -> None:
    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(reply)

    with raw_server(script) as url, source_of(url) as source:
        with pytest.raises((SourceMisbehaves, SourceCut)):
            opened_and_read(source)
        assert source.connections_in_use == 0


def test_plain_http_where_tls_is_expected() -> None:
    with (
        serving(lambda _: Answer(200)) as server,
        source_of(server.url.replace("http:", "https:")) as source,
        pytest.raises(SourceUnreachable),
    ):
        source.probe()


@pytest.mark.parametrize("content_type", ["text/html", "Text/HTML; charset=utf-8"])
def test_html_for_a_blob(content_type: str) -> None:
    with (
        serving(lambda _: Answer(200, b"<html>", {"Content-Type": content_type})) as server,
        source_of(server.url) as source,
        pytest.raises(SourceMisbehaves),
    ):
        opened_and_read(source)


@pytest.mark.parametrize(
    ("status", "error", "blame"),
    [
        (403, Forbidden, Blame.ANSWERED),
        (404, NotFound, Blame.ANSWERED),
        (410, NotFound, Blame.ANSWERED),
        (408, SourceServerError, Blame.SOFT),
        (429, TooManyRequests, Blame.ANSWERED),
        (500, SourceServerError, Blame.SOFT),
        (503, SourceServerError, Blame.SOFT),
        (508, LoopDetected, Blame.OURS),
        (204, SourceMisbehaves, Blame.SOFT),
        (418, SourceMisbehaves, Blame.SOFT),
    ],
)
def test_every_status_has_its_error(status: int, error: type[SourceError], blame: Blame) -> None:
    with serving(lambda _: Answer(status)) as server, source_of(server.url) as source:
        for ask in (
            opened_and_read,
            lambda it: it.get_manifest(THING, LATEST),
            lambda it: it.head_manifest(THING, LATEST),
        ):
            with pytest.raises(error) as caught:
                ask(source)
            assert caught.value.blame is blame
            assert caught.value.source == source.id
        assert source.connections_in_use == 0


def test_a_server_that_recovers_is_used_again() -> None:
    answers = iter([Answer(500), Answer(200, DATA)])
    with serving(lambda _: next(answers)) as server, source_of(server.url) as source:
        with pytest.raises(SourceServerError):
            opened_and_read(source)
        with source.open_blob(blob(DATA)) as stream:
            assert read(stream) == DATA


def test_a_redirect_to_a_dead_host_is_unreachable_and_forgotten() -> None:
    with serving(lambda seen: blob_answer(seen, DATA)) as cdn:
        places = [f"{cdn.url}/x"]
        with (
            serving(lambda _: Answer(307, b"", {"Location": places[0]})) as server,
            source_of(server.url) as source,
        ):
            opened_and_read(source)
            cdn.close()
            source.close()
            places[0] = f"{server.url}/x"
            with pytest.raises((SourceUnreachable, SourceCut)):
                source.open_blob(blob(DATA), start=1)
            server.respond = lambda seen: blob_answer(seen, DATA)
            with source.open_blob(blob(DATA), start=1) as stream:
                assert read(stream) == DATA[1:]


# Abort


@pytest.mark.parametrize("tls", [False, True])
def test_abort_wakes_a_blocked_read(tls: bool, tmp_path: Path) -> None:
    release = threading.Event()

    def respond(_: Seen) -> Answer:
        return Answer(200, b"x" * 10, {"Content-Length": "100000"})

    authority = Authority.create(tmp_path)
    context = authority.server_context() if tls else None
    options = {"ca_file": authority.ca_file} if tls else {}
    with serving(respond, context=context) as server:
        serve = server._serve
        server._serve = lambda handler, number: (serve(handler, number), release.wait(10))[0]
        with source_of(server.url, deadlines=Deadlines(stall_s=10), **options) as source:
            stream = source.open_blob(blob(DATA))
            assert stream.readinto(memoryview(bytearray(100))) == 10
            threading.Timer(0.2, stream.abort).start()
            began = time.monotonic()
            with pytest.raises(StreamAborted):
                stream.readinto(memoryview(bytearray(100)))
            assert 0.1 < time.monotonic() - began < 2
            with pytest.raises(StreamAborted):
                stream.readinto(memoryview(bytearray(100)))
            stream.close()
            assert source.connections_in_use == 0
        release.set()


def test_abort_wakes_a_wait_for_bandwidth() -> None:
    with serving(lambda seen: blob_answer(seen, DATA)) as server, source_of(server.url, bandwidth_limit=1000) as source:
        stream = source.open_blob(blob(DATA))
        threading.Timer(0.3, stream.abort).start()
        began = time.monotonic()
        with pytest.raises(StreamAborted):
            read(stream, size=100_000)
        assert time.monotonic() - began < 2
        stream.close()


# Leaks


def open_sockets() -> int:
    gc.collect()
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            count += str(link.readlink()).startswith("socket:")
    return count


def test_failures_leave_no_socket_open() -> None:
    def cut(sock: socket.socket) -> None:
        sock.sendall(b"x" * 1000)

    before = open_sockets()
    with raw_server(after_header(cut)) as url, source_of(url) as source:
        for _ in range(20):
            with pytest.raises(SourceCut):
                opened_and_read(source)
    with raw_server(silent) as url, source_of(url, deadlines=Deadlines(first_byte_s=0.05)) as source:
        for _ in range(5):
            with pytest.raises(SourceTimeout):
                opened_and_read(source)
    assert open_sockets() <= before
