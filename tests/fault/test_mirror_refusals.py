"""What a start refuses, with the remedy, before anything is harmed; and what the supervisor keeps alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.client import fetch
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.programs import free_port

pytestmark = pytest.mark.real
NOBODY = {"docker.io": "http://127.0.0.1:9"}


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[RunningMirror]:
    with RunningMirror(tmp_path / "first", upstreams=NOBODY, workers=2) as running:
        yield running


def serve(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hunqi", "mirror", "serve", "--upstream", "docker.io=http://127.0.0.1:9", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def still_serves(mirror: RunningMirror) -> bool:
    return fetch(f"{mirror.base_url}/readyz").status == 200


def test_a_second_serve_on_the_same_directory_is_refused(mirror: RunningMirror) -> None:
    refused = serve("--data", str(mirror.data), "--listen", f"127.0.0.1:{free_port()}")
    assert refused.returncode != 0
    assert f"process {mirror.pid}" in refused.stderr
    assert "--data" in refused.stderr
    assert still_serves(mirror)


def test_a_port_that_another_mirror_shares_among_its_workers_is_taken(mirror: RunningMirror, tmp_path: Path) -> None:
    refused = serve("--data", str(tmp_path / "second"), "--listen", mirror.host)
    assert refused.returncode != 0
    assert "--listen" in refused.stderr
    assert still_serves(mirror)


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused = serve("--data", str(tmp_path / "file" / "data"), "--listen", f"127.0.0.1:{free_port()}")
    assert refused.returncode != 0
    assert str(tmp_path / "file") in refused.stderr.replace("\n", "")
    assert (tmp_path / "file").read_text() == "in the way"


def test_every_process_that_dies_is_started_again_and_sigterm_ends_all(mirror: RunningMirror) -> None:
    for number in range(3):
        before = mirror.children()
        os.kill(before[number], signal.SIGKILL)
        wait_for(
            lambda was=before: len(mirror.children()) == 3 and mirror.children() != was,
            timeout_s=10.0,
            what="a new child",
        )
    wait_for(lambda: still_serves(mirror), timeout_s=10.0, what="a mirror that serves")
    assert mirror.stop() == 0


def test_a_reload_while_a_dead_worker_waits_starts_it_once(mirror: RunningMirror) -> None:
    for _ in range(5):  # each death doubles the wait, until the reload falls into one
        wait_for(lambda: len(mirror.children()) == 3, timeout_s=10.0, what="three children")
        victim = max(mirror.children())
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda gone=victim: gone not in mirror.children(), timeout_s=10.0, what="a death that is noticed")
    before = set(mirror.children())
    mirror.reload()
    wait_for(
        lambda: len(mirror.children()) >= 3 and not before & set(mirror.children()),
        timeout_s=20.0,
        what="new children",
    )
    time.sleep(1.5)
    assert len(mirror.children()) == 3
    assert still_serves(mirror)
