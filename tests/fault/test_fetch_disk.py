"""A really full disk (a small tmpfs): the fetch says so, leaves nothing behind, and a relay serves instead."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hunqi.mirror.fetch.errors import DigestMismatchError, is_disk_full
from hunqi.mirror.fetch.ports import FetchPorts
from hunqi.mirror.fetch.relay import WITHHELD_BYTES, Prefix, RelayStream
from hunqi.mirror.fetch.state import FetchStatus
from hunqi.mirror.settings import MIB, FetchSettings
from hunqi.mirror.sources.errors import NotFound, SourceError
from hunqi.mirror.sources.model import RemoteBlob, SourceKind
from hunqi.mirror.store.errors import StoreFullError
from hunqi.oci.digest import Digest
from support_fetch import PLAIN, RANGES, Bench, BlobServer, bench, payload, remote, source
from testbed.images import opaque
from testbed.zoo import ANIMALS, ZooRegistry

BIG = payload(24 * MIB, seed=11)
SMALL = payload(MIB, seed=12)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], check=True, timeout=10)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=10)


@pytest.mark.parametrize("settings", [PLAIN, RANGES], ids=["plain", "ranges"])
def test_a_full_disk_is_told_and_left_clean(small_disk: Path, settings: FetchSettings) -> None:
    with BlobServer(BIG) as server, bench(small_disk, [source(server.url)], settings=settings) as b:
        fetch = b.join(BIG)
        state = fetch.wait(10)
        assert state.status is FetchStatus.NO_SPACE, state.error
        assert fetch.closed.wait(5)
        assert b.parts() == []
        assert b.fetches.part_bytes() == 0
        server.data = memoryview(SMALL)
        assert b.join(SMALL).wait(10).status is FetchStatus.DONE


def test_a_store_that_is_full_at_the_commit_counts_too(tmp_path: Path) -> None:
    with BlobServer(SMALL) as server, bench(tmp_path, [source(server.url)]) as b:
        b.commit_error = StoreFullError("the disk is full")
        state = b.join(SMALL).wait(5)
        assert (state.status, state.verified) == (FetchStatus.NO_SPACE, True)
        assert is_disk_full(b.commit_error)
        assert not is_disk_full(OSError(5, "io"))


def ports(b: Bench) -> FetchPorts:
    return FetchPorts(
        candidates=lambda _: b.health.order(b.sources),
        commit=lambda *_: None,
        adopt=lambda *_: False,
        blame=lambda name, _: b.blamed.append(name),
        health=b.health,
    )


def relayed(
    b: Bench,
    blob: RemoteBlob,
    *,
    size: int | None,
    start: int = 0,
    end: int | None = None,
    prefix: Prefix | None = None,
) -> tuple[bytes, Exception | None]:
    """What a client gets, and what went wrong."""
    ours, theirs = socket.socketpair()
    got, errors = bytearray(), list[Exception]()

    def run() -> None:
        relay = RelayStream(blob, ports=ports(b), size=size, start=start, end=end, prefix=prefix)
        try:
            relay.open()
            relay.send_to(ours)
        except Exception as error:
            errors.append(error)
        finally:
            relay.close()
            ours.close()

    thread = threading.Thread(target=run, name="fetch-relay")
    thread.start()
    theirs.settimeout(20)
    while data := theirs.recv(1 << 18):
        got += data
    theirs.close()
    thread.join(5)
    assert not thread.is_alive()
    return bytes(got), errors[0] if errors else None


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, None), (5, 1005), (len(BIG) - 10, None), (len(BIG) - 100_000, len(BIG) - 5), (3 * MIB, 9 * MIB), (7, 10**9)],
)
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
def test_a_relay_gives_what_was_asked(tmp_path: Path, start: int, end: int | None, sized: bool) -> None:
    with BlobServer(BIG) as server, bench(tmp_path, [source(server.url)]) as b:
        got, error = relayed(b, remote(BIG), size=len(BIG) if sized else None, start=start, end=end)
        assert error is None
        assert got == BIG[start:end]


def test_a_range_without_the_tail_is_asked_for_as_one(tmp_path: Path) -> None:
    with BlobServer(BIG) as server, bench(tmp_path, [source(server.url)]) as b:
        relayed(b, remote(BIG), size=len(BIG), start=16 * MIB, end=17 * MIB)
        assert server.server.records[0].headers["range"].startswith(f"bytes={16 * MIB}-")


def test_a_relay_goes_on_from_a_lost_part(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.write_bytes(BIG[: 10 * MIB])
    with BlobServer(BIG) as server, bench(tmp_path, [source(server.url)]) as b, held.open("rb") as file:
        held.unlink()
        got, error = relayed(b, remote(BIG), size=len(BIG), prefix=Prefix(fd=file.fileno(), length=10 * MIB))
        assert (got, error) == (BIG, None)
        assert server.server.sent_bytes() == len(BIG) - 10 * MIB


def test_a_relay_never_completes_a_wrong_body(tmp_path: Path) -> None:
    wrong = bytearray(BIG)
    wrong[-1] ^= 1
    with BlobServer(bytes(wrong)) as server:
        only = source(server.url)
        with bench(tmp_path, [only]) as b:
            got, error = relayed(b, remote(BIG), size=len(BIG))
            assert isinstance(error, DigestMismatchError)
            assert len(got) == len(BIG) - WITHHELD_BYTES
            assert b.blamed == [only.id]


@pytest.mark.parametrize("name", [name for name in ANIMALS if name not in {"slow-trickle", "stalls-in-the-middle"}])
def test_a_relay_over_a_bad_source_and_a_good_one(tmp_path: Path, name: str) -> None:
    image = opaque([2 * MIB], seed=4)
    digest = Digest.parse(image.layers[0])
    data = image.blobs[str(digest)]
    blob = RemoteBlob(upstream="docker.io", repository="library/demo", digest=digest)
    with (
        ZooRegistry([image], ANIMALS[name]) as bad,
        ZooRegistry([image]) as good,
        bench(tmp_path, [source(bad.url, kind=SourceKind.RELAY), source(good.url)]) as b,
    ):
        got, error = relayed(b, blob, size=len(data))
        if error is None:
            assert got == data
        else:
            assert isinstance(error, DigestMismatchError)
            assert len(got) <= len(data) - WITHHELD_BYTES
            assert hashlib.sha256(got).hexdigest() != digest.hex


def test_a_relay_is_told_no_fast(tmp_path: Path) -> None:
    image = opaque([1000])
    with ZooRegistry([image]) as zoo, bench(tmp_path, [source(zoo.url)]) as b:
        began = time.monotonic()
        got, error = relayed(b, remote(SMALL), size=None)
        assert got == b""
        assert isinstance(error, NotFound)
        assert isinstance(error, SourceError)
        assert time.monotonic() - began < 1


def test_a_relay_ends_when_its_client_leaves(tmp_path: Path) -> None:
    with BlobServer(BIG) as server, bench(tmp_path, [source(server.url)]) as b:
        ours, theirs = socket.socketpair()
        relay = RelayStream(remote(BIG), ports=ports(b), size=len(BIG))
        theirs.close()
        with pytest.raises(BrokenPipeError):
            relay.send_to(ours)
        relay.close()
        ours.close()
        assert b.parts() == []
