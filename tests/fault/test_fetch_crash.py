"""kill -9 at any moment: what was recorded is kept, the rest is asked for by Range, the blob is right."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hunqi.mirror.fetch.driver import DriverLimits
from hunqi.mirror.fetch.state import FetchStatus
from hunqi.mirror.settings import MIB
from support_fetch import PLAIN, RANGES, BlobServer, bench, payload, source

SIZE = 48 * MIB
DATA = payload(SIZE, seed=9)
PACE = 32 * MIB
FLUSH_S = 0.2
_CHILD = """
import sys, threading
from pathlib import Path
from support_fetch import *
directory, url, mode = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
limits = DriverLimits(flush_s=0.2)
made = Bench(directory, [source(url)], settings=PLAIN if mode == "plain" else RANGES, limits=limits)
from hunqi.oci.digest import Digest
blob = RemoteBlob(upstream="docker.io", repository="library/demo", digest=Digest.parse(sys.argv[4]))
fetch = made.fetches.join(blob, repo="docker.io/library/demo", size=int(sys.argv[5]))
print("joined", flush=True)
fetch.wait(60)
"""


@pytest.mark.parametrize("seed", range(8))
def test_killed_and_restarted_it_goes_on_where_it_was(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    mode = "plain" if seed % 2 else "ranges"
    with BlobServer(DATA, pace_bytes_s=PACE if mode == "plain" else PACE // 4) as server:
        for _ in range(2):
            _run_and_kill(tmp_path, server, mode, after_s=rng.uniform(0.05, 0.5))
        time.sleep(0.1)
        sent = server.server.sent_bytes()
        server.server.link.pace_bytes_s = None
        server.server.forget()
        settings = PLAIN if mode == "plain" else RANGES
        with bench(tmp_path, [source(server.url)], settings=settings, limits=DriverLimits(flush_s=FLUSH_S)) as b:
            assert b.join(DATA).wait(20).status is FetchStatus.DONE
            assert b.kept(DATA) == DATA
            again = sent + server.server.sent_bytes() - SIZE
            # Per kill: what a flush period and a slow disk leave unrecorded, and what sockets held.
            assert again <= 2 * (PACE * (FLUSH_S + 0.4) + 8 * 2 * MIB)


def _run_and_kill(directory: Path, server: BlobServer, mode: str, *, after_s: float) -> None:
    from support_fetch import remote

    tests = Path(__file__).parents[1]
    arguments = [str(directory), server.url, mode, str(remote(DATA).digest), str(SIZE)]
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, *arguments],
        env={**os.environ, "PYTHONPATH": str(tests)},
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"joined\n"
        time.sleep(after_s)
        child.send_signal(signal.SIGKILL)
        child.wait(5)


def test_what_was_recorded_is_not_asked_for_again(tmp_path: Path) -> None:
    with BlobServer(DATA, pace_bytes_s=PACE) as server:
        _run_and_kill(tmp_path, server, "plain", after_s=1.0)
        server.server.link.pace_bytes_s = None
        server.server.forget()
        with bench(tmp_path, [source(server.url)], settings=PLAIN) as b:
            assert b.join(DATA).wait(20).status is FetchStatus.DONE
            assert b.kept(DATA) == DATA
        assert server.server.sent_bytes() < SIZE - 8 * MIB
        assert all(record.headers.get("range") for record in server.server.records)
