"""A mirror that stops or reloads lets running answers end, for as long as it was told to wait and no longer; and what
clients were pushing goes on afterwards.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from support_push import Client, with_query
from testbed.client import fetch
from testbed.images import MIB, opaque
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.programs import ProcessFailedError
from testbed.registry import RealRegistry, real_registry
from testbed.trial import REPOSITORY, get_blob, get_manifest

pytestmark = pytest.mark.real
IMAGE = opaque([24 * MIB, 6 * MIB], seed="stop")
LARGE, COLD = IMAGE.layers


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("world"), seed={f"{REPOSITORY}:latest": IMAGE}) as registry:
        yield registry


def mirror_of(world: RealRegistry, directory: Path, *, drain: str) -> RunningMirror:
    args = ["--drain", drain, "--no-read-ahead", "--fetch-connections", "1", "--allow-anonymous-push"]
    return RunningMirror(directory, upstreams={"docker.io": world.url}, args=args, workers=2)


def ask(mirror: RunningMirror, digest: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(mirror.host, timeout=30.0)
    connection.request("GET", f"/v2/docker.io/{REPOSITORY}/blobs/{digest}")
    return connection, connection.getresponse()


def is_refused(mirror: RunningMirror) -> bool:
    try:
        socket.create_connection(("127.0.0.1", mirror.port), timeout=1.0).close()
    except OSError:
        return True
    return False


def test_running_answers_end_and_new_ones_are_refused(world: RealRegistry, tmp_path: Path) -> None:
    world.wire.set_link(pace_bytes_s=4 * MIB)
    try:
        with mirror_of(world, tmp_path, drain="20s") as mirror:
            get_manifest(mirror)
            connection, answer = ask(mirror, COLD)
            with closing(connection), closing(http.client.HTTPConnection(mirror.host, timeout=5.0)) as idle:
                idle.request("GET", "/healthz")
                idle.getresponse().read()
                body = answer.read(MIB)
                begun = time.monotonic()
                ended = threading.Thread(target=lambda: statuses.append(mirror.stop()))
                statuses: list[int] = []
                ended.start()
                wait_for(lambda: is_refused(mirror), timeout_s=5.0, what="a port that is closed")
                body += answer.read()
                ended.join(15.0)
                took = time.monotonic() - begun
        assert f"sha256:{sha256(body).hexdigest()}" == COLD
        assert statuses == [0]
        assert took < 12.0, "the idle connection is not waited for"
    finally:
        world.wire.set_link()


def test_a_client_that_never_ends_is_cut_when_the_time_is_over(world: RealRegistry, tmp_path: Path) -> None:
    with mirror_of(world, tmp_path, drain="1s") as mirror:
        get_manifest(mirror)
        get_blob(mirror, LARGE)
        connection, answer = ask(mirror, LARGE)
        with closing(connection):
            answer.read(1000)
            begun = time.monotonic()
            assert mirror.stop() == 0
            assert time.monotonic() - begun < 10.0
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                answer.read()


def test_a_reload_finishes_answers_and_takes_new_settings(world: RealRegistry, tmp_path: Path) -> None:
    mirror = RunningMirror(
        tmp_path, upstreams={"docker.io": world.url}, config='[mirror]\ndrain = "20s"\n', args=["--no-read-ahead"]
    )
    with mirror:
        get_manifest(mirror)
        get_blob(mirror, LARGE)
        connection, answer = ask(mirror, LARGE)
        with closing(connection):
            first = answer.read(1000)
            (tmp_path / "hunqi.toml").write_text('[mirror]\ndrain = "20s"\nworkers = 3\n')
            assert mirror.cli("reload") == "reloaded\n"
            assert sha256(first + answer.read()).hexdigest() == LARGE.partition(":")[2]
        wait_for(lambda: len(mirror.children()) == 4, timeout_s=15.0, what="three workers and a fetcher")
        (tmp_path / "hunqi.toml").write_text("[mirror]\nworkers = 0\n")
        children = mirror.children()
        with pytest.raises(ProcessFailedError, match="workers"):
            mirror.cli("reload")
        assert mirror.children() == children
        assert fetch(f"{mirror.base_url}/readyz").status == 200


@pytest.mark.parametrize(
    ("way", "algorithm"), [("stop", "sha256"), ("reload", "sha512"), ("kill-one", "sha256"), ("kill-all", "sha512")]
)
def test_an_upload_goes_on_after_a_restart(world: RealRegistry, tmp_path: Path, way: str, algorithm: str) -> None:
    pieces = [os.urandom(300_000) for _ in range(3)]
    with mirror_of(world, tmp_path, drain="5s") as mirror:
        client = Client(mirror.base_url)
        location = client.start("team/app")
        sent = 0
        for number, piece in enumerate(pieces):
            reply = client.ask("PATCH", location, piece, Content_Range=f"{sent}-{sent + len(piece) - 1}")
            assert reply.status == 202, reply
            sent += len(piece)
            if number < 2:
                restart(mirror, way)
            there = client.ask("GET", location)
            assert (there.status, there["Range"]) == (204, f"0-{sent - 1}")
        digest = f"{algorithm}:{hashlib.new(algorithm, b''.join(pieces)).hexdigest()}"
        assert client.ask("PUT", with_query(location, digest=digest)).status == 201
        restart(mirror, "kill-all")
        assert fetch(f"{mirror.base_url}/v2/team/app/blobs/{digest}").body == b"".join(pieces)


def restart(mirror: RunningMirror, way: str) -> None:
    match way:
        case "stop":
            mirror.restart()
        case "reload":
            before = set(mirror.children())
            mirror.reload()
            wait_for(
                lambda: len(mirror.children()) == 3 and not before & set(mirror.children()),
                timeout_s=15.0,
                what="other processes",
            )
        case "kill-one":
            before = mirror.children()
            mirror.kill_one(1)
            wait_for(
                lambda: len(mirror.children()) == 3 and mirror.children() != before,
                timeout_s=10.0,
                what="a new worker",
            )
        case _:
            mirror.kill_all()
            mirror.start()
    wait_for(mirror.is_ready, timeout_s=10.0, what="a mirror that is ready")
