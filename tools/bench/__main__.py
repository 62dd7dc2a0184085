"""The command of `make bench`: measures, prints, writes docs/benchmarks.md.

The exit status is 0 also when a bar is missed, for the page says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from tools.bench import ROOT, blobs, cold, crowd, distance, fanout, manifests, peers, store
from tools.bench.model import Bench, Row
from tools.bench.page import json_of, table_of, write_page

SECTIONS: Final[Mapping[str, Callable[[Bench], Iterator[Row]]]] = {
    "manifests": manifests.measure,
    "blobs": blobs.measure,
    "cold": cold.measure,
    "fanout": fanout.measure,
    "peers": peers.measure,
    "distance": distance.measure,
    "crowd": crowd.measure,
    "store": store.measure,
}


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the mirror against its rivals.")
    parser.add_argument("--rounds", type=int, default=5, help="medians of so many rounds (default 5)")
    parser.add_argument(
        "--only",
        action="append",
        choices=[*SECTIONS],
        metavar="NAME",
        help=f"one of {', '.join(SECTIONS)}; again for more; writes no page",
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    names = options.only or list(SECTIONS)
    begun = time.monotonic()
    rows = _measure(names, max(1, options.rounds))
    if not options.only:
        page = ROOT / "docs" / "benchmarks.md"
        took_s = time.monotonic() - begun
        write_page(page, rows, rounds=options.rounds, took_s=took_s)
    if options.json:
        print(json_of(rows, rounds=options.rounds))
    else:
        Console().print(table_of(rows))
    return 0


def _measure(names: list[str], rounds: int) -> list[Row]:
    """Measure section by section; rows are shown as they come."""
    rows: list[Row] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        tempfile.TemporaryDirectory(prefix="hunqi-bench-") as folder,
        Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("starting", total=len(names))

        def say(text: str) -> None:
            progress.update(task, description=text)

        for name in names:
            for row in SECTIONS[name](Bench(base=Path(folder), rounds=rounds, say=say)):
                rows.append(row)
                mark = "[green]met[/green]   " if row.is_met else "[red]missed[/red]"
                progress.console.print(f"{mark} {row.name}: {row.value_text} (bar {row.bar_text}); {row.figures}")
            progress.advance(task)
    return rows


if __name__ == "__main__":
    sys.exit(main())
