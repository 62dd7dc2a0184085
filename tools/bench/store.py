"""100,000 blobs in the store: how long a start takes, and whether a pass of eviction holds requests up.

A prober asks for a warm manifest and a small blob, 500 times a second together, during a pass and for as long without
one: the machine stalls by itself, so what counts is how much worse the worst answer is with the pass than without.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tools.bench import ROOT
from tools.bench.clients import get_whole
from tools.bench.filling import UPSTREAM, Probed, probed
from tools.bench.model import Bench, BenchError, Row, Samples, spread_text
from tools.bench.readers import Reader
from tools.bench.rivals import REPOSITORY

from testbed import images
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.registry import RealRegistry, real_registry

BLOBS: Final = 100_000
_START_S: Final = 2.0
_STALL_MS: Final = 20.0
_PROBES_S: Final = 500
_CONNECTIONS: Final = 4
"""Of the prober, so that both workers are asked."""
_ROOM_BYTES: Final = images.MIB
_PASS_S: Final = 120.0
_EVICTED: Final = "evicted "


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows of a big store."""
    folder = bench.base / "store"
    folder.mkdir()
    bench.say(f"store: filling it with {BLOBS:,} blobs")
    _fill(folder / "mirror" / "data")
    fresh = {f"{REPOSITORY}:r{number}": images.opaque([2 * _ROOM_BYTES], seed=number) for number in range(bench.rounds)}
    starts: list[float] = []
    with real_registry(folder / "world", seed=fresh) as world:
        for number in range(bench.rounds):
            bench.say(f"store: start {number + 1} of {bench.rounds}")
            begun = time.monotonic()
            with _mirror(folder, world, cache_max=1 << 40) as mirror:
                starts.append(time.monotonic() - begun)
                cached_bytes = int(mirror.metrics()["hunqi_mirror_cached_bytes"])
        yield Row(
            name=f"{BLOBS:,} blobs in the store: start until /readyz",
            value=statistics.median(starts),
            bar=_START_S,
            unit="s",
            figures=f"{spread_text(starts)} s",
        )
        yield _eviction_row(bench, folder, world, cached_bytes)


def _fill(data: Path) -> None:
    data.mkdir(parents=True)
    command = [sys.executable, "-m", "tools.bench.filling", str(data), str(BLOBS)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=300)
    os.sync()


def _mirror(folder: Path, world: RealRegistry, *, cache_max: int) -> RunningMirror:
    """Return a mirror on the filled store; its log holds no access lines."""
    args = ["--cache-max", str(cache_max), "--access-log", str(folder / "access.log")]
    return RunningMirror(folder / "mirror", upstreams={UPSTREAM: world.url}, args=args, workers=2)


def _eviction_row(bench: Bench, folder: Path, world: RealRegistry, cached_bytes: int) -> Row:
    samples = Samples()
    during: list[float] = []
    without: list[float] = []
    for number in range(bench.rounds):
        bench.say(f"store: pass of eviction {number + 1} of {bench.rounds}")
        cache_max = cached_bytes + _ROOM_BYTES
        with _mirror(folder, world, cache_max=cache_max) as mirror:
            mirror.metrics()
            begun = time.monotonic()
            with _probing(mirror) as seen:
                freed = _pass(mirror, number)
                took_s = time.monotonic() - begun
            during += seen
            with _probing(mirror) as seen:
                time.sleep(took_s)
            without += seen
            cached_bytes = int(mirror.metrics()["hunqi_mirror_cached_bytes"])
        samples.add("pass", took_s)
        samples.add("freed", freed)
    worst, usual = max(during) * 1e3, max(without) * 1e3
    return Row(
        name="pass of eviction: how much later the worst answer is than without",
        value=max(0.0, worst - usual),
        bar=_STALL_MS,
        unit="ms",
        digits=1,
        figures=f"worst of {len(during):,} answers {worst:.1f} ms (99.9 %: {_late(during):.1f}), without a pass "
        f"{usual:.1f} ms (99.9 %: {_late(without):.1f}); a pass takes {samples.text('pass', digits=1)} s "
        f"and frees {samples.text('freed', scale=1 / images.MIB, digits=0)} MiB of small blobs",
    )


def _late(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 999 // 1000] * 1e3


def _pass(mirror: RunningMirror, number: int) -> int:
    """Fetch a blob that is too much, and wait until room was made; return the bytes that left."""
    known = mirror.log.read_text().count(_EVICTED)
    url = f"{mirror.base_url}/v2/{UPSTREAM}/{REPOSITORY}"
    get_whole(f"{url}/manifests/r{number}")
    digest = images.opaque([2 * _ROOM_BYTES], seed=number).layers[0]
    get_whole(f"{url}/blobs/{digest}")
    wait_for(
        lambda: mirror.log.read_text().count(_EVICTED) > known, timeout_s=_PASS_S, what="the end of a pass of eviction"
    )
    return int(mirror.log.read_text().rpartition(_EVICTED)[2].split()[0])


@contextmanager
def _probing(mirror: RunningMirror) -> Generator[list[float]]:
    """Ask at a steady rate while the block runs; yields the seconds that each answer took."""
    seen: list[float] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def probe() -> None:
        try:
            _probe(mirror, seen, stop)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
    if failures or not seen:
        raise BenchError("a probe failed") from (failures[0] if failures else None)


def _probe(mirror: RunningMirror, seen: list[float], stop: threading.Event) -> None:
    what: Probed = probed()
    readers = [Reader(mirror.base_url) for _ in range(_CONNECTIONS)]
    for reader in readers:
        reader.sock.setblocking(True)
        reader.sock.settimeout(30.0)
    turns = [(what.manifest_path, what.manifest), (what.blob_path, what.blob)]
    due, number = time.monotonic(), 0
    while not stop.is_set():
        reader = readers[number // 2 % _CONNECTIONS]
        begun = time.monotonic()
        reader.ask(*turns[number % 2])
        while not reader.is_done:
            reader.read()
        seen.append(time.monotonic() - begun)
        number += 1
        due = max(due + 1 / _PROBES_S, time.monotonic() - 1.0)
        time.sleep(max(0.0, due - time.monotonic()))
    for reader in readers:
        reader.close()
