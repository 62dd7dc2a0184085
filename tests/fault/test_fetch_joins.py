"""One download for any number of joins; readers, policies and bounds of the table."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hunqi.mirror.fetch.errors import AbandonedError, NoSourceError, StoppedError
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.fetch.state import FetchState, FetchStatus
from hunqi.mirror.settings import MIB, FetchSettings, OnDisconnect
from support_fetch import PLAIN, RANGES, BlobServer, bench, payload, remote, source

BIG = payload(24 * MIB)
SMALL = payload(MIB, seed=1)


@pytest.mark.parametrize("settings", [PLAIN, RANGES], ids=["plain", "ranges"])
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
def test_many_joins_are_one_download(tmp_path: Path, settings: FetchSettings, sized: bool) -> None:
    with (
        BlobServer(BIG, pace_bytes_s=64 * MIB) as server,
        bench(tmp_path, [source(server.url)], settings=settings) as b,
        ThreadPoolExecutor(16) as pool,
    ):
        fetches = list(pool.map(lambda n: b.join(BIG, repo=f"docker.io/team/{n}", sized=sized), range(32)))
        assert len(set(fetches)) == 1
        state = fetches[0].wait(20)
        assert state.status is FetchStatus.DONE
        assert (state.size, state.extents, state.verified) == (len(BIG), ((0, len(BIG)),), True)
        assert server.server.sent_bytes() == len(BIG)
        assert b.kept(BIG) == BIG
        assert {*b.commits[0][2], *b.links} == {f"docker.io/team/{n}" for n in range(32)}
        assert fetches[0].closed.wait(5)
        assert b.fetches.active() == []
        assert b.fetches.part_bytes() == 0


def test_a_repository_that_joins_during_the_commit_is_linked(tmp_path: Path) -> None:
    with BlobServer(SMALL) as server, bench(tmp_path, [source(server.url)]) as b:
        b.hold_commit = threading.Event()
        fetch = b.join(SMALL, repo="docker.io/a/a")
        assert b.committing.wait(5)
        assert fetch.state().verified
        assert b.join(SMALL, repo="docker.io/b/b") is fetch
        b.hold_commit.set()
        assert fetch.wait(5).status is FetchStatus.DONE
        assert [repos for _, _, repos in b.commits] == [("docker.io/a/a",)]
        assert b.links == ["docker.io/b/b"]


def test_a_blob_that_is_stored_is_linked_and_not_asked_for(tmp_path: Path) -> None:
    with BlobServer(SMALL) as server, bench(tmp_path, [source(server.url)]) as b:
        b.join(SMALL).wait(5)
        server.server.forget()
        assert b.join(SMALL, repo="docker.io/late/late").wait(5).status is FetchStatus.DONE
        assert server.server.records == []
        assert b.links == ["docker.io/late/late"]


def test_the_empty_blob_needs_no_request(tmp_path: Path) -> None:
    with BlobServer(b"") as server, bench(tmp_path, [source(server.url)]) as b:
        assert b.join(b"", sized=False).wait(5).status is FetchStatus.DONE
        assert server.server.records == []
        assert b.kept(b"") == b""


def test_sha512_and_readers_of_the_renamed_file(tmp_path: Path) -> None:
    with BlobServer(SMALL) as server, bench(tmp_path, [source(server.url)]) as b:
        blob = remote(SMALL, algorithm="sha512")
        fetch = b.fetches.join(blob, repo="docker.io/library/demo", size=len(SMALL))
        assert fetch.wait(5).status is FetchStatus.DONE
        assert (b.content / blob.digest.hex).read_bytes() == SMALL


def test_progress_is_announced_from_the_first_byte(tmp_path: Path) -> None:
    with (
        BlobServer(BIG, pace_bytes_s=16 * MIB) as server,
        bench(tmp_path, [source(server.url)], settings=PLAIN) as b,
    ):
        seen: list[tuple[float, FetchState]] = []
        began = time.monotonic()
        blob = remote(BIG)
        fetch = b.fetches.join(blob, repo="docker.io/library/demo", size=len(BIG))
        began = time.monotonic()
        unsubscribe = fetch.subscribe(lambda one: seen.append((time.monotonic() - began, one.state())))
        assert fetch.wait(10).status is FetchStatus.DONE
        unsubscribe()
        first = next(at for at, state in seen if state.extents)
        assert first < 0.1
        ends = [state.extents[0][1] for _, state in seen if state.extents]
        assert ends == sorted(ends)
        assert len(ends) > 20
        assert len({state.generation for _, state in seen}) == 1


@pytest.mark.parametrize(
    ("policy", "percent", "finishes"),
    [
        (OnDisconnect.FINISH, 50, True),
        (OnDisconnect.STOP, 50, False),
        (OnDisconnect.FINISH_IF_OVER, 99, False),
        (OnDisconnect.FINISH_IF_OVER, 1, True),
    ],
)
def test_the_last_reader_leaves(tmp_path: Path, policy: OnDisconnect, percent: int, finishes: bool) -> None:
    settings = replace(PLAIN, on_disconnect=policy, finish_percent=percent)
    with (
        BlobServer(BIG, pace_bytes_s=8 * MIB) as server,
        bench(tmp_path, [source(server.url)], settings=settings) as b,
    ):
        fetch = b.join(BIG)
        fetch.set_readers("worker-1", 2)
        time.sleep(0.3)
        fetch.set_readers("worker-1", 0)
        state = fetch.wait(10)
        assert fetch.closed.wait(5)
        if finishes:
            assert state.status is FetchStatus.DONE
            return
        assert isinstance(state.error, AbandonedError)
        server.server.link.pace_bytes_s = None
        sent = server.server.sent_bytes()
        assert b.join(BIG).wait(10).status is FetchStatus.DONE
        assert server.server.sent_bytes() - sent < len(BIG) - 4 * MIB


def test_a_reader_that_comes_back_in_time_loses_nothing(tmp_path: Path) -> None:
    settings = replace(PLAIN, on_disconnect=OnDisconnect.STOP)
    with (
        BlobServer(BIG, pace_bytes_s=12 * MIB) as server,
        bench(tmp_path, [source(server.url)], settings=settings) as b,
    ):
        fetch = b.join(BIG)
        for _ in range(3):
            fetch.set_readers("worker-1", 1)
            fetch.set_readers("worker-1", 0)
            time.sleep(0.4)
        fetch.set_readers("worker-2", 1)
        assert fetch.wait(10).status is FetchStatus.DONE
        assert len(server.server.records) == 1


def test_read_ahead_is_bounded_and_gives_way(tmp_path: Path) -> None:
    settings = replace(PLAIN, parallel=3, read_ahead_parallel=1)
    blobs = [payload(4 * MIB, seed=number) for number in range(10, 14)]
    with (
        BlobServer(blobs[0], pace_bytes_s=4 * MIB) as server,
        bench(tmp_path, [source(server.url)], settings=settings) as b,
    ):
        ahead: list[Fetch] = [
            b.fetches.join(remote(data), repo="r", size=len(data), background=True) for data in blobs[:3]
        ]
        time.sleep(0.3)
        assert len(server.server.records) == 1
        assert b.fetches.join(remote(blobs[2]), repo="r", size=len(blobs[2])) is ahead[2]
        b.fetches.join(remote(blobs[3]), repo="r", size=len(blobs[3]))
        time.sleep(0.3)
        asked = {record.path.rpartition("/")[2] for record in server.server.records}
        assert asked == {str(remote(blobs[number]).digest) for number in (0, 2, 3)}


def test_nobody_to_ask_is_told_at_once(tmp_path: Path) -> None:
    with bench(tmp_path, []) as b:
        state = b.join(SMALL).wait(2)
        assert isinstance(state.error, NoSourceError)
        assert b.fetches.get(remote(SMALL).digest) is None


def test_stopping_keeps_what_was_fetched(tmp_path: Path) -> None:
    with BlobServer(BIG, pace_bytes_s=16 * MIB) as server, bench(tmp_path, [source(server.url)], settings=PLAIN) as b:
        fetch = b.join(BIG)
        time.sleep(0.5)
        assert b.fetches.stop(5)
        assert isinstance(fetch.state().error, StoppedError)
        assert len(b.parts()) == 2
        with pytest.raises(StoppedError):
            b.join(BIG)
        sent = server.server.sent_bytes()
        server.server.link.pace_bytes_s = None
        b.start()
        assert b.fetches.part_bytes() > 4 * MIB
        assert b.join(BIG).wait(10).status is FetchStatus.DONE
        assert server.server.sent_bytes() <= len(BIG) + 4 * MIB
        assert sent > 4 * MIB


def test_leftovers_are_collected_by_age(tmp_path: Path) -> None:
    with BlobServer(BIG, pace_bytes_s=16 * MIB) as server, bench(tmp_path, [source(server.url)], settings=PLAIN) as b:
        b.join(BIG)
        time.sleep(0.3)
        assert b.fetches.collect_leftovers(-1.0) == 0
        b.fetches.stop(5)
        assert b.fetches.collect_leftovers(3600) == 0
        assert b.fetches.collect_leftovers(-1.0) > 0
        assert b.parts() == []
