"""Memory: 200 slow clients of one blob in flight, and nobody at all."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tools.bench.clients import curl, get_whole, write_script, wrk
from tools.bench.model import Bench, BenchError, Row, Samples
from tools.bench.readers import Reader, read_slowly
from tools.bench.rivals import BLOB_BYTES, REPOSITORY, TAG, big_blob, big_image, big_world, check_blob, mirror_of, ours

from testbed import images
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry

CLIENTS: Final = 200
RATE_BYTES_S: Final = images.MIB
_SECONDS: Final = 30.0
_UPSTREAM_CONNECTIONS: Final = 4
_UPSTREAM_BYTES_S: Final = 2 * images.MIB
"""Of each connection: 8 MiB/s together, so that the fetch outlasts the 30 seconds."""
_RECEIVE_BUFFER: Final = 64 * 1024
_SAMPLE_S: Final = 0.5
_REST_S: Final = 3.0
_CROWD_MB: Final = 150.0
_IDLE_MB: Final = 120.0
_RATE_SHARE: Final = 0.9
_MB: Final = 1e-6


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows of memory."""
    folder = bench.base / "crowd"
    samples = Samples()
    with big_world(folder / "world") as world:
        for number in range(bench.rounds):
            bench.say(f"memory, idle: round {number + 1} of {bench.rounds}")
            _idle(folder, world, samples)
        for name, title in (("fresh", "freshly started"), ("loaded", "after load")):
            yield Row(
                name=f"idle, two workers, {title}: proportional set size",
                value=samples.median(name) * _MB,
                bar=_IDLE_MB,
                unit="MB",
                digits=0,
                figures=f"{samples.text(name, scale=_MB, digits=0)} MB, all processes",
            )
        world.wire.set_link(pace_bytes_s=_UPSTREAM_BYTES_S)
        for number in range(bench.rounds):
            bench.say(f"memory, {CLIENTS} slow clients: round {number + 1} of {bench.rounds}")
            _crowd(folder, world, samples)
    yield from _crowd_rows(samples)


def _crowd_rows(samples: Samples) -> Iterator[Row]:
    yield Row(
        name=f"{CLIENTS} clients at 1 MiB/s on a 256 MiB blob in flight: peak proportional set size",
        value=samples.median("peak") * _MB,
        bar=_CROWD_MB,
        unit="MB",
        digits=0,
        figures=f"{samples.text('peak', scale=_MB, digits=0)} MB, all processes, sampled every {_SAMPLE_S} s",
    )
    yield Row(
        name=f"{CLIENTS} clients at 1 MiB/s on a 256 MiB blob in flight: slowest client over {_SECONDS:.0f} s",
        value=samples.median("slowest") / images.MIB,
        bar=_RATE_SHARE,
        at_least=True,
        unit="MiB/s",
        figures=f"{samples.text('slowest', scale=1 / images.MIB)} MiB/s; "
        f"middle client {samples.text('middle', scale=1 / images.MIB)}",
    )


def _idle(folder: Path, world: RealRegistry, samples: Samples) -> None:
    """Measure a mirror that was just started, and again after a miss, big hits and many manifests."""
    with tempfile.TemporaryDirectory(dir=folder) as data, mirror_of(Path(data), world.direct_url) as mirror:
        time.sleep(_REST_S)
        samples.add("fresh", mirror.pss_bytes())
        url = ours(mirror.base_url)
        check_blob(url)
        curl(f"{url}/blobs/{big_blob()}", BLOB_BYTES, connections=8)
        path = f"/v2/docker.io/{REPOSITORY}/manifests/{big_image().digest}"
        wrk(mirror.base_url, write_script(Path(data), "idle", [path]), seconds=2)
        time.sleep(_REST_S)
        samples.add("loaded", mirror.pss_bytes())


def _crowd(folder: Path, world: RealRegistry, samples: Samples) -> None:
    world.wire.forget()
    connections = ("--fetch-connections", str(_UPSTREAM_CONNECTIONS))
    content = big_image().blobs[big_blob()]
    with (
        tempfile.TemporaryDirectory(dir=folder) as data,
        mirror_of(Path(data), world.url, *connections) as mirror,
        contextlib.ExitStack() as stack,
    ):
        get_whole(f"{ours(mirror.base_url)}/manifests/{TAG}")
        readers = [Reader(mirror.base_url, receive_buffer=_RECEIVE_BUFFER) for _ in range(CLIENTS)]
        for reader in readers:
            stack.callback(reader.close)
        path = f"/v2/docker.io/{REPOSITORY}/blobs/{big_blob()}"
        with _peak_of(mirror) as seen:
            read_slowly(readers, path, content, rate_bytes_s=RATE_BYTES_S, seconds=_SECONDS)
        if world.wire.sent_bytes(big_blob()) >= BLOB_BYTES:
            raise BenchError("the blob was whole before its readers had gone: it was not in flight")
    rates = [reader.received / _SECONDS for reader in readers]
    samples.add("peak", max(seen))
    samples.add("slowest", min(rates))
    samples.add("middle", statistics.median(rates))


@contextmanager
def _peak_of(mirror: RunningMirror) -> Generator[list[int]]:
    """Sample the memory of all processes while the block runs."""
    seen: list[int] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(_SAMPLE_S):
            seen.append(mirror.pss_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
