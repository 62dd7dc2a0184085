"""The part file and its journal: any order of writes, one hash; nothing is believed that was not recorded."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

import pytest

from hunqi.mirror.fetch import journal
from hunqi.mirror.fetch.journal import Journal, Span
from hunqi.mirror.fetch.part import PartFile
from hunqi.oci.digest import Algorithm, Digest

DATA = random.Random(2).randbytes(3_000_000)


def opened(directory: Path, algorithm: Algorithm = "sha256") -> PartFile:
    part = PartFile(directory / "sha256-x.part", Digest.of(DATA, algorithm))
    part.open(size=len(DATA))
    return part


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("seed", range(5))
def test_written_by_many_in_any_order_it_has_the_digest(tmp_path: Path, seed: int, algorithm: Algorithm) -> None:
    part = opened(tmp_path, algorithm)
    starts = list(range(0, len(DATA), 70_001))
    random.Random(seed).shuffle(starts)

    def write(mine: list[int]) -> None:
        for start in mine:
            data = memoryview(DATA)[start : start + 70_001]
            part.write(start, data, "a", give_back=lambda: None)

    threads = [threading.Thread(target=write, args=(starts[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert part.snapshot()[1] == ((0, len(DATA)),)
    assert part.hexdigest() == Digest.of(DATA, algorithm).hex
    assert part.path.read_bytes() == DATA
    part.close()


def test_the_hash_keeps_its_order_while_buffers_are_used_again(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(8_000_000)
    for seed in range(25):
        part = PartFile(tmp_path / f"sha256-{seed}.part", Digest.of(data))
        part.open(size=len(data))
        with impatient_threads():
            fill_by_connections(part, data, seed)
        assert part.hexdigest() == Digest.of(data).hex, seed
        part.close()


@contextlib.contextmanager
def impatient_threads() -> Iterator[None]:
    """Let threads take turns a hundred times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def fill_by_connections(part: PartFile, data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    edges = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.choice([0, 6, 60])))})
    segments = list(pairwise(edges))[::-1]

    def connection(mine: random.Random) -> None:
        free: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(2):
            free.put(memoryview(bytearray(1_000_000)))
        while segments:
            position, end = segments.pop()
            while position < end:
                buffer = free.get(timeout=10)
                count = min(mine.choice([1000, 65_536, 1_000_000]), end - position)
                buffer[:count] = data[position : position + count]
                if not part.write(position, buffer[:count], "a", give_back=partial(free.put, buffer)):
                    free.put(buffer)
                position += count

    with ThreadPoolExecutor(4) as pool:
        for done in [
            pool.submit(connection, random.Random(seed * 10 + number)) for number in range(rng.choice([1, 4]))
        ]:
            done.result(20)


def test_what_was_flushed_is_there_again(tmp_path: Path) -> None:
    part = opened(tmp_path)
    part.write(0, memoryview(DATA)[:1000], "a")
    part.write(5000, memoryview(DATA)[5000:9000], "b")
    part.flush(size=len(DATA), etags={"a": '"1"'})
    part.write(9000, memoryview(DATA)[9000:9500], "b")
    part.close()
    again = PartFile(part.path, Digest.of(DATA))
    found = again.open(size=len(DATA))
    assert found is not None
    assert found.etags == {"a": '"1"'}
    assert again.snapshot()[1] == ((0, 1000), (5000, 9000))
    assert again.contributors() == {"a", "b"}
    again.write(1000, memoryview(DATA)[1000:5000], "b")
    again.write(9000, memoryview(DATA)[9000:], "b")
    assert again.hexdigest() == Digest.of(DATA).hex
    again.discard_source("b")
    assert again.snapshot()[1] == ((0, 1000),)
    again.close()


@pytest.mark.parametrize("size", [None, len(DATA), 8999])
def test_a_part_shorter_than_its_journal_or_of_another_size_begins_anew(tmp_path: Path, size: int | None) -> None:
    part = opened(tmp_path)
    part.write(0, memoryview(DATA)[:9000], "a")
    part.flush(size=None, etags={})
    part.close()
    if size != 8999:
        with part.path.open("r+b") as file:
            file.truncate(100)
    again = PartFile(part.path, Digest.of(DATA))
    assert again.open(size=size) is None
    assert again.snapshot()[1] == ()
    again.close()
    assert part.path.stat().st_size == 0


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"spans": [["a", 5, 5]]},
        {"spans": [["a", -1, 5]]},
        {"spans": [[1, 0, 5]]},
        {"spans": 7},
        {"size": 3},
        {"size": "x"},
        {"etags": []},
        {"spans": [["a", 0]]},
    ],
)
def test_a_journal_that_makes_no_sense_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "x.json"
    good = Journal(incarnation="a", size=10, etags={}, spans=(Span(source="a", start=0, end=5),))
    journal.save(path, good)
    assert journal.load(path) == good
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert journal.load(path) is None
    path.write_bytes(b"\x00\xff{")
    assert journal.load(path) is None
    path.unlink()
    assert journal.load(path) is None
