"""``hunqi app logs``: what all tasks of an app write, each line with its service and node."""

from __future__ import annotations

import asyncio
import json
import re
import select
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from hunqi.apps.errors import ServiceNotFoundError
from hunqi.cli.cluster import asking
from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.given import AppArgument, ServicesOption
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out
from hunqi.kit.units import UnitError, parse_duration

_COLOURS: Final = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
_READER_S: Final = 0.5
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""What would move the cursor or do worse in the terminal of whoever reads; colours of the app go too."""


def logs(
    app: AppArgument,
    *,
    service: ServicesOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", metavar="N", help="Lines of each task; 0 for none.")] = 100,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="A duration (10m) or a moment (RFC 3339).")
    ] = None,
    removed: Annotated[
        bool, typer.Option("--removed", help="First the kept lines of revisions that are gone.")
    ] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="Show when.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the tasks of an app wrote, with service and node.

    [bold]Examples[/bold]

      [cyan]hunqi app logs -f shop[/cyan]
      [cyan]hunqi app logs shop -s web --since 10m[/cyan]
      [cyan]hunqi app logs shop --json | jq -r .text[/cyan]
          A JSON object on each line.
    """
    query: dict[str, Any] = {
        "service": service or [],
        "follow": follow,
        "tail": tail,
        "since": _moment(since) if since else None,
        "removed": removed,
    }
    show = _json_line if as_json else _Painter(timestamps=timestamps).line

    async def work(api: Api) -> None:
        for name in [] if removed else service or []:
            await require_service(api, app, name)
        await print_lines(api, path_of("apps", app, "logs"), query, show)

    call_api(work)


async def print_lines(api: Api, path: str, query: Mapping[str, Any], show: Any) -> None:
    """Print each line of a stream as it comes. Raises ``BrokenPipeError`` once nobody reads them."""
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch_reader())
        async with api.lines(path, **query) as lines:
            async for line in lines:
                show(line)
        watching.cancel()


async def require_service(api: Api, app: str, service: str) -> None:
    """Raise ``ServiceNotFoundError``, with the nearest name, unless the app has such a service."""
    names = [str(each["name"]) for each in (await api.get(path_of("apps", app)))["services"]]
    if service not in names:
        raise ServiceNotFoundError.among(app, service, names)


async def _watch_reader() -> None:
    """Raise ``BrokenPipeError`` when the reader of standard output is gone, though nothing is written."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return
    while True:
        if any(happened & select.POLLERR for _, happened in poll.poll(0)):
            raise BrokenPipeError
        await asyncio.sleep(_READER_S)


def _json_line(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()


class _Painter:
    """Gives each service its colour."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._colours: dict[str, str] = {}
        self._console = out()

    def line(self, line: Mapping[str, Any]) -> None:
        """Print one line."""
        service = str(line["service"])
        colour = self._colours.setdefault(service, _COLOURS[len(self._colours) % len(_COLOURS)])
        head = f"{service}.{str(line['task'])[:8]}@{line['node']}"
        text = Text.assemble(
            (f"{line['at']} " if self._timestamps else "", "dim"),
            (f"{head} | ", colour),
            (plain(str(line["text"])), "" if line["stream"] == "stdout" else "red"),
        )
        self._console.print(text)


def plain(text: str) -> str:
    """Return a line that does nothing to a terminal but show."""
    return _CONTROL.sub("", re.sub(r"\x1b\[[0-9;]*m", "", text))


def _moment(text: str) -> str:
    try:
        return (datetime.now(UTC) - timedelta(seconds=parse_duration(text))).isoformat()
    except UnitError:
        pass
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise asking.InputError(f"--since: {text!r} is neither a duration (10m) nor a moment (RFC 3339)") from error
    return (parsed if parsed.tzinfo else parsed.astimezone()).isoformat()
