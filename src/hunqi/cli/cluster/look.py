"""``hunqi status`` and ``hunqi doctor``: how this machine's platform is, and what is wrong with the machine."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import typer
from rich.table import Table
from rich.text import Text

from hunqi.cli.cluster.options import PlatformDataOption, chosen_settings, data_dir
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json
from hunqi.kit.units import show_duration
from hunqi.platform import settings
from hunqi.platform.findings import Finding, Level, worst
from hunqi.platform.launch import PartReady, probe_parts
from hunqi.platform.settings import PlatformSettings
from hunqi.platform.status import ChildStatus, PlatformStatus, read_status

_STYLES: Final = {
    Level.OK: ("✓", "green"),
    Level.NOTE: ("·", "dim"),
    Level.WARNING: ("!", "yellow"),
    Level.PROBLEM: ("✗", "bold red"),
}


def status(*, data: PlatformDataOption = None, as_json: JsonOption = False) -> None:
    """Show this machine's processes: whether each answers, since when, how often it was started again.

    Exit code 1 if anything does not run.

    [bold]Examples[/bold]

      [cyan]hunqi status[/cyan]
      [cyan]hunqi status --json[/cyan]
    """
    chosen = chosen_settings(data)
    running = read_status(chosen)
    parts = probe_parts(chosen, running)
    ready = running is not None and running.all_running and all(part.ready for part in parts)
    if as_json:
        print_json(_facts(chosen, running, parts, ready=ready))
    elif running is None:
        out().print(f"Hunqi does not run on {chosen.data_dir}; apps that were there go on serving. Start it: hunqi up")
    else:
        _print_status(chosen, running, parts)
    raise typer.Exit(0 if ready else 1)


def doctor(*, data: PlatformDataOption = None, as_json: JsonOption = False) -> None:
    """Look at everything that Hunqi depends on here, and say what to do about what is wrong.

    Changes nothing. Exit code 1 if there is a problem; warnings are no problem.

    [bold]Examples[/bold]

      [cyan]hunqi doctor[/cyan]
          Before hunqi up, or when something is odd.
    """
    from hunqi.platform.docker_checks import examine_docker
    from hunqi.platform.doctor import examine_machine

    directory = data_dir(data)
    chosen = settings.load(directory) or PlatformSettings(data_dir=directory)
    findings, gateway = asyncio.run(examine_docker(chosen))
    findings += examine_machine(chosen, ours={*gateway, *_own_ports(chosen)})
    bad = worst(findings) is Level.PROBLEM
    if as_json:
        rows = [{"name": each.name, "level": each.level, "text": each.text, "remedy": each.remedy} for each in findings]
        print_json({"ok": not bad, "findings": rows})
    else:
        _print_findings(findings)
    raise typer.Exit(1 if bad else 0)


def _own_ports(chosen: PlatformSettings) -> set[int]:
    if read_status(chosen) is None:
        return set()
    return set(chosen.own_ports)


def _facts(
    chosen: PlatformSettings, running: PlatformStatus | None, parts: list[PartReady], *, ready: bool
) -> dict[str, object]:
    children = {child.name: child for child in running.children} if running else {}
    rows = [
        {
            "name": part.name,
            "ready": part.ready,
            "text": part.text,
            **({} if part.name not in children else _child_facts(children[part.name])),
        }
        for part in parts
    ]
    return {
        "running": running is not None,
        "ready": ready,
        "pid": running.pid if running else None,
        "version": running.version if running else None,
        "data": str(chosen.data_dir),
        "control": chosen.control_url,
        "parts": rows,
    }


def _child_facts(child: ChildStatus) -> dict[str, object]:
    return {
        "state": child.state,
        "pid": child.pid,
        "started_at": child.started_at,
        "restarts": child.restarts,
        "last_end": child.last_end,
    }


def _print_status(chosen: PlatformSettings, running: PlatformStatus, parts: list[PartReady]) -> None:
    console = out()
    console.print(
        Text(f"Hunqi {running.version} on {chosen.data_dir} (process {running.pid})", style="bold"),
        Text(" is stopping" if running.stopping else ""),
        sep="",
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("", "part", "process", "since", "restarts", ""):
        table.add_column(name, justify="right" if name in {"process", "restarts"} else "left")
    children, now = {child.name: child for child in running.children}, time.time()
    for part in parts:
        child = children.get(part.name)
        mark = Text("✓", style="green") if part.ready else Text("✗", style="bold red")
        since = f"{show_duration(now - child.started_at)} ago" if child and child.pid and child.started_at else "-"
        pid = str(child.pid) if child and child.pid else "-"
        table.add_row(mark, part.name, pid, since, str(child.restarts if child else 0), Text(part.text, style="dim"))
    console.print(table)
    if not all(part.ready for part in parts):
        console.print(f"logs: {chosen.log_dir}")


def _print_findings(findings: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for each in findings:
        mark, style = _STYLES[each.level]
        text = Text(each.text)
        if each.remedy:
            text.append(f"\n→ {each.remedy}", style="cyan")
        table.add_row(Text(mark, style=style), Text(each.name, style=style if each.level is not Level.OK else ""), text)
    console = out()
    console.print(table)
    problems = sum(each.level is Level.PROBLEM for each in findings)
    warnings = sum(each.level is Level.WARNING for each in findings)
    console.print(f"\n{problems} problems, {warnings} warnings")
