"""What commands print: tables and progress for people, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from hunqi.kit.units import show_duration, show_size

Row = Mapping[str, Any]
_PIPE_COLUMNS: Final = 1000
_SHORT_DIGEST: Final = len("sha256:") + 12
"""What a terminal shows of a digest, as Docker does; a pipe and --json get all of it."""
_SIZES: Final = ("bytes", "size", "total", "done", "cached", "pushed_size", "cache_max")
_TIMES: Final = ("last_used", "pushed", "created", "since", "started", "at")


def out() -> Console:
    """Return the console of results; plain, and as wide as it needs, where standard output is no terminal."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(soft_wrap=True, highlight=False, width=_PIPE_COLUMNS)


def print_json(value: object) -> None:
    """Print one JSON value."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_rows(rows: Sequence[Row], *, title: str = "", columns: Sequence[str] = (), empty: str = "nothing") -> None:
    """Print rows as a table; without ``columns`` every key that a row has is one."""
    console = out()
    if not rows:
        console.print(Text(f"{title}: {empty}" if title else empty, style="dim"))
        return
    names = list(columns) or list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        numeric = any(isinstance(row.get(name), int | float) and not isinstance(row.get(name), bool) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    now = time.time()
    for row in rows:
        cells = {name: show_cell(name, row.get(name), now=now) for name in names}
        if console.is_terminal and "digest" in cells:
            cells["digest"] = cells["digest"][:_SHORT_DIGEST]
        table.add_row(*cells.values())
    console.print(table)


def print_facts(facts: Row, *, title: str = "") -> None:
    """Print a mapping as two columns; nested mappings are named ``outer inner``."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    now = time.time()
    for key, value in _flat(facts):
        table.add_row(key.replace("_", " "), show_cell(key.split()[-1], value, now=now))
    console = out()
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)


def show_cell(name: str, value: Any, *, now: float) -> str:
    """Return one value for the eye; its name tells sizes, moments (seconds since 1970) and durations apart."""
    match value:
        case None:
            return "never" if name in _TIMES else "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() if name in _TIMES:
            return f"{show_duration(max(0.0, now - value))} ago" if value else "never"
        case int() | float() if name == "speed":
            return f"{show_size(value)}/s"
        case int() | float() if name in _SIZES or name.endswith(("_bytes", "_size")):
            return show_size(value)
        case int() | float() if name.endswith("_s"):
            return show_duration(value)
        case float():
            return f"{value:.3g}"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(str(item) for item in cast("Sequence[object]", value))
        case _:
            return str(value)


def _flat(facts: Row, prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            pairs += _flat(cast("Row", value), f"{prefix}{key} ")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


class Bars:
    """Progress bars on standard error; none with ``--json`` or where standard error is no terminal."""

    def __init__(self, *, quiet: bool, in_bytes: bool = True) -> None:
        console = Console(stderr=True)
        amount = (DownloadColumn(binary_units=True), TransferSpeedColumn()) if in_bytes else (TaskProgressColumn(),)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            *amount,
            TimeRemainingColumn(compact=True),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, name: str, *, done: float, total: float | None) -> None:
        """Show that ``name`` is at ``done`` of ``total``."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)
