"""Wrong bytes: who is blamed, what is thrown away, what readers are told."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from hunqi.mirror.fetch.errors import DigestMismatchError
from hunqi.mirror.fetch.state import FetchState, FetchStatus
from hunqi.mirror.settings import MIB
from hunqi.mirror.sources.model import SourceKind
from support_fetch import PLAIN, RANGES, BlobServer, bench, payload, source

DATA = payload(24 * MIB, seed=3)


def wrong_at(position: int) -> bytes:
    data = bytearray(DATA)
    data[position] ^= 1
    return bytes(data)


def test_a_single_wrong_source_is_blamed_and_its_bytes_are_told_gone(tmp_path: Path) -> None:
    with BlobServer(wrong_at(100)) as bad, BlobServer(DATA) as good:
        relay = source(bad.url, kind=SourceKind.RELAY)
        with bench(tmp_path, [relay, source(good.url)], settings=PLAIN) as b:
            seen: list[FetchState] = []
            fetch = b.join(DATA)
            fetch.subscribe(lambda one: seen.append(one.state()))
            assert fetch.wait(10).status is FetchStatus.DONE
            assert b.kept(DATA) == DATA
            assert b.blamed == [relay.id]
            generations = list(dict.fromkeys(state.generation for state in seen))
            assert len(generations) == 2
            assert any(state.generation == generations[1] and state.extents == () for state in seen)
            assert not any(state.verified for state in seen if state.generation == generations[0])


def test_of_several_contributors_each_must_give_the_whole_alone(tmp_path: Path) -> None:
    pace = 32 * MIB
    with BlobServer(wrong_at(20 * MIB), pace_bytes_s=pace) as bad, BlobServer(DATA, pace_bytes_s=pace) as good:
        relays = [source(server.url, kind=SourceKind.RELAY, name=name) for server, name in ((bad, "a"), (good, "b"))]
        with bench(tmp_path, relays, settings=RANGES) as b:
            state = b.join(DATA).wait(20)
            assert state.status is FetchStatus.DONE, state.error
            assert b.kept(DATA) == DATA
            assert relays[1].id not in b.blamed
            assert min(state.bytes_by_source.values()) > MIB


def test_when_all_are_wrong_nothing_is_kept(tmp_path: Path) -> None:
    with BlobServer(wrong_at(1)) as first, BlobServer(wrong_at(2)) as second:
        sources = [source(first.url, kind=SourceKind.RELAY), source(second.url)]
        with bench(tmp_path, sources, settings=PLAIN) as b:
            fetch = b.join(DATA)
            state = fetch.wait(10)
            assert isinstance(state.error, DigestMismatchError)
            assert state.extents == ()
            assert sorted(b.blamed) == sorted(one.id for one in sources)
            assert fetch.closed.wait(5)
            assert b.parts() == []
            assert b.commits == []


def test_a_length_other_than_the_manifests_is_refused_before_a_byte_is_taken(tmp_path: Path) -> None:
    with BlobServer(DATA + b"more") as bad, BlobServer(DATA) as good:
        relay = source(bad.url, kind=SourceKind.RELAY)
        with bench(tmp_path, [relay, source(good.url)], settings=PLAIN) as b:
            state = b.join(DATA).wait(10)
            assert state.status is FetchStatus.DONE
            assert relay.id not in state.bytes_by_source


def test_a_slow_source_gives_way_to_a_faster_one(tmp_path: Path) -> None:
    with BlobServer(DATA, pace_bytes_s=MIB) as slow, BlobServer(DATA) as fast:
        relay, upstream = source(slow.url, kind=SourceKind.RELAY), source(fast.url)
        with bench(tmp_path, [relay, upstream], settings=replace(PLAIN, connections=1)) as b:
            b.health.measured(upstream.id, 100 * MIB, 1.0)
            began = time.monotonic()
            state = b.join(DATA).wait(15)
            assert state.status is FetchStatus.DONE
            assert time.monotonic() - began < 6
            assert state.bytes_by_source[relay.id] > MIB
            assert b.kept(DATA) == DATA


def test_a_part_with_damaged_bytes_is_not_kept(tmp_path: Path) -> None:
    with BlobServer(DATA, pace_bytes_s=16 * MIB) as server, bench(tmp_path, [source(server.url)], settings=PLAIN) as b:
        fetch = b.join(DATA)
        time.sleep(0.5)
        b.fetches.stop(5)
        with fetch.part_path.open("r+b") as file:
            file.seek(MIB)
            file.write(b"damaged")
        server.server.link.pace_bytes_s = None
        b.start()
        b.join(DATA).wait(10)
        assert b.kept(DATA) in {None, DATA}
        assert all(digest.hex in {path.name for path in b.content.iterdir()} for digest, _, _ in b.commits)


def test_a_journal_that_makes_no_sense_begins_anew(tmp_path: Path) -> None:
    with BlobServer(DATA, pace_bytes_s=16 * MIB) as server, bench(tmp_path, [source(server.url)], settings=PLAIN) as b:
        fetch = b.join(DATA)
        time.sleep(0.5)
        b.fetches.stop(5)
        fetch.part_path.with_suffix(".json").write_text('{"version": 1, "size": 3, "spans": [["a", 0, 900]]}')
        server.server.link.pace_bytes_s = None
        server.server.forget()
        b.start()
        assert b.join(DATA).wait(10).status is FetchStatus.DONE
        assert b.kept(DATA) == DATA
        assert server.server.sent_bytes() == len(DATA)
