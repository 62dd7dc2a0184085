"""``hunqi rollout``: how an app's newest revision comes to its users, and what one may say to it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hunqi.cli.cluster import asking, rolling_plot
from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.following import follow
from hunqi.cli.cluster.given import AppArgument, DetachOption, ReasonOption, YesOption
from hunqi.cli.cluster.moments import ago
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json, print_rows

JSON = Mapping[str, Any]
rollout_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Rollouts: how a new revision comes to its users."
)
ENDED: Final = frozenset({"succeeded", "aborted", "failed", "superseded"})
_WATCH_S: Final = 1.0
_MARKS: Final = {
    "done": ("✓", "green"),
    "now": ("▶", "bold cyan"),
    "stopped": ("✗", "bold red"),
    "skipped": ("-", "dim"),
    "to-do": ("·", "dim"),
}
_OUTCOMES: Final = {
    "success": ("✓", "green"),
    "failure": ("✗", "bold red"),
    "inconclusive": ("?", "yellow"),
    "error": ("!", "red"),
    "waiting": ("…", "dim"),
}


@rollout_app.command("show")
def rollout_show(
    app: AppArgument,
    *,
    plot: Annotated[bool, typer.Option("--plot", help="Weight, errors and latency over time too.")] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write the plot as an SVG; - is standard output.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until its end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show an app's rollout: its steps and where it is, what was found, and what happens next.

    [bold]Examples[/bold]

      [cyan]hunqi rollout show shop --watch[/cyan]
      [cyan]hunqi rollout show shop --plot[/cyan]
      [cyan]hunqi rollout show shop --svg release.svg[/cyan]
    """
    if watch:
        call_api(lambda api: _watch(api, app, plot=plot, as_json=as_json))
        return
    shown, looks = call_api(lambda api: _read(api, app, looks=plot or svg is not None))
    if svg is not None:
        title = f"{app}: revision {shown['stable']} to {shown['revision']}, {shown['state']}"
        _write(svg, rolling_plot.as_svg(looks, title=title))
    elif as_json:
        print_json({**shown, "looks": looks} if plot else shown)
    else:
        out().print(_render(shown, looks if plot else None))


