"""Workers come and go with the load, and nobody who asks meanwhile loses an answer."""

from __future__ import annotations

import http.client
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.zoo import ZooRegistry

WORKERS = 3
IMAGE = images.opaque([20_000], seed="crew")
PATH = f"/v2/docker.io/library/app/manifests/{IMAGE.digest}"
_PROGRAM = """
import sys
from dataclasses import replace
from hunqi import app
from hunqi.config import load_mirror_settings, process_inputs
from hunqi.mirror.process import crew

crew.BUSY, crew.QUIET, crew.QUIET_S = 0.05, 0.04, 2.0  # the clients of a test are slow
listen, data, workers = sys.argv[1:]
flags = {"listen": listen, "data": data, "workers": workers}
settings = load_mirror_settings(process_inputs(flags))
sys.exit(app.serve_mirror(replace(settings, workers_at_rest=1)))
"""


class RestingMirror(RunningMirror):
    """A mirror as a machine of a cluster has it: one worker while there is little to do."""

    def command(self) -> list[str]:
        listen = f"{self.listen}:{self.port}"
        return [sys.executable, "-c", _PROGRAM, listen, str(self.data), str(WORKERS)]


@dataclass
class Clients:
    """Ask on kept connections as fast as they can; every answer that is not right is kept."""

    port: int
    lost: list[str] = field(default_factory=list[str])
    asked: int = 0
    parted: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def work(self, pause_s: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30.0)
        while not self.stop.wait(pause_s):
            try:
                connection.request("GET", PATH, headers={"Accept": MANIFEST_TYPES})
                response = connection.getresponse()
                right = images.digest_of(response.read()) == IMAGE.digest
                if not right or response.status != 200:
                    self.lost.append(f"{response.status}")
                self.parted += bool(response.will_close)
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                connection.close()
            self.asked += 1
        connection.close()


@pytest.fixture
def zoo() -> Iterator[ZooRegistry]:
    with ZooRegistry([IMAGE], tags={"app": IMAGE}) as registry:
        yield registry


def test_workers_come_under_load_and_go_at_rest(tmp_path: Path, zoo: ZooRegistry) -> None:
    with RestingMirror(tmp_path, env={"DOCKER_IO": zoo.url}) as mirror:
        assert len(mirror.children()) == 2, "the fetcher and one worker"
        busy, calm = Clients(mirror.port), Clients(mirror.port)
        threads = [threading.Thread(target=busy.work, args=(0.0,), daemon=True) for _ in range(6)]
        threads.append(threading.Thread(target=calm.work, args=(0.05,), daemon=True))
        for thread in threads:
            thread.start()
        wait_for(lambda: len(mirror.children()) == 1 + WORKERS, timeout_s=30.0, what="all workers")
        wait_for(lambda: busy.parted > 0, timeout_s=10.0, what="connections to be given to the new workers")
        mirror.kill_one(1)
        wait_for(lambda: len(mirror.children()) == 1 + WORKERS, timeout_s=30.0, what="the worker that was killed")
        time.sleep(0.5)
        lost_by_kill = len(busy.lost) + len(calm.lost)
        busy.stop.set()
        wait_for(lambda: len(mirror.children()) == 2, timeout_s=30.0, what="one worker again")
        asked = calm.asked
        wait_for(lambda: calm.asked > asked + 10, timeout_s=10.0, what="answers of the one that is left")
        calm.stop.set()
        for thread in threads:
            thread.join(30.0)
        assert len(busy.lost) + len(calm.lost) == lost_by_kill, "more than the killed worker's own were lost"
        assert lost_by_kill <= len(threads), f"{busy.lost} {calm.lost}"
        assert mirror.stop() == 0
