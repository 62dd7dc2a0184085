"""The command of `make soak`: a line every ten seconds, a verdict at the end; 0 when every promise was kept."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from tools.soak.faults import Disturbing
from tools.soak.pushers import Pushing
from tools.soak.readers import Reading, Shelf
from tools.soak.tally import Tally
from tools.soak.watch import Trend, Watch

from testbed import images
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.registry import RealRegistry, real_registry
from testbed.server import Link
from testbed.trial import wrong_files
from testbed.zoo import ZooRegistry

_READERS: Final = 6
_PUSHERS: Final = 2
_SIZES: Final = (70_000, 500_000, 2 * images.MIB, 5 * images.MIB, 9 * images.MIB, 20 * images.MIB)
"""Of every image's blobs: within the withheld tail, small, and over the threshold of ranged fetches."""
_MIRRORED: Final = 4
_CACHE_MAX: Final = "64MiB"
"""A third of what the readers want: eviction never rests."""
_CONFIG: Final = '[mirror.space]\nupload-max-age = "20s"\n'
_ARGS: Final = (
    *("--connect-timeout", "1s", "--first-byte-timeout", "2s", "--stall-timeout", "2s", "--tag-ttl", "2s"),
    *("--cache-max", _CACHE_MAX, "--allow-anonymous-push"),
)
_VIOLENT_SHARE: Final = 1 / 3
_WARM_SHARE: Final = 0.1
"""So much of the time after the last kill is not judged."""
_LINE_S: Final = 10.0
_JOIN_S: Final = 120.0
_SETTLE_S: Final = 45.0
_WHOLE_SHARE: Final = 0.8
_DEFECTS: Final = ("wrong", "lost", "internal", "unknown", "hung", "push refused")
_FILES_AFTER: Final = 40
"""So many more files than before may be open after the load, databases aside: connections to upstreams are kept."""


@dataclass(slots=True, kw_only=True)
class Soak:
    """One soak."""

    mirror: RunningMirror
    world: RealRegistry
    zoo: ZooRegistry
    shelf: Shelf
    seed: int
    tally: Tally = field(default_factory=Tally)
    broken: list[BaseException] = field(default_factory=list[BaseException])
    _until_s: float = 0.0

    def is_over(self) -> bool:
        """Whether the load is to end."""
        return time.monotonic() > self._until_s

    def run(self, watch: Watch, *, seconds: float, say: Callable[[str], None]) -> tuple[Trend, Trend]:
        """Run the load; return the trends of memory and of open files after the violent third."""
        begun = time.monotonic()
        self._until_s = begun + seconds
        violent_until_s = begun + seconds * _VIOLENT_SHARE
        disturbing = Disturbing(self.mirror, self.world, self.zoo, self.shelf, self.tally, seed=self.seed)
        work: list[Callable[[], None]] = [
            lambda: disturbing.run(self.is_over, lambda: time.monotonic() < violent_until_s),
            lambda: watch.run(self.is_over),
        ]
        for number in range(_READERS):
            reading = Reading(self.mirror, self.shelf, self.tally, seed=self.seed + number)
            work.append(lambda reading=reading: reading.run(self.is_over))
        for number in range(_PUSHERS):
            pushing = Pushing(self.mirror, self.tally, seed=self.seed + number)
            work.append(lambda pushing=pushing: pushing.run(self.is_over))
        threads = [threading.Thread(target=self._guard, args=(one,), daemon=True) for one in work]
        for thread in threads:
            thread.start()
        self._report(watch, begun, violent_until_s, say)
        for thread in threads:
            thread.join(_JOIN_S)
        self.broken += [TimeoutError("a thread of the load did not end") for thread in threads if thread.is_alive()]
        judged_from_s = violent_until_s + (self._until_s - violent_until_s) * _WARM_SHARE
        return watch.trends(since_s=judged_from_s, until_s=self._until_s)

    def _report(self, watch: Watch, begun: float, violent_until_s: float, say: Callable[[str], None]) -> None:
        while not self.is_over():
            time.sleep(min(_LINE_S, max(0.1, self._until_s - time.monotonic())))
            sample, now = watch.samples[-1], time.monotonic()
            kind = "killing" if now < violent_until_s else "calm"
            defects = sum(self.tally.counts[name] for name in _DEFECTS)
            say(
                f"{now - begun:4.0f} s, {kind}: {self.tally.line()}; defects {defects}; "
                f"{sample.pss_bytes / 1e6:.0f} MB, {sample.files} files"
            )

    def _guard(self, work: Callable[[], None]) -> None:
        """Run one thread's work; a load that ended early must not look like one that went well."""
        try:
            work()
        except Exception as error:
            self.broken.append(error)


