"""What goes wrong meanwhile: upstreams break, content is evicted, and in the first third processes die."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Final

from tools.soak.readers import Shelf
from tools.soak.tally import Tally

from testbed import images
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry
from testbed.wire import Break, Fault
from testbed.zoo import ANIMALS, HONEST, ZooRegistry

_PEACE_S: Final = (1.0, 4.0)
_TROUBLE_S: Final = (1.0, 3.0)
_BLOBS: Final = "/blobs/"
_FAULTS: Final = (
    Fault(kind=Break.RESET, pattern=_BLOBS, times=4),
    Fault(kind=Break.SILENT, pattern=_BLOBS, times=2),
    Fault(kind=Break.STATUS, pattern=_BLOBS, status=500, times=6),
    Fault(kind=Break.STATUS, pattern="/v2/", status=503, times=6),
    Fault(kind=Break.STATUS, pattern="/v2/", status=429, headers=(("Retry-After", "1"),), times=3),
    Fault(kind=Break.CUT, pattern=_BLOBS, after_bytes=300_000, times=6),
    Fault(kind=Break.STALL, pattern=_BLOBS, after_bytes=200_000, times=2),
    Fault(kind=Break.CORRUPT, pattern=_BLOBS, after_bytes=100_000, times=3),
)
_ANIMALS: Final = tuple(
    animal for animal in ANIMALS.values() if not (animal.refuses or animal.silent or animal.name == "slow-trickle")
)
_PACES: Final = (None, None, 8 * images.MIB, 2 * images.MIB)


class Disturbing:
    """The work of the one thread that breaks things."""

    def __init__(
        self, mirror: RunningMirror, world: RealRegistry, zoo: ZooRegistry, shelf: Shelf, tally: Tally, *, seed: int
    ) -> None:
        """Choose by ``seed``."""
        self._mirror = mirror
        self._world = world
        self._zoo = zoo
        self._shelf = shelf
        self._tally = tally
        self._rng = random.Random(f"faults {seed}")

    def run(self, over: Callable[[], bool], is_violent: Callable[[], bool]) -> None:
        """Disturb until ``over()``; kill and reload only while ``is_violent()``."""
        gentle = (self._break_wire, self._cut, self._refuse, self._change_animal, self._change_pace, self._operate)
        violent = (self._kill_worker, self._kill_fetcher, self._reload)
        while not over():
            time.sleep(self._rng.uniform(*_PEACE_S))
            self._rng.choice(violent if is_violent() and self._rng.random() < 0.3 else gentle)()
            self._tally.count("faults")
        self.heal()

    def heal(self) -> None:
        """End every trouble."""
        self._world.wire.heal()
        self._world.wire.set_link()
        self._zoo.animal = HONEST
        self._zoo.heal()

    def _break_wire(self) -> None:
        self._world.wire.inject(self._rng.choice(_FAULTS))
        time.sleep(self._rng.uniform(*_TROUBLE_S))
        self._world.wire.heal()

    def _cut(self) -> None:
        self._world.wire.cut_all()

    def _refuse(self) -> None:
        """Let the upstream be away for a moment."""
        self._world.wire.refuse()
        time.sleep(self._rng.uniform(*_TROUBLE_S))
        self._world.wire.heal()

    def _change_animal(self) -> None:
        self._zoo.animal = self._rng.choice(_ANIMALS)
        self._zoo.sick = True
        time.sleep(self._rng.uniform(*_TROUBLE_S))
        self._zoo.animal = HONEST
        self._zoo.heal()

    def _change_pace(self) -> None:
        self._world.wire.set_link(pace_bytes_s=self._rng.choice(_PACES), latency_s=self._rng.choice([0.0, 0.02]))

    def _operate(self) -> None:
        """Do what an operator does."""
        image = f"{self._rng.choice(list(self._shelf.images))}:latest"
        command = self._rng.choice([("rm", image), ("warm", image), ("gc",), ("stat",), ("ls",), ("pin", image)])
        self._mirror.cli(*command, check=False)
        if command[0] == "pin":
            self._mirror.cli("unpin", image, check=False)

    def _kill_worker(self) -> None:
        workers = self._mirror.worker_pids()
        if workers:
            self._kill(self._rng.choice(workers))

    def _kill_fetcher(self) -> None:
        fetcher = self._mirror.fetcher_pid()
        if fetcher is not None:
            self._kill(fetcher)

    def _kill(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._tally.count("killed")

    def _reload(self) -> None:
        self._mirror.reload()
        self._tally.count("reloaded")
