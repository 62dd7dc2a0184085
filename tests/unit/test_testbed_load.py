"""The load generator finds each failure that a server can be made to have, and names it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import signal
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from testbed.app import binary
from testbed.collector import collector
from testbed.load import Load, Report, load, percentile
from testbed.processes import wait_for
from testbed.programs import Daemon, accepts, free_port

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
EVERY = 10


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.count = 0
        self.lock = threading.Lock()

    @property
    def target(self) -> tuple[str, int]:
        return ("127.0.0.1", int(self.server_address[1]))


class _Handler(socketserver.StreamRequestHandler):
    """Answers well, but does every tenth request what its path says."""

    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self._one():
                pass

    def _one(self) -> bool:
        first = self.rfile.readline().decode()
        if not first:
            return False
        headers: dict[str, str] = {}
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self.rfile.read(int(headers.get("content-length", "0")))
        path = first.split()[1]
        if headers.get("upgrade") == "websocket":
            self._websocket(path, headers["sec-websocket-key"])
            return False
        with self.server.lock:
            self.server.count += 1
            bad = self.server.count % EVERY == 0
        return self._answer(path if bad else "/ok", headers["x-load-id"])

    def _answer(self, path: str, name: str) -> bool:
        match path:
            case "/reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return False
            case "/close":
                return False
            case "/cut":
                self.wfile.write(f"HTTP/1.1 200 OK\r\nX-Load-Id: {name}\r\nContent-Length: 9\r\n\r\nhalf".encode())
                return False
            case "/stall":
                time.sleep(1.5)
            case "/garbage":
                self.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")
                return False
            case _:
                pass
        status = "503 No" if path == "/unavailable" else "200 OK"
        told = "another" if path == "/wrong" else name
        seen = 2 if path == "/twice" else 1
        head = f"HTTP/1.1 {status}\r\nX-Load-Id: {told}\r\nX-Task: t1\r\nX-Seen: {seen}\r\n"
        if path == "/chunked":
            self.wfile.write(f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".encode())
        else:
            self.wfile.write(f"{head}Content-Length: 2\r\n\r\nok".encode())
        return True

    def _websocket(self, path: str, key: str) -> None:
        answer = base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode()).digest()).decode()
        if path == "/ws-refused":
            self.wfile.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
            return
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.wfile.write(f"{head}Sec-WebSocket-Accept: {answer}\r\n\r\n".encode())
        if path == "/ws-closed":
            self.wfile.write(b"\x88\x06" + struct.pack("!H", 1012) + b"soon")
            self.rfile.read(8)
        elif path == "/ws-stalled":
            time.sleep(3.0)


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def loaded(server: _Server, path: str, *, posts: float = 0.0, timeout_s: float = 1.0) -> Report:
    spec = Load(targets=(server.target,), path=path, rate=200, duration_s=0.5, posts=posts, timeout_s=timeout_s)
    with load(spec) as running:
        return running.wait(timeout_s=20.0)


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/reset", "reset", 0),
        ("/close", "closed", 0),
        ("/cut", "cut", 0),
        ("/stall", "timeout", 0),
        ("/garbage", "garbage", 0),
        ("/wrong", "wrong", 200),
        ("/unavailable", "status", 503),
    ],
)
def test_each_failure_is_found_and_named(server: _Server, path: str, kind: str, status: int) -> None:
    report = loaded(server, path)
    assert len(report.outcomes) == 100
    assert [found.kind for found in report.failures] == [kind] * 10, report.listed()
    assert {found.status for found in report.failures} == {status}
    assert f"{kind} " in report.listed()
    assert f"10 {kind}" in report.summary()


@pytest.mark.parametrize("path", ["/ok", "/chunked"])
def test_right_answers_are_not_failures(server: _Server, path: str) -> None:
    report = loaded(server, path, posts=0.3)
    assert not report.failures, report.listed()
    assert not report.duplicates
    assert sum(found.method == "POST" for found in report.outcomes) == 30
    assert sum(found.fresh for found in report.outcomes) == 20
    assert {found.task for found in report.outcomes} == {"t1"}


def test_a_post_that_came_twice_is_found(server: _Server) -> None:
    report = loaded(server, "/twice", posts=1.0)
    assert len(report.duplicates) == 10


def test_latency_is_counted_from_the_intended_start(server: _Server) -> None:
    report = loaded(server, "/stall", timeout_s=5.0)
    slow = [found for found in report.outcomes if found.latency_s > 1.4]
    assert len(slow) == 10
    assert not report.failures
    begun = report.outcomes[0].at
    for number, found in enumerate(report.outcomes):
        assert found.at == pytest.approx(begun + number / 200, abs=1e-4)


def test_nobody_there_is_refused() -> None:
    with load(Load(targets=(("127.0.0.1", free_port()),), rate=50, duration_s=0.5, websockets=1)) as running:
        report = running.wait(timeout_s=20.0)
    assert {found.kind for found in report.outcomes} == {"refused"}
    assert {found.end for found in report.sockets} == {"refused"}


@pytest.mark.parametrize(
    ("path", "end", "code"),
    [
        ("/ws-cut", "cut", 0),
        ("/ws-closed", "closed", 1012),
        ("/ws-stalled", "stalled", 0),
        ("/ws-refused", "refused", 0),
    ],
)
def test_a_close_frame_is_told_from_a_cut(server: _Server, path: str, end: str, code: int) -> None:
    spec = Load(targets=(server.target,), rate=0, duration_s=2.0, websockets=2, websocket_path=path, timeout_s=0.6)
    with load(spec) as running:
        report = running.wait(timeout_s=20.0)
    assert len(report.sockets) >= 2
    assert {(found.end, found.code) for found in report.sockets[:2]} == {(end, code)}


def test_it_stops_when_told_to_and_parts_by_time(server: _Server) -> None:
    with load(Load(targets=(server.target,), rate=100, duration_s=600.0)) as running:
        time.sleep(1.0)
        middle = time.monotonic()
        time.sleep(0.5)
        report = running.stop()
    assert 100 < len(report.outcomes) < 1000
    first, second = report.between(0.0, middle), report.between(middle, middle + 600.0)
    assert len(first.outcomes) + len(second.outcomes) == len(report.outcomes)
    assert second.outcomes


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 99.5, 100)] == [1.0, 50.0, 99.0, 100.0, 100.0]
    assert percentile([], 50) == 0.0
    assert percentile([7.0], 99) == 7.0


def test_it_makes_a_thousand_requests_a_second_with_little_of_its_own(app: Daemon, app_port: int) -> None:
    with load(Load(targets=(("127.0.0.1", app_port),), rate=1000, duration_s=3.0)) as running:
        report = running.wait(timeout_s=20.0)
    assert len(report.outcomes) == 3000
    assert not report.failures, report.listed()
    assert report.cpu_s / report.took_s < 0.5
    assert report.latency_ms(50) < 2.0


@pytest.fixture
def app_port() -> int:
    return free_port()


@pytest.fixture
def app(app_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with _app(app_port, tmp_path_factory) as running:
        yield running


@contextlib.contextmanager
def _app(port: int, factory: pytest.TempPathFactory, **env: str) -> Iterator[Daemon]:
    log = factory.mktemp("app") / "log"
    daemon = Daemon([str(binary())], log=log, env={"PORT": str(port), "TASK": "t1", **env})
    try:
        daemon.wait_until(lambda: accepts("127.0.0.1", port), timeout_s=5.0)
        yield daemon
    finally:
        daemon.stop()


def test_the_app_closes_its_sockets_by_frames_and_tells_what_it_had_open(
    app_port: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = ("127.0.0.1", app_port)
    with collector() as told, _app(app_port, tmp_path_factory, COLLECT=told.address, STOP_DELAY_MS="500") as daemon:
        with load(Load(targets=(target,), rate=100, posts=0.5, websockets=3, timeout_s=2.0)) as running:
            time.sleep(0.7)
            os.kill(daemon.pid, signal.SIGURG)
            time.sleep(0.3)
            stopped_at = time.monotonic()
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.process.wait(5.0)
            report = running.stop()
        wait_for(lambda: bool(told.told("end")), timeout_s=2.0, what="the app's last word")
        signals = [(found.more["signal"], found.more["websockets"]) for found in told.told("signal")]
    assert signals == [(int(signal.SIGURG), 3), (int(signal.SIGTERM), 3)]
    closed = [found for found in report.sockets if found.end == "closed"]
    assert [found.code for found in closed] == [1001] * 3
    assert all(found.ended_at - stopped_at >= 0.45 for found in closed)
    assert told.told("end")[0].more == {"unclosed": 0, "unanswered": 0}
    before = report.between(0.0, stopped_at - 0.1)
    assert not before.failures, before.listed()
    assert not told.missing([found.id for found in before.outcomes if found.method == "POST"])
    assert not told.duplicates()
    assert "refused" in {found.kind for found in report.failures}


def test_the_app_is_late_ill_and_wrong_when_told_to_be(app_port: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    env = {"LATENCY_MS": "50", "ERROR_PERMILLE": "200", "HEALTH_AFTER_MS": "60000"}
    with _app(app_port, tmp_path_factory, **env):
        target = ("127.0.0.1", app_port)
        with load(Load(targets=(target,), rate=50, duration_s=1.0)) as running:
            report = running.wait(timeout_s=20.0)
        with load(Load(targets=(target,), rate=20, duration_s=0.5, path="/health")) as running:
            health = running.wait(timeout_s=20.0)
    assert [found.status for found in report.failures] == [500] * 10
    assert min(found.latency_s for found in report.outcomes) >= 0.05
    assert {found.status for found in health.outcomes} == {503}
