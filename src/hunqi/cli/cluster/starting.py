"""Starting the platform on this machine, and showing how far it is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hunqi.platform import launch
from hunqi.platform.launch import PartReady
from hunqi.platform.settings import PlatformSettings
from hunqi.platform.status import read_status

if TYPE_CHECKING:
    from hunqi.platform.up import Tell


def program_name() -> str:
    """Return what to type for this program: its path where it is not in ``PATH``, as after ``make up``."""
    return "hunqi" if shutil.which("hunqi") else sys.argv[0]


def teller(*, quiet: bool) -> Tell:
    """Return what tells steps on standard error."""
    console = Console(stderr=True, highlight=False)

    def tell(text: str) -> None:
        if not quiet:
            console.print(Text(text))

    return tell


def start_and_wait(chosen: PlatformSettings, *, quiet: bool, start: bool = True) -> None:
    """Start the supervisor (unless it runs) and wait until all answers, showing how far it is.

    Raises ``NotReadyError``.
    """
    from hunqi.cli.cluster import supervised

    if start:
        launch.start_detached(chosen, supervised.command(chosen))
    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal:
        launch.await_ready(chosen, lambda _parts: None)
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        launch.await_ready(chosen, lambda parts: live.update(render_parts(parts)))


def start_anew(chosen: PlatformSettings, *, quiet: bool) -> None:
    """Have what runs begin again by what is saved, or start it. Raises ``NotReadyError``, ``StopError``."""
    from hunqi.platform import upgrade

    is_running = read_status(chosen) is not None
    if is_running:
        upgrade.restart(chosen)
    start_and_wait(chosen, quiet=quiet, start=not is_running)


def render_parts(parts: Sequence[PartReady]) -> Table:
    """Return the parts with a mark each, for the eye."""
    table = Table.grid(padding=(0, 2))
    for part in parts:
        mark = Text("✓", style="green") if part.ready else Text("…", style="yellow")
        table.add_row(mark, part.name, Text(part.text, style="dim"))
    return table
