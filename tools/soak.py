"""`make soak`: mixed load with faults; every byte is checked, memory and open files must stay flat."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from testbed import images
from testbed.client import fetch
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry, real_registry

REPOSITORY = "library/soak"
LAYERS = [(number % 7 + 1) * images.MIB for number in range(24)]
CLIENTS = 6
WHOLE_SHARE = 0.8
"""So many of the answers must be whole, faults and all."""
GROWTH = 1.5
"""Memory and open files at the end may be so many times what they were after the first minute."""


class Soak:
    """The load; ``wrong`` counts complete bodies that were not right and must stay 0."""

    def __init__(self, mirror: RunningMirror, world: RealRegistry, image: images.Image) -> None:
        self.mirror = mirror
        self.world = world
        self.image = image
        self.until = 0.0
        self.asked = self.whole = self.cut = self.wrong = self.kills = 0
        self.broken: list[BaseException] = []
        self._lock = threading.Lock()

    def read(self, seed: int) -> None:
        """Read blobs, whole and in ranges, until the time is over."""
        rng = random.Random(seed)
        while time.monotonic() < self.until:
            digest = rng.choice(self.image.layers)
            data = self.image.blobs[digest]
            first = rng.randrange(len(data)) if rng.random() < 0.4 else 0
            headers = {"Range": f"bytes={first}-"} if first else {}
            url = f"{self.mirror.base_url}/v2/docker.io/{REPOSITORY}/blobs/{digest}"
            try:
                answer = fetch(url, headers=headers, timeout_s=30.0)
            except OSError:
                time.sleep(0.2)
                continue
            right = answer.status in {200, 206} and answer.is_whole
            with self._lock:
                self.asked += 1
                self.whole += right
                self.cut += not right
                self.wrong += right and sha256(answer.body).digest() != sha256(data[first:]).digest()

    def disturb(self, seed: int) -> None:
        """Evict, cut the upstream's connections and kill a process now and then."""
        rng = random.Random(seed)
        while time.monotonic() < self.until:
            time.sleep(rng.uniform(1.0, 3.0))
            match rng.randrange(4):
                case 0:
                    self.world.wire.cut_all()
                case 1:
                    self.mirror.cli("rm", f"docker.io/{REPOSITORY}:latest", check=False)
                case 2:
                    self.mirror.cli("warm", f"docker.io/{REPOSITORY}:latest", check=False)
                case _ if rng.random() < 0.2:
                    children = self.mirror.children()
                    if children:
                        self.mirror.kill_one(rng.randrange(len(children)))
                        self.kills += 1
                case _:
                    self.mirror.cli("gc", check=False)

    def _guard(self, work: Callable[[int], None], seed: int) -> None:
        """Run one thread's work; a load that ended early must not look like one that went well."""
        try:
            work(seed)
        except Exception as error:
            self.broken.append(error)

    def run(self, minutes: float) -> tuple[int, int]:
        """Run the load for so long; return memory (bytes) and open files at the end."""
        self.until = time.monotonic() + minutes * 60
        threads = [threading.Thread(target=self._guard, args=(self.read, number)) for number in range(CLIENTS)]
        threads.append(threading.Thread(target=self._guard, args=(self.disturb, 99)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(2.0)
        return self.mirror.pss_bytes(), len(self.mirror.open_files())


def main() -> int:
    """Soak; 0 when nothing was wrong and nothing grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    console = Console()
    image = images.opaque(LAYERS, seed="soak")
    with tempfile.TemporaryDirectory(prefix="hunqi-soak-") as folder:
        base = Path(folder)
        with (
            real_registry(base / "world", seed={f"{REPOSITORY}:latest": image}) as world,
            RunningMirror(base / "m", upstreams={"docker.io": world.url}, args=["--cache-max", "64MiB"]) as mirror,
        ):
            soak = Soak(mirror, world, image)
            memory, files = soak.run(min(1.0, minutes / 4))
            last_memory, last_files = soak.run(minutes - min(1.0, minutes / 4))
    console.print(
        f"{soak.asked} answers: {soak.whole} whole, {soak.cut} cut or refused, [bold]{soak.wrong} wrong[/bold]"
    )
    console.print(f"{soak.kills} processes killed; threads of the load that failed: {soak.broken or 'none'}")
    console.print(f"memory {memory / 1e6:.0f} -> {last_memory / 1e6:.0f} MB, open files {files} -> {last_files}")
    flat = last_memory < memory * GROWTH and last_files < files * GROWTH + 20
    served = soak.whole > soak.asked * WHOLE_SHARE and not soak.broken
    return 0 if soak.wrong == 0 and served and flat else 1


if __name__ == "__main__":
    sys.exit(main())
