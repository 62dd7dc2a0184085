"""The command of `make bench-cluster`."""

from __future__ import annotations

import sys
from typing import Final

from tools.bench.command import Suite, run
from tools.bench_cluster import (
    absence,
    added,
    cut,
    deploys,
    effect,
    many,
    neighbours,
    reconcile,
    recovery,
    starting,
)

SUITE: Final = Suite(
    prog="make bench-cluster",
    description="Measure the platform on three machines.",
    title="The cluster",
    scenarios={
        "many": many.measure,
        "reconcile": reconcile.measure,
        "added": added.measure,
        "starting": starting.measure,
        "worker": starting.measure_worker,
        "effect": effect.measure,
        "deploys": deploys.measure,
        "slow": deploys.measure_slow,
        "absence": absence.measure,
        "neighbours": neighbours.measure,
        "cut": cut.measure,
        "recovery": recovery.measure,
    },
    how="""\
Written by `make bench-cluster`; do not edit. The machines are network namespaces of one host, each with a dockerd of
its own, one Swarm; load, control, gateways and tasks share its processors. The load is open: a constant rate, latency
counted from the intended start, kept and fresh connections mixed, nothing retried. *Failed* is every request that did
not get its own right answer (refused, reset, cut, timed out, no 2xx, another's answer), and every POST that came twice.
""",
)


if __name__ == "__main__":
    sys.exit(run(SUITE))
