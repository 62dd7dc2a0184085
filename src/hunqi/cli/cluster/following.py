"""A deploy as it goes: a live table on a terminal, a line per change elsewhere, and at its end what came of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.show import print_json
from hunqi.client.errors import UnavailableError, UnreachableError
from hunqi.errors import UserError

JSON = Mapping[str, Any]
ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "superseded"})
_MOST_RECONNECTS: Final = 60
_MARKS: Final = {
    "waiting": ("·", "dim"),
    "starting": ("…", "yellow"),
    "healthy": ("✓", "cyan"),
    "serving": ("✓", "green"),
    "kept": ("=", "dim"),
    "done": ("✓", "green"),
    "failed": ("✗", "bold red"),
}


class DeployFailedError(UserError):
    """A deploy that was followed did not succeed; the message says why, and what to try."""

    code: ClassVar[str] = "cli.deploy-failed"


def follow(deploy: JSON, *, detach: bool, as_json: bool) -> None:
    """Show a deploy to its end. Raises :class:`DeployFailedError`, or exits with 1 after the JSON."""
    app, number = str(deploy["app"]), str(deploy["id"])
    if detach or deploy["state"] in ENDED:
        _finish(deploy, as_json=as_json, detached=detach)
        return
    with Progress(quiet=as_json) as progress:
        progress.show(deploy)
        last = call_api(lambda api: _watch(api, app, number, progress))
    _finish(last, as_json=as_json, detached=False)


async def _watch(api: Api, app: str, deploy: str, progress: Progress) -> JSON:
    """Return the deploy at its end; control may be away meanwhile."""
    for _ in range(_MOST_RECONNECTS):
        try:
            async with api.events(path_of("apps", app, "deploys", deploy, "events")) as events:
                async for event in events:
                    progress.show(event.data)
                    if event.kind == "end" or event.data["state"] in ENDED:
                        return event.data
        except (UnreachableError, UnavailableError) as error:
            progress.say(f"the API is away ({str(error).splitlines()[0]}); the deploy goes on without us")
        await progress.pause()
    raise DeployFailedError(f"the API does not come back; see: hunqi app show {app}")


def _finish(deploy: JSON, *, as_json: bool, detached: bool) -> None:
    if as_json:
        print_json(deploy)
        raise typer.Exit(0 if deploy["state"] == "succeeded" or (detached and deploy["state"] not in ENDED) else 1)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    _print_notes(console, deploy)
    sentence = str(deploy.get("sentence") or deploy["state"])
    match deploy["state"]:
        case "succeeded":
            console.print(Text.assemble(("✓ ", "green"), f"{deploy['app']}: {sentence}"))
        case "failed" | "cancelled" | "superseded":
            raise DeployFailedError(explain(deploy))
        case _:
            console.print(f"{deploy['app']}: deploy {deploy['id']} of revision {deploy['revision']} goes on")


def explain(deploy: JSON) -> str:
    """Return why a deploy did not succeed: the failing task's exit code, last lines and health, and what to try."""
    problem: JSON = deploy.get("problem") or {}
    lines = [str(problem.get("message") or deploy.get("sentence") or f"the deploy was {deploy['state']}")]
    if problem.get("exit_code"):  # 0 is also what a task that still runs has
        lines.append(f"  exit code {problem['exit_code']}")
    if problem.get("health"):
        lines += ["  its healthcheck said:", *(f"    {line}" for line in str(problem["health"]).splitlines()[-5:])]
    if problem.get("log"):
        lines += ["  it wrote last:", *(f"    {line}" for line in problem["log"])]
    if problem.get("remedy"):
        lines.append(f"  → {problem['remedy']}")
    return "\n".join(lines)


def _print_notes(console: Console, deploy: JSON) -> None:
    for note in deploy.get("notes") or ():
        console.print(render_note(note))


def render_note(note: JSON) -> Text:
    """Return a key that is not honoured as written, for the eye."""
    style = {"error": "bold red", "changed": "cyan"}.get(str(note.get("severity")), "yellow")
    place = f"{note['file']}:{note['line']}"
    return Text.assemble((f"{note.get('severity', 'ignored')}: ", style), f"{place} {note['path']}: {note['instead']}")


class Progress:
    """Shows the services of a deploy; nothing if ``quiet``."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
        self._quiet = quiet
        self._live = None if quiet or not self._console.is_terminal else Live(console=self._console, transient=True)
        self._told: dict[str, str] = {}

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, deploy: JSON) -> None:
        """Show how far it is."""
        if self._live is not None:
            self._live.update(_render(deploy), refresh=True)
        elif not self._quiet:
            self._tell_changes(deploy)

    def say(self, text: str) -> None:
        """Say something beside the table."""
        if not self._quiet:
            self._console.print(Text(text, style="yellow"))

    async def pause(self) -> None:
        """Wait before the next try."""
        import asyncio

        await asyncio.sleep(1.0)

    def _tell_changes(self, deploy: JSON) -> None:
        if deploy["state"] == "shifting" and self._told.get("") != deploy["sentence"]:
            self._told[""] = str(deploy["sentence"])
            self._console.print(Text(f"{deploy['app']}: {deploy['sentence']}"))
        for service in deploy.get("services") or ():
            text = f"{service['state']} {service['ready']}/{service['wanted']} {service.get('sentence') or ''}".strip()
            if self._told.get(service["service"]) != text:
                self._told[service["service"]] = text
                self._console.print(Text(f"{service['service']}: {text}"))


def _render(deploy: JSON) -> Table:
    title = f"{deploy['app']} revision {deploy['revision']}: {deploy.get('sentence') or deploy['state']}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
    for service in deploy.get("services") or ():
        mark, style = _MARKS.get(str(service["state"]), ("·", ""))
        count = f"{service['ready']}/{service['wanted']}"
        table.add_row(
            Text(mark, style=style),
            service["service"],
            Text(str(service["state"]), style=style),
            count,
            Text(str(service.get("sentence") or ""), style="dim"),
        )
    return table
