"""Long fat links: several connections where they help, wants first, and no byte twice."""

from __future__ import annotations

import time
from pathlib import Path

from hunqi.mirror.fetch.state import FetchStatus
from hunqi.mirror.settings import MIB
from hunqi.mirror.sources.model import SourceKind
from support_fetch import PLAIN, RANGES, BlobServer, bench, payload, source

BIG = payload(128 * MIB, seed=5)
PACE = 32 * MIB


def timed(tmp_path: Path, server: BlobServer, *, ranges: bool) -> float:
    with bench(tmp_path, [source(server.url)], settings=RANGES if ranges else PLAIN) as b:
        fetch = b.join(BIG)
        began = time.monotonic()
        assert fetch.wait(30).status is FetchStatus.DONE
        took_s = time.monotonic() - began
        assert b.kept(BIG) == BIG
        return took_s


def test_connections_add_up_against_a_pace_per_connection(tmp_path: Path) -> None:
    with BlobServer(BIG, pace_bytes_s=PACE) as server:
        took_s = timed(tmp_path, server, ranges=True)
        assert took_s < len(BIG) / PACE / 2.5
        assert server.server.sent_bytes() == len(BIG)
        assert server.server.accepted <= 8


def test_one_connection_costs_nothing_over_direct(tmp_path: Path) -> None:
    with BlobServer(BIG, pace_bytes_s=PACE) as server:
        took_s = timed(tmp_path, server, ranges=False)
        assert took_s < len(BIG) / PACE * 1.05
        assert [record.headers.get("range") for record in server.server.records] == [None]


def test_a_reader_far_ahead_is_served_first(tmp_path: Path) -> None:
    with BlobServer(BIG, pace_bytes_s=8 * MIB) as server, bench(tmp_path, [source(server.url)], settings=RANGES) as b:
        fetch = b.join(BIG)
        time.sleep(0.1)
        began = time.monotonic()
        fetch.want(100 * MIB, 101 * MIB)
        while not any(start <= 100 * MIB < end for start, end in fetch.state().extents):
            assert time.monotonic() - began < 1.0
            time.sleep(0.005)
        assert fetch.state().extents[0][0] == 0


def test_a_reader_far_ahead_in_what_a_slow_connection_claimed_gets_one_of_his_own(tmp_path: Path) -> None:
    with BlobServer(BIG, pace_bytes_s=MIB / 2) as server, bench(tmp_path, [source(server.url)], settings=RANGES) as b:
        fetch = b.join(BIG)
        deadline = time.monotonic() + 10
        while not fetch.state().extents:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        began = time.monotonic()
        fetch.want(6 * MIB, 7 * MIB)
        while not any(start <= 6 * MIB < end for start, end in fetch.state().extents):
            assert time.monotonic() - began < 8.0, "the first connection needs 12 s to come there"
            time.sleep(0.02)
        front = fetch.state().extents[0]
        assert front[0] == 0
        assert front[1] < 6 * MIB


def test_the_front_fills_while_wants_are_served(tmp_path: Path) -> None:
    with BlobServer(BIG, pace_bytes_s=PACE) as server, bench(tmp_path, [source(server.url)], settings=RANGES) as b:
        fetch = b.join(BIG)
        for ahead in range(120, 64, -4):
            fetch.want(ahead * MIB, (ahead + 4) * MIB)
        time.sleep(0.8)
        front = fetch.state().extents[0]
        assert front[0] == 0
        assert front[1] > 8 * MIB


def test_connections_spread_over_sources_of_one_kind_only(tmp_path: Path) -> None:
    with (
        BlobServer(BIG, pace_bytes_s=PACE) as first,
        BlobServer(BIG, pace_bytes_s=PACE) as second,
        BlobServer(BIG, pace_bytes_s=PACE) as world,
    ):
        relays = [source(server.url, kind=SourceKind.RELAY) for server in (first, second)]
        with bench(tmp_path, [*relays, source(world.url)], settings=RANGES) as b:
            state = b.join(BIG).wait(20)
            assert state.status is FetchStatus.DONE
            assert set(state.bytes_by_source) == {one.id for one in relays}
            assert min(state.bytes_by_source.values()) > len(BIG) // 5
            assert world.server.records == []


def test_segments_follow_each_other_on_the_same_connection(tmp_path: Path) -> None:
    with BlobServer(BIG) as server, bench(tmp_path, [source(server.url)], settings=RANGES) as b:
        assert b.join(BIG).wait(20).status is FetchStatus.DONE
        assert server.server.accepted <= 8
        assert server.server.sent_bytes() == len(BIG)
