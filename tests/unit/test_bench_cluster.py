"""What the cluster's benchmarks make of outcomes, and how memory is counted."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
from tools.bench_cluster.cut import strong_again

from testbed.load import Outcome
from testbed.processes import resident_bytes, wait_for

MIB = 1 << 20


def answered(at: float, task: str, kind: str = "ok") -> Outcome:
    return Outcome(
        id="1",
        at=at,
        latency_s=0.01,
        kind=kind,
        status=200,
        target=0,
        method="GET",
        fresh=False,
        task=task,
        seen=0,
        late_s=0.0,
    )


def test_full_strength_is_when_the_third_surviving_task_answers() -> None:
    outcomes = (
        answered(99.0, "web.3@node2"),
        answered(100.1, "web.1@node1"),
        answered(100.2, "web.2@node3"),
        answered(101.0, "web.2@node2", kind="cut"),
        answered(110.0, "web.4@node1", kind="timeout"),
        answered(112.0, "web.4@node1"),
    )
    assert strong_again(outcomes, "node3", 100.0, 200.0) == math.inf
    assert strong_again((*outcomes, answered(115.0, "web.5@node2")), "node3", 100.0, 200.0) == pytest.approx(15.01)
    assert strong_again(outcomes, "node4", 100.0, 200.0) == pytest.approx(12.01)


@pytest.mark.skipif(os.geteuid() != 0, reason="pagemap shows frames to root alone")
def test_pages_of_several_processes_are_counted_once() -> None:
    script = (
        f"import os, sys; held = b'x' * {64 * MIB}; child = os.fork()\n"
        "if not child: sys.stdin.read(); os._exit(0)\n"
        "print(child, flush=True); sys.stdin.read(); os.waitpid(child, 0)"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        child = int(parent.stdout.readline())
        wait_for(lambda: resident_bytes([child]) > 64 * MIB, timeout_s=5.0, what="the child's memory")
        alone, both = resident_bytes([parent.pid]), resident_bytes([parent.pid, child])
        parent.stdin.close()
    assert 64 * MIB < alone < 100 * MIB
    assert both < alone + 8 * MIB
    assert resident_bytes([child]) == 0
