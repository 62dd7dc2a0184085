"""``hunqi app requests``: what the gateways answered, a line for each request."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.given import AppArgument
from hunqi.cli.cluster.logs import plain, print_lines, require_service
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out


def requests(
    app: AppArgument,
    *,
    service: Annotated[str, typer.Option("--service", "-s", metavar="SERVICE", help="Only of this service.")] = "",
    status: Annotated[str, typer.Option("--status", metavar="STATUS", help="404, or 5xx for all of them.")] = "",
    revision: Annotated[
        int | None, typer.Option("--revision", metavar="N", help="Only of this revision of a service.")
    ] = None,
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", min=1, max=1000, help="The last so many.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the last requests to an app that the gateways answered: when, status, time, to whom, of whom.

    [bold]Examples[/bold]

      [cyan]hunqi app requests shop[/cyan]
      [cyan]hunqi app requests shop --status 5xx --follow[/cyan]
      [cyan]hunqi app requests shop --revision 8 --json | jq .duration_ms[/cyan]
          A JSON object on each line.
    """
    query: dict[str, Any] = {
        "service": service,
        "status": status,
        "revision": revision,
        "limit": last,
        "follow": follow,
    }

    async def work(api: Api) -> None:
        if service:
            await require_service(api, app, service)
        await print_lines(api, path_of("apps", app, "requests"), query, _json_line if as_json else _row)

    call_api(work)


def _json_line(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _row(line: Mapping[str, Any]) -> None:
    status = int(line["status"])
    revision = f"-r{line['revision']}" if line["revision"] else ""
    shown = Text.assemble(
        (f"{str(line['at'])[11:23]} ", "dim"),
        (f"{status or '-':>3} ", _colour(status)),
        f"{line['duration_ms']:>6} ms ",
        (f"{line['service']}{revision}@{line['node']} ", "cyan"),
        plain(f"{line['method']} {line['host']}{line['path']} "),
        (plain(" ".join(str(each) for each in (line["client"], line["flags"]) if each and each != "-")), "dim"),
    )
    out().print(shown)


def _colour(status: int) -> str:
    return {2: "green", 3: "green", 4: "yellow", 5: "red"}.get(status // 100, "")
