"""``hunqi metrics query|top|source``: what is measured, in the terminal."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hunqi.cli.cluster import asking
from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.given import AppArgument
from hunqi.cli.cluster.plotting import plot
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json, print_rows
from hunqi.kit.units import parse_duration, show_size

metrics_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="What is measured: requests, CPU, memory, apps' own metrics."
)
source_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Prometheus and its kin, to be asked in rollouts and scaling."
)
metrics_app.add_typer(source_app, name="source")
_JSON = Mapping[str, Any]
_FILE_BYTES: Final = 100_000
_ROUND_S: Final = 2.0


@metrics_app.command("query")
def query(
    app: AppArgument,
    names: Annotated[list[str], typer.Argument(metavar="[SERVICE] MEASURE")],
    *,
    revision: Annotated[int | None, typer.Option("--revision", metavar="N", help="Only of this revision.")] = None,
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="How far back: 90s, 15m, 6h, 30d.")] = "1h",
    step: Annotated[str | None, typer.Option("--step", metavar="TIME", help="Between two values; 5 s or more.")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="WORD", help="service, revision, task or node.")] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, all values.")] = False,
) -> None:
    """Show a measure over time: from memory for the last hours, from disk before that.

    MEASURE is one of rps, error-rate, success-rate, p50, p90, p95, p99 (in ms), active, held, cpu, memory, tasks, or
    the name of a metric that the app itself counts.

    [bold]Examples[/bold]

      [cyan]hunqi metrics query shop web p95[/cyan]
      [cyan]hunqi metrics query shop web error-rate --by revision --since 15m[/cyan]
      [cyan]hunqi metrics query shop memory --by task --since 7d --step 1h --csv > memory.csv[/cyan]
    """
    if len(names) not in {1, 2}:
        raise asking.InputError("give a measure, or a service and a measure: hunqi metrics query shop web p95")
    service, measure = names[0] if len(names) == 2 else None, names[-1]
    asked = {"service": service, "revision": revision, "by": by, "since_s": str(parse_duration(since))}
    if step is not None:
        asked["step_s"] = max(1, round(parse_duration(step)))
    found = call_api(lambda api: api.get(path_of("apps", app, "metrics", measure), **asked))
    if as_json:
        print_json(found)
    elif as_csv:
        _print_csv(found)
    else:
        _print_answer(found)


@metrics_app.command("top")
def top(
    *,
    team: Annotated[str | None, typer.Option("--team", metavar="TEAM", help="Only apps of this team.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print it once; so it is where there is no terminal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the services do now, busiest first; Ctrl-C ends it.

    [bold]Examples[/bold]

      [cyan]hunqi metrics top[/cyan]
      [cyan]hunqi metrics top --team sellers --once[/cyan]
    """

    async def ask(api: Api) -> list[Any]:
        return (await api.get(path_of("metrics", "top"), team=team))["items"]

    if as_json:
        print_json({"services": call_api(ask)})
        return
    console = out()
    if once or not console.is_terminal:
        console.print(_table(call_api(ask)))
        return

    async def follow(api: Api) -> None:
        with Live(_table(await ask(api)), console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_table(await ask(api)), refresh=True)
                await asyncio.sleep(_ROUND_S)

    call_api(follow)


