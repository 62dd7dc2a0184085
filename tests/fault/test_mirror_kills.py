"""SIGKILL of a worker, the fetcher and all, in the middle of a download: what was fetched is kept, nothing is wrong."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.client import Answer
from testbed.images import MIB, opaque
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry, real_registry
from testbed.trial import REPOSITORY, get_blob, get_until_right, is_right, wrong_files
from testbed.wire import Wire

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("kills")]

IMAGE = opaque([24 * MIB] * 8, seed="kills")
PACE = 8 * MIB
ONE_CONNECTION = ("--fetch-connections", "1")
FETCHER, FIRST_WORKER = 0, 1


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("world"), seed={f"{REPOSITORY}:latest": IMAGE}) as registry:
        registry.wire.set_link(pace_bytes_s=PACE)
        yield registry


@pytest.fixture
def wire(world: RealRegistry) -> Wire:
    world.wire.forget()
    return world.wire


@pytest.fixture
def mirror(tmp_path: Path, world: RealRegistry) -> Iterator[RunningMirror]:
    with RunningMirror(tmp_path, upstreams={"docker.io": world.url}, args=ONE_CONNECTION, workers=2) as running:
        time.sleep(1.0)  # one worker's being ready does not say that the other listens too
        yield running


def readers(mirror: RunningMirror, digest: str, count: int) -> tuple[list[threading.Thread], list[Answer]]:
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(get_blob(mirror, digest))) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def test_many_readers_make_one_download(mirror: RunningMirror, wire: Wire) -> None:
    digest = IMAGE.layers[0]
    threads, answers = readers(mirror, digest, 16)
    for thread in threads:
        thread.join()
    assert all(is_right(answer, digest) for answer in answers)
    assert wire.sent_bytes(digest) <= 24 * MIB * 1.02


def test_a_killed_worker_does_not_stop_the_fetch_that_others_read(mirror: RunningMirror, wire: Wire) -> None:
    digest = IMAGE.layers[1]
    threads, answers = readers(mirror, digest, 16)
    time.sleep(1.0)
    mirror.kill_one(FIRST_WORKER)
    for thread in threads:
        thread.join()
    whole = [answer for answer in answers if is_right(answer, digest)]
    assert 0 < len(whole) < 16, "SO_REUSEPORT spreads 16 connections over two workers"
    get_until_right(mirror, digest)
    assert wire.sent_bytes(digest) <= 24 * MIB * 1.02


def test_a_killed_fetcher_goes_on_where_its_journal_says(mirror: RunningMirror, wire: Wire) -> None:
    digest = IMAGE.layers[2]
    threads, answers = readers(mirror, digest, 4)
    time.sleep(1.8)
    mirror.kill_one(FETCHER)
    for thread in threads:
        thread.join()
    assert all(is_right(answer, digest) or not answer.is_whole for answer in answers)
    get_until_right(mirror, digest)
    assert wire.sent_bytes(digest) <= 24 * MIB + 2.5 * PACE


@pytest.mark.parametrize("seed", range(4))
def test_all_killed_at_any_moment_loses_at_most_the_unflushed_tail(
    mirror: RunningMirror, wire: Wire, seed: int
) -> None:
    digest = IMAGE.layers[3 + seed]
    threads, answers = readers(mirror, digest, 3)
    time.sleep(random.Random(seed).uniform(0.2, 2.8))
    mirror.kill_all()
    for thread in threads:
        thread.join()
    assert not any(answer.is_whole for answer in answers)
    mirror.restart()
    assert get_until_right(mirror, digest) == 1
    assert wrong_files(mirror.data) == []
    assert wire.sent_bytes(digest) <= 24 * MIB + 2.5 * PACE
    assert not any((mirror.data / "parts").iterdir())
