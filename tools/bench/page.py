"""The page of benchmarks, the table on the screen and the same as JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.table import Table
from tools.bench.model import Row

from testbed.programs import find_program

_GIB: Final = 1024**3
_VERSIONS: Final = (("docker-registry", "--version"), ("nginx", "-v"), ("wrk", "-v"), ("curl", "--version"))
_HOW: Final = """\
Written by `make bench`; do not edit. Everything runs on one machine over loopback, clients included: ratios count,
absolute figures drift. Rivals take turns within a round and the order is another in each round. Figures are
medians, with the least and the most in brackets; ratios are those of the medians.

- *docker-registry* is a pull-through mirror of the same upstream, warm where the row is warm. It logs one line per
  request, as the mirror does. *nginx* has two workers, `sendfile`, and serves the mirror's own file.
- The mirror has two workers and its default settings, where the row does not say otherwise.
- A download that is short, wrong or refused ends the run. An upstream that is paced or far away is behind a proxy in
  a process of its own: so many bytes a second per connection, one round trip for each connection and each request.
"""


def table_of(rows: Sequence[Row]) -> Table:
    """Return the rows for a screen."""
    table = Table("measure", "value", "bar", "", "figures")
    for row in rows:
        verdict = "[green]met[/green]" if row.is_met else "[red]MISSED[/red]"
        table.add_row(row.name, row.value_text, row.bar_text, verdict, row.figures)
    return table


def json_of(rows: Sequence[Row], *, rounds: int) -> str:
    """Return the rows for a program."""
    found = [
        {
            "name": row.name,
            "value": row.value,
            "unit": row.unit,
            "bar": row.bar,
            "at_least": row.at_least,
            "met": row.is_met,
            "figures": row.figures,
        }
        for row in rows
    ]
    return json.dumps({"machine": machine(), "versions": versions(), "rounds": rounds, "rows": found}, indent=1)


def write_page(path: Path, rows: Sequence[Row], *, rounds: int, took_s: float) -> None:
    """Write the section of a whole run; the other sections of the page stay."""
    write_section(path, "The accelerator", _HOW, rows, rounds=rounds, took_s=took_s, programs=versions())


def write_section(
    path: Path, title: str, how: str, rows: Sequence[Row], *, rounds: int, took_s: float, programs: Sequence[str]
) -> None:
    """Write one section of the page, in its place or at the end; ``how`` says how its rows are measured."""
    met = sum(row.is_met for row in rows)
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [f"## {title}", "", how]
    lines += [f"- Run: {day}, {rounds} rounds, {took_s / 60:.0f} minutes; {met} of {len(rows)} bars are met."]
    lines += [f"- Machine: {machine()}.", f"- Versions: {'; '.join(programs)}.", ""]
    lines += ["| measure | value | bar | | figures |", "|---|---|---|---|---|"]
    lines += map(_line_of, rows)
    path.write_text(replace_section(path.read_text(encoding="utf-8"), title, "\n".join(lines)), encoding="utf-8")


def update_section(path: Path, title: str, rows: Sequence[Row], *, alone: str, rounds: int) -> None:
    """Put rows that were measured later into a section, in the place of those of the same names or at its end.

    ``alone`` says which scenarios they are; what the section says of not having measured these goes.
    """
    page = path.read_text(encoding="utf-8")
    section = next(part for part in _sections(page) if part.startswith(f"## {title}\n")).rstrip("\n")
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [line for line in section.split("\n") if not re.match(rf"- \*\*Not measured\*\*: ({alone}):", line)]
    for row in rows:
        place = next((at for at, line in enumerate(lines) if line.startswith(f"| {row.name} |")), len(lines))
        lines[place : place + 1] = [_line_of(row)]
    verdicts = re.findall(r"\| (met|\*\*missed\*\*) \|", "\n".join(lines))
    count = f"{verdicts.count('met')} of {len(verdicts)} bars are met."
    lines = [re.sub(r"\d+ of \d+ bars are met\.", count, line) for line in lines]
    place = next(number for number, line in enumerate(lines) if line.startswith("- Machine: "))
    lines.insert(place, f"- Measured again alone: {alone.replace('|', ', ')}, {day}, {rounds} rounds.")
    path.write_text(replace_section(page, title, "\n".join(lines)), encoding="utf-8")


def _line_of(row: Row) -> str:
    verdict = "met" if row.is_met else "**missed**"
    return f"| {row.name} | {row.value_text} | {row.bar_text} | {verdict} | {row.figures} |"


def _sections(page: str) -> list[str]:
    return re.split(r"^(?=## )", page, flags=re.MULTILINE)


def replace_section(page: str, title: str, section: str) -> str:
    """Return ``page`` with ``section`` (its heading included) in place of the one of that title, or at its end."""
    kept = [part.rstrip("\n") for part in _sections(page)]
    place = next((number for number, part in enumerate(kept) if part.startswith(f"## {title}\n")), len(kept))
    kept[place : place + 1] = [section.rstrip("\n")]
    return "\n\n".join(kept) + "\n"


def machine() -> str:
    """Return what the figures were taken on."""
    processor = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    name = processor[1] if processor else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.platform()}"


def versions(programs: Sequence[tuple[str, str]] = _VERSIONS) -> list[str]:
    """Return the versions of all programs that took part, each with the option that makes it tell."""
    found = [f"Python {platform.python_version()}"]
    for program, option in programs:
        done = subprocess.run([find_program(program), option], capture_output=True, text=True, check=False, timeout=10)
        first = (done.stdout or done.stderr).splitlines()[0]
        text = re.search(r"\d+\.\d+[\w.+~-]*", first)
        found.append(f"{program} {text[0]}" if text else first)
    return found
