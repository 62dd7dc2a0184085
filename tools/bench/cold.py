"""A cold blob of 256 MiB: from an upstream of 32 MiB/s per connection, and from one as fast as it goes.

A client asks for the manifest before the blob, as every client does; only the blob is timed. Each download begins on
an empty data directory.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tools.bench.clients import Download, download, get_whole
from tools.bench.model import Bench, Row, Samples, in_turns, spread_text
from tools.bench.rivals import (
    BLOB_BYTES,
    PACE_BYTES_S,
    TAG,
    big_blob,
    big_world,
    check_blob,
    mirror_of,
    ours,
    theirs,
)

from testbed.registry import RealRegistry, real_registry

_FIRST_BYTE_MS: Final = 15.0
_RANGES_OFF: Final = 1.03
_RANGES_ON: Final = 3.0
_UNPACED: Final = 1.0
_ONE_CONNECTION: Final = ("--fetch-connections", "1")


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows of misses."""
    folder = bench.base / "cold"
    bench.say("cold: seeding the upstream")
    with big_world(folder / "world") as world:
        yield from _unpaced(bench, folder, world)
        world.wire.set_link(pace_bytes_s=PACE_BYTES_S)
        yield from _paced(bench, folder, world)


def _unpaced(bench: Bench, folder: Path, world: RealRegistry) -> Iterator[Row]:
    found = in_turns(
        bench,
        "cold blob, unpaced",
        {
            "ours": lambda: _miss(folder, world.direct_url).took_s,
            "docker-registry": lambda: _rival_miss(folder, world.direct_url).took_s,
        },
    )
    yield Row(
        name="cold 256 MiB blob, upstream unpaced, speed / docker-registry",
        value=found.ratio("docker-registry", "ours"),
        bar=_UNPACED,
        at_least=True,
        figures=f"{found.text('ours')} against {found.text('docker-registry')} s",
    )


def _paced(bench: Bench, folder: Path, world: RealRegistry) -> Iterator[Row]:
    firsts = Samples()

    def noting(name: str, take: Callable[[], Download]) -> Callable[[], float]:
        def run() -> float:
            taken = take()
            firsts.add(name, taken.first_byte_s)
            return taken.took_s

        return run

    measures = {
        "direct": lambda: _direct(world),
        "ranges off": lambda: _miss(folder, world.url, *_ONE_CONNECTION),
        "ranges on": lambda: _miss(folder, world.url),
    }
    found = in_turns(bench, "cold blob, 32 MiB/s", {name: noting(name, take) for name, take in measures.items()})
    for name in ("ranges off", "ranges on"):
        yield _first_byte_row(name, firsts)
    yield Row(
        name="cold 256 MiB blob, 32 MiB/s per connection, ranges off: time / direct",
        value=found.ratio("ranges off", "direct"),
        bar=_RANGES_OFF,
        figures=f"{found.text('ranges off')} against {found.text('direct')} s",
    )
    yield Row(
        name="cold 256 MiB blob, 32 MiB/s per connection, ranges on: speed / direct",
        value=found.ratio("direct", "ranges on"),
        bar=_RANGES_ON,
        at_least=True,
        figures=f"{found.text('ranges on')} against {found.text('direct')} s",
    )


def _first_byte_row(name: str, firsts: Samples) -> Row:
    later = [mine - direct for mine, direct in zip(firsts.of(name), firsts.of("direct"), strict=True)]
    mine, direct = (firsts.text(which, scale=1e3, digits=1) for which in (name, "direct"))
    return Row(
        name=f"cold 256 MiB blob, {name}: first byte later than the upstream's own",
        value=statistics.median(later) * 1e3,
        bar=_FIRST_BYTE_MS,
        unit="ms",
        digits=1,
        figures=f"by {spread_text(later, scale=1e3, digits=1)}: {mine} against {direct} ms",
    )


def _direct(world: RealRegistry) -> Download:
    get_whole(f"{theirs(world.url)}/manifests/{TAG}")
    return download(f"{theirs(world.url)}/blobs/{big_blob()}", BLOB_BYTES)


def _miss(folder: Path, upstream: str, *args: str) -> Download:
    with (
        tempfile.TemporaryDirectory(dir=folder) as data,
        mirror_of(Path(data), upstream, *args) as mirror,
    ):
        url = ours(mirror.base_url)
        get_whole(f"{url}/manifests/{TAG}")
        found = download(f"{url}/blobs/{big_blob()}", BLOB_BYTES)
        check_blob(url)
        return found


def _rival_miss(folder: Path, upstream: str) -> Download:
    with (
        tempfile.TemporaryDirectory(dir=folder) as data,
        real_registry(Path(data), mirror_of=upstream) as rival,
    ):
        url = theirs(rival.direct_url)
        get_whole(f"{url}/manifests/{TAG}")
        found = download(f"{url}/blobs/{big_blob()}", BLOB_BYTES)
        check_blob(url)
        return found