def _write(path: Path, text: str) -> None:
    if str(path) == "-":
        sys.stdout.write(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise asking.InputError(f"{path} cannot be written: {error.strerror}") from error
    out().print(Text(f"wrote {path}"))


async def _read(api: Api, app: str, *, looks: bool) -> tuple[JSON, list[JSON]]:
    shown = await api.get(path_of("apps", app, "rollout"))
    return shown, await api.items(path_of("apps", app, "rollout", "looks")) if looks else []


async def _watch(api: Api, app: str, *, plot: bool, as_json: bool) -> None:
    """Show it at each change, on a terminal in place, until its end."""
    console = Console(highlight=False)
    told = ""
    with Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else _Plain() as live:
        while True:
            shown, looks = await _read(api, app, looks=plot)
            if isinstance(live, Live):
                live.update(_render(shown, looks if plot else None), refresh=True)
            elif (line := f"{shown['state']} {shown['weight']:g} %: {shown['sentence']}") != told:
                told = line
                print_json(shown) if as_json else out().print(Text(line))
            if shown["state"] in ENDED:
                return
            await asyncio.sleep(_WATCH_S)


class _Plain:
    """Stands where there is no terminal."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


@rollout_app.command("ls")
def rollout_ls(*, as_json: JsonOption = False) -> None:
    """List the last rollout of each app that you may see.

    [bold]Examples[/bold]

      [cyan]hunqi rollout ls[/cyan]
    """
    found = call_api(lambda api: api.items("/v1/rollouts"))
    if as_json:
        print_json({"rollouts": found})
        return
    rows = [
        {
            "app": each["app"],
            "state": each["state"],
            "revision": f"{each['stable']} → {each['revision']}",
            "weight": f"{each['weight']:g} %",
            "step": f"{min(each['step'] + 1, len(each['steps']))}/{len(each['steps'])}",
            "changed": ago(each["updated_at"]),
            "": each["sentence"],
        }
        for each in found
    ]
    print_rows(rows, empty="no rollouts yet: hunqi app deploy --rollout gray")


@rollout_app.command("promote")
def rollout_promote(
    app: AppArgument,
    *,
    full: Annotated[bool, typer.Option("--full", help="Past all steps that are left.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --full: whether ready or not.")] = False,
    yes: YesOption = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Have a rollout go on: to its next step, or past all of them.

    --force is for an old revision that is broken itself: the new one takes over though nothing says that it is well.

    [bold]Examples[/bold]

      [cyan]hunqi rollout promote shop[/cyan]
      [cyan]hunqi rollout promote shop --full --reason "the old one is worse"[/cyan]
    """
    if force and not full:
        raise asking.InputError("--force goes with --full")
    if force:
        asking.confirm(f"Have the new revision of {app} take over, whether its tasks are ready or not?", yes=yes)
    _said(call_api(lambda api: api.client.rollouts.promote(app, full=full, force=force, reason=reason)), as_json)


@rollout_app.command("pause")
def rollout_pause(app: AppArgument, *, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Have a rollout stand where it is; its measures are looked at, and abort it if they fail.

    [bold]Examples[/bold]

      [cyan]hunqi rollout pause shop --reason "lunch"[/cyan]
    """
    _say(app, "pause", reason, as_json)


@rollout_app.command("resume")
def rollout_resume(app: AppArgument, *, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Have a rollout that stands go on.

    [bold]Examples[/bold]

      [cyan]hunqi rollout resume shop[/cyan]
    """
    _say(app, "resume", reason, as_json)


@rollout_app.command("approve")
def rollout_approve(app: AppArgument, *, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Give the consent that a step of a rollout asks for.

    [bold]Examples[/bold]

      [cyan]hunqi rollout approve shop[/cyan]
    """
    _say(app, "approve", reason, as_json)


@rollout_app.command("abort")
def rollout_abort(app: AppArgument, *, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Have all users go back to the old revision at once; tasks of the new one stay a while for a look.

    [bold]Examples[/bold]

      [cyan]hunqi rollout abort shop --reason "orders fail"[/cyan]
    """
    _say(app, "abort", reason, as_json)


@rollout_app.command("retry")
def rollout_retry(
    app: AppArgument, *, reason: ReasonOption = "", detach: DetachOption = False, as_json: JsonOption = False
) -> None:
    """Begin a rollout anew that was aborted or failed, from its first step.

    [bold]Examples[/bold]

      [cyan]hunqi rollout retry shop --detach[/cyan]
    """
    follow(call_api(lambda api: api.client.rollouts.retry(app, reason=reason)), detach=detach, as_json=as_json)


@rollout_app.command("undo")
def rollout_undo(
    app: AppArgument, *, reason: ReasonOption = "", detach: DetachOption = False, as_json: JsonOption = False
) -> None:
    """Go back to the revision that served before; within the window at once, without steps.

    A rollout that is under way is aborted.

    [bold]Examples[/bold]

      [cyan]hunqi rollout undo shop[/cyan]
    """
    begun = call_api(lambda api: api.client.rollouts.undo(app, reason=reason))
    if begun["state"] == "shifting":  # the deploy that is undone keeps its tasks for a while: it is not waited for
        detach = True
    follow(begun, detach=detach, as_json=as_json)


def _say(app: str, verb: str, reason: str, as_json: bool) -> None:
    _said(call_api(lambda api: api.client.rollouts.say(app, verb, reason=reason)), as_json)


def _said(shown: JSON, as_json: bool) -> None:
    if as_json:
        print_json(shown)
    else:
        out().print(Text(f"{shown['app']}: {shown['sentence']}\n  {shown['next']}"))


def _render(shown: JSON, looks: list[JSON] | None) -> Group:
    head = Text.assemble(
        (f"{shown['app']}: revision {shown['stable']} → {shown['revision']}, {shown['state']}", "bold"),
        f" at {shown['weight']:g} %" + (f", {shown['mirror']:g} % mirrored" if shown["mirror"] else ""),
        f"\n{shown['sentence']}\n",
        (f"next: {shown['next']}", "cyan"),
    )
    parts: list[Any] = [head, Text(), _steps(shown)]
    if shown["findings"]:
        since = f", {max(0.0, time.time() - shown['looked_at']):.0f} s ago" if shown["looked_at"] else ""
        parts += [Text(f"\nfound{since}", style="bold"), _findings(shown)]
    if shown["problem"]:
        parts.append(_problem(shown["problem"]))
    if looks is not None:
        width = max(20, min(100, out().width - 16)) if sys.stdout.isatty() else 72
        parts += [Text(), *rolling_plot.in_terminal(looks, width=width)]
    return Group(*parts)


def _steps(shown: JSON) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for number, step in enumerate(shown["steps"], start=1):
        mark, style = _MARKS.get(step["state"], ("·", ""))
        table.add_row(Text(mark, style=style), Text(str(number), style="dim"), step["kind"], Text(step["text"], style))
    return table


def _findings(shown: JSON) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "measure", "service", "new", "old", "requests", ""):
        table.add_column(name, justify="right" if name in {"new", "old", "requests"} else "left", overflow="fold")
    for each in shown["findings"]:
        mark, style = _OUTCOMES.get(each["outcome"], ("·", ""))
        numbers = each["numbers"]
        table.add_row(
            Text(mark, style=style),
            each["measure"],
            each["service"],
            _number(each["measure"], numbers.get("new")),
            _number(each["measure"], numbers.get("old")),
            f"{each['samples_new']:,}" if each["samples_new"] else "",
            Text(each["sentence"]),
        )
    return table


def _number(measure: str, value: float | None) -> str:
    if value is None:
        return ""
    if measure == "success-rate":
        return f"{100 * (1 - value):.4g} %"  # the analysis tells the share that failed
    if measure in {"p50", "p95", "p99"}:
        return f"{value:.3g} ms"
    if measure == "memory":
        return f"{value / 2**20:.3g} MiB"
    return f"{value:.3g}"


def _problem(problem: JSON) -> Text:
    text = Text.assemble(("\nwhy: ", "bold"), problem["message"])
    if problem["log"]:
        text.append("\nits tasks wrote last:\n", style="dim")
        text.append("\n".join(f"  {line}" for line in problem["log"]))
    if problem["remedy"]:
        text.append(f"\n→ {problem['remedy']}", style="cyan")
    return text
