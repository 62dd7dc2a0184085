"""The command of `make bench-elastic`."""

from __future__ import annotations

import sys
from typing import Final

from tools.bench.command import Suite, run
from tools.bench_elastic import asleep, growing, releases, simulated, split

SUITE: Final = Suite(
    prog="make bench-elastic",
    description="Measure gray release and elastic scaling on three machines.",
    title="Gray release and elastic scaling",
    scenarios={
        "equal": simulated.measure_equal,
        "daily": simulated.measure_daily,
        "conformance": simulated.measure_conformance,
        "split": split.measure,
        "growing": growing.measure,
        "asleep": asleep.measure,
        "releases": releases.measure,
    },
    how="""\
Written by `make bench-elastic`; do not edit. The machines and the load are those of *The cluster*.
""",
)


if __name__ == "__main__":
    sys.exit(run(SUITE))