@source_app.command("add")
def source_add(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    url: Annotated[str, typer.Argument(metavar="URL")],
    *,
    token_file: Annotated[
        str | None, typer.Option("--token-file", metavar="FILE", help="A bearer token to send; - is standard input.")
    ] = None,
    ca_file: Annotated[
        str | None, typer.Option("--ca-file", metavar="FILE", help="Trust this authority for it, and no other.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a server that answers Prometheus queries, or replace it.

    [bold]Examples[/bold]

      [cyan]hunqi metrics source add prom http://10.0.0.9:9090[/cyan]
      [cyan]hunqi metrics source add prom https://prom.example.com --token-file token.txt[/cyan]
    """
    body: dict[str, Any] = {"url": url}
    if token_file is not None:
        body["token"] = asking.content(token_file, limit_bytes=_FILE_BYTES).decode("utf-8", "replace").strip()
    if ca_file is not None:
        body["ca_pem"] = asking.content(ca_file, limit_bytes=_FILE_BYTES).decode("utf-8", "replace")
    found = call_api(lambda api: api.put(path_of("metric-sources", name), body))
    if as_json:
        print_json(found)
    else:
        out().print(Text(f"{found['name']} is asked at {found['url']}"))


@source_app.command("ls")
def source_ls(*, as_json: JsonOption = False) -> None:
    """List the servers that answer Prometheus queries.

    [bold]Examples[/bold]

      [cyan]hunqi metrics source ls[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("metric-sources")))
    if as_json:
        print_json({"sources": found})
        return
    rows = [
        {"source": each["name"], "url": each["url"], "token": each["has_token"], "authority": each["has_ca"]}
        for each in found
    ]
    print_rows(rows, empty="none: hunqi metrics source add NAME URL")


@source_app.command("rm")
def source_rm(name: Annotated[str, typer.Argument(metavar="NAME")], *, as_json: JsonOption = False) -> None:
    """Forget a server.

    [bold]Examples[/bold]

      [cyan]hunqi metrics source rm prom[/cyan]
    """
    call_api(lambda api: api.delete(path_of("metric-sources", name)))
    if as_json:
        print_json({"removed": name})
    else:
        out().print(Text(f"{name} is forgotten"))


def show_value(value: float | None, unit: str) -> str:
    """Return a value for the eye."""
    match unit:
        case _ if value is None:
            return "-"
        case "bytes":
            return show_size(value)
        case "share":
            return f"{100 * value:.3g} %"
        case "ms":
            return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"
        case _:
            return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _print_answer(found: _JSON) -> None:
    console, unit = out(), found["unit"]
    lines = {each["name"]: [(point["at"], point["value"]) for point in each["points"]] for each in found["lines"]}
    if not lines:
        console.print(Text(f"{found['measure']} of {found['app']} was not measured in that time", style="dim"))
        return
    shown = dict(list(lines.items())[:6])
    width = max(20, min(100, console.width - 16)) if console.is_terminal else 60
    for line in plot(
        shown, start=found["since"], end=found["until"], width=width, show=lambda value: show_value(value, unit)
    ):
        console.print(line)
    if len(lines) > len(shown):
        console.print(Text(f"and {len(lines) - len(shown)} more below", style="dim"))
    rows = [
        {
            found["measure"]: name or found["app"],
            "now": show_value(points[-1][1], unit),
            "least": show_value(min(value for _, value in points), unit),
            "mean": show_value(sum(value for _, value in points) / len(points), unit),
            "most": show_value(max(value for _, value in points), unit),
            "values": len(points),
        }
        for name, points in lines.items()
    ]
    console.print()
    print_rows(rows)


def _print_csv(found: _JSON) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["time", "name", found["measure"]])
    for line in found["lines"]:
        for point in line["points"]:
            at = datetime.fromtimestamp(point["at"], UTC).isoformat().replace("+00:00", "Z")
            writer.writerow([at, line["name"], point["value"]])


def _table(rows: Sequence[_JSON]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("app", "service"):
        table.add_column(name)
    for name in ("requests/s", "errors", "p99", "open", "waiting", "cpu", "memory", "tasks"):
        table.add_column(name, justify="right")
    for row in rows:
        errors = row["error_rate"]
        table.add_row(
            row["app"],
            row["service"],
            show_value(row["rps"], ""),
            Text(show_value(errors, "share"), style="red" if errors and errors > 0.01 else ""),
            show_value(row["p99_ms"], "ms"),
            show_value(row["active"], ""),
            str(row["held"] or "-"),
            show_value(row["cpu_cores"], ""),
            show_value(row["memory_bytes"], "bytes"),
            str(row["tasks"] or "-"),
        )
    if not rows:
        table.add_row(Text("nothing is measured yet", style="dim"))
    return table