@contextlib.contextmanager
def surroundings(base: Path, *, seed: int) -> Generator[Soak]:
    """Run an honest registry behind a wire, a zoo, and the mirror of both."""
    mirrored = {f"library/soak{number}": images.opaque(_SIZES, seed=(seed, number)) for number in range(_MIRRORED)}
    fickle = images.opaque(_SIZES[:-1], seed=(seed, "zoo"))
    shelf = Shelf(
        images={**{f"docker.io/{name}": image for name, image in mirrored.items()}, "zoo.test/library/soak": fickle},
        fickle=frozenset({"zoo.test/library/soak"}),
    )
    seeded = {f"{name}:latest": image for name, image in mirrored.items()}
    with (
        real_registry(base / "world", seed=seeded, own_process=True, link=Link()) as world,
        ZooRegistry([fickle]) as zoo,
        RunningMirror(
            base / "mirror",
            upstreams={"docker.io": world.url, "zoo.test": zoo.url},
            args=[*_ARGS, "--access-log", str(base / "access.log")],
            workers=2,
            config=_CONFIG,
        ) as mirror,
    ):
        yield Soak(mirror=mirror, world=world, zoo=zoo, shelf=shelf, seed=seed)


def main() -> int:
    """Soak."""
    parser = argparse.ArgumentParser(prog="make soak", description="Mixed load with faults.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="of all choices; threads still race")
    parser.add_argument("--keep", action="store_true", help="keep the directory when something was wrong")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    base = Path(tempfile.mkdtemp(prefix="hunqi-soak-"))
    good = False
    try:
        with surroundings(base, seed=options.seed) as soak:
            good = _judge(soak, options.minutes * 60, console)
    finally:
        if options.keep and not good:
            console.print(f"kept: {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)
    return 0 if good else 1


def _judge(soak: Soak, seconds: float, console: Console) -> bool:
    """Run the load, look at what it left, print the verdict; return whether all was well."""
    watch, tally = Watch(soak.mirror), soak.tally
    before = watch.look()
    memory, files = soak.run(watch, seconds=seconds, say=console.print)
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: watch.look().loose <= before.loose + _FILES_AFTER, timeout_s=_SETTLE_S, what="rest")
    after = watch.look()
    verified = soak.mirror.cli("verify", check=False)
    wrong = wrong_files(soak.mirror.data)
    traces = soak.mirror.log.read_text(errors="replace").count("Traceback")
    found = {
        "defects": {name: tally.counts[name] for name in _DEFECTS if tally.counts[name]},
        "threads of the load that failed": soak.broken,
        "files of the store that are wrong": wrong,
        "exceptions in the log": traces,
    }
    console.print(f"answers by kind and status: {dict(sorted(tally.answers.items()))}")
    console.print(f"all counts: {dict(tally.counts)}; {tally.share_whole():.1%} whole")
    console.print(f"verify: {verified.strip().splitlines()[-1:]}")
    console.print(f"memory {memory.first / 1e6:.1f} -> {memory.last / 1e6:.1f} MB, files {files.first} -> {files.last}")
    console.print(
        f"open files before the load {before.files}, after it {after.files}, "
        f"databases aside {before.loose} and {after.loose}"
    )
    for note in tally.notes:
        console.print(f"  {note}", markup=False)
    for name, value in found.items():
        console.print(f"{name}: {value or 'none'}", markup=False)
    for line in watch.holdings():
        console.print(f"  {line}", markup=False)
    flat = memory.is_flat and files.is_flat and after.loose <= before.loose + _FILES_AFTER
    good = flat and not any(found.values()) and tally.share_whole() > _WHOLE_SHARE
    console.print("[green]all was well[/green]" if good else "[red]NOT all was well[/red]")
    if traces:
        console.print(soak.mirror.log.read_text(errors="replace").partition("Traceback")[2][:3000], markup=False)
    return good


if __name__ == "__main__":
    sys.exit(main())
