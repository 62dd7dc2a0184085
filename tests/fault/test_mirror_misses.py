"""Misses through the whole mirror: who leaves, who asks ahead, and who only asks how long a blob is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.client import fetch
from testbed.images import MIB, opaque
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.registry import RealRegistry, real_registry
from testbed.trial import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.slow]

SIZE = 24 * MIB
IMAGE = opaque([SIZE] * 2, seed="misses")
LAYER = IMAGE.layers[0]
PACE = 4 * MIB


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RealRegistry]:
    with real_registry(tmp_path / "world", seed={f"{REPOSITORY}:latest": IMAGE}) as registry:
        registry.wire.set_link(pace_bytes_s=PACE)
        yield registry


def running(tmp_path: Path, world: RealRegistry, *args: str) -> RunningMirror:
    return RunningMirror(tmp_path / "mirror", upstreams={"docker.io": world.url}, args=args, workers=2)


def url_of(mirror: RunningMirror) -> str:
    return f"{mirror.base_url}/v2/docker.io/{REPOSITORY}/blobs/{LAYER}"


def stored(mirror: RunningMirror) -> Path:
    hexadecimal = LAYER.partition(":")[2]
    return mirror.data / "content" / "sha256" / hexadecimal[:2] / hexadecimal


def test_head_never_downloads(tmp_path: Path, world: RealRegistry) -> None:
    with running(tmp_path, world) as mirror:
        for _ in range(3):
            answer = fetch(url_of(mirror), method="HEAD")
            assert (answer.status, answer.promised_bytes) == (200, SIZE)
        time.sleep(0.5)
        assert world.wire.count("GET", LAYER) == 0
        assert not stored(mirror).exists()


@pytest.mark.parametrize(
    ("policy", "leave_after", "finishes"),
    [
        ("finish", MIB, True),
        ("stop", 18 * MIB, False),
        ("finish-if-over=50%", MIB, False),
        ("finish-if-over=50%", 18 * MIB, True),
    ],
)
def test_the_only_client_leaves(
    tmp_path: Path, world: RealRegistry, policy: str, leave_after: int, finishes: bool
) -> None:
    with running(tmp_path, world, "--fetch-connections", "1", "--on-disconnect", policy) as mirror:
        assert fetch(url_of(mirror), stop_after_bytes=leave_after).cut
        wait_for(
            lambda: mirror.metrics()["hunqi_mirror_fetches_in_flight"] == 0, timeout_s=30.0, what="the end of the fetch"
        )
        assert stored(mirror).exists() is finishes
        sent = world.wire.sent_bytes(LAYER)
        assert sent == SIZE if finishes else sent < SIZE
        answer = fetch(url_of(mirror))
        assert answer.digest == LAYER
        if policy == "stop":
            assert world.wire.sent_bytes(LAYER) < SIZE * 1.4, "what was fetched is kept"


def test_a_range_ahead_of_the_fill_is_read_from_the_source_at_once(tmp_path: Path, world: RealRegistry) -> None:
    world.wire.set_link(pace_bytes_s=MIB)
    with running(tmp_path, world) as mirror:
        url = url_of(mirror)
        assert fetch(url, stop_after_bytes=1024).cut
        start = SIZE - 2 * MIB
        ahead = fetch(url, headers={"Range": f"bytes={start}-{start + MIB - 1}"}, deadline_s=60.0)
        assert ahead.status == 206
        assert ahead.body == IMAGE.blobs[LAYER][start : start + MIB]
        assert ahead.took_s < 12.0, "one connection needs 22 s to come there"
