"""``hunqi app ls|show|scale|restart|stop|start|rm|maintenance|events``: what runs, and changes without a revision."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

import typer
from rich.console import Console
from rich.text import Text

from hunqi.cli.cluster import asking, autoscaling
from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.given import AppArgument, DetachOption, ReasonOption, YesOption
from hunqi.cli.cluster.moments import ago
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_facts, print_json, print_rows
from hunqi.client.errors import RefusedError
from hunqi.errors import DependencyError, UserError

JSON = Mapping[str, Any]
Done = Callable[[JSON], bool]
_SETTLE_S: Final = 600.0
_LOOK_S: Final = 0.5


class ScaleArgumentError(UserError):
    """A scaling is no ``SERVICE=NUMBER``."""

    code: ClassVar[str] = "cli.scale"


class NotSettledError(DependencyError):
    """The app has not come to what was asked for in time; it goes on."""

    code: ClassVar[str] = "cli.not-settled"


def ls(*, as_json: JsonOption = False) -> None:
    """List the apps that you may see.

    [bold]Examples[/bold]

      [cyan]hunqi app ls[/cyan]
      [cyan]hunqi app ls --json | jq -r '.apps[].name'[/cyan]
    """
    apps = call_api(lambda api: api.items(path_of("apps")))
    if as_json:
        print_json({"apps": apps})
        return
    rows = [
        {
            "app": app["name"],
            "state": app["state"],
            "revision": app["revision"],
            "services": len(app["services"]),
            "tasks": f"{_sum(app, 'running')}/{_sum(app, 'wanted')}",
            "changed": ago(app["updated_at"]),
            "": app["sentence"],
        }
        for app in apps
    ]
    print_rows(rows, empty="no apps yet: hunqi app deploy -f compose.yaml")


def show(app: AppArgument, *, as_json: JsonOption = False) -> None:
    """Show an app: its services, tasks, nodes and routes, and what it waits for.

    [bold]Examples[/bold]

      [cyan]hunqi app show shop[/cyan]
    """

    async def read(api: Api) -> tuple[Any, list[Any]]:
        return await api.get(path_of("apps", app)), await api.items(path_of("apps", app, "tasks"))

    found, tasks = call_api(read)
    if as_json:
        print_json({**found, "tasks": tasks})
        return
    print_facts(
        {
            "app": found["name"],
            "state": f"{found['state']}: {found['sentence']}" if found["sentence"] else found["state"],
            "revision": found["revision"],
            "maintenance": found["maintenance"],
            "changed": ago(found["updated_at"]),
        }
    )
    print_problems(found)
    services = [
        {
            "service": each["name"],
            "tasks": f"{each['running']}/{each['wanted']}",
            "healthy": "-" if each["healthy"] is None else each["healthy"],
            "revision": each["revision"],
            "image": short_image(each["image"]),
            "routes": ", ".join(map(route_text, each["routes"])),
            "": each["sentence"],
        }
        for each in found["services"]
    ]
    print_rows(services, title="\nservices", empty="none")
    rows = [
        {
            "task": each["id"][:12],
            "service": each["service"],
            "node": each["node"],
            "state": each["state"],
            "since": ago(each["since"]),
            "": each["message"],
        }
        for each in tasks
    ]
    print_rows(rows, title="\ntasks", empty="none")


def scale(
    app: AppArgument,
    services: Annotated[list[str] | None, typer.Argument(metavar="SERVICE=NUMBER...")] = None,
    *,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what load has decided of services, and the numbers behind it.")
    ] = False,
    reason: ReasonOption = "",
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Set how many tasks services have; those that go are drained first.

    [bold]Examples[/bold]

      [cyan]hunqi app scale shop web=5 worker=2[/cyan]
      [cyan]hunqi app scale shop --explain[/cyan]
          Why a service that load moves has as many tasks as it has; hunqi app autoscale says how it is moved.
    """
    if explain:
        autoscaling.explain(app, services or [], as_json=as_json)
        return
    services = services or []
    replicas = _replicas(services)

    async def work(api: Api) -> Any:
        found = await api.post(path_of("apps", app, "scale"), {"replicas": replicas, "reason": reason})
        return found if detach else await _settle(api, app, lambda now: _has_scaled(now, replicas))

    _told(call_api(work), f"{app} is {'being ' if detach else ''}scaled: {' '.join(services)}", as_json=as_json)


def restart(
    app: AppArgument,
    services: Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Default: all.")] = None,
    *,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Replace every task, new ones first where they may stand beside the old.

    [bold]Examples[/bold]

      [cyan]hunqi app restart shop worker[/cyan]
    """
    body = {"services": services or [], "reason": reason}
    found = call_api(lambda api: api.post(path_of("apps", app, "restart"), body))
    _told(found, f"{app}: {found['sentence'] or 'its tasks are replaced'}", as_json=as_json)


def stop(
    app: AppArgument, *, reason: ReasonOption = "", detach: DetachOption = False, as_json: JsonOption = False
) -> None:
    """Drain and stop all tasks; the app, its volumes and its revisions stay.

    [bold]Examples[/bold]

      [cyan]hunqi app stop shop[/cyan]
    """

    async def work(api: Api) -> Any:
        found = await api.post(path_of("apps", app, "stop"), {"reason": reason})
        if detach:
            return found
        found = await _settle(api, app, lambda now: now["state"] == "stopped")
        await _until_ended(api, app)
        return found

    found = call_api(work)
    _told(found, f"{app} is {'being ' if detach else ''}stopped", as_json=as_json)


def start(
    app: AppArgument, *, reason: ReasonOption = "", detach: DetachOption = False, as_json: JsonOption = False
) -> None:
    """Start a stopped app again.

    [bold]Examples[/bold]

      [cyan]hunqi app start shop[/cyan]
    """
    found = _change(app, "start", reason, detach=detach, until=lambda now: now["state"] == "running")
    _told(found, f"{app} is being started" if detach else f"{app} runs", as_json=as_json)


def rm(
    app: AppArgument,
    *,
    volumes: Annotated[bool, typer.Option("--volumes", help="Its data too. There is no way back.")] = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    detach: DetachOption = False,
) -> None:
    """Drain and remove an app; its volumes stay unless you say otherwise.

    [bold]Examples[/bold]

      [cyan]hunqi app rm shop[/cyan]
      [cyan]hunqi app rm shop --volumes --yes[/cyan]
    """
    what = "and all of its data" if volumes else "(its volumes stay)"
    asking.confirm(f"Remove {app} {what}?", yes=yes)

    async def work(api: Api) -> None:
        await api.delete(path_of("apps", app), volumes=volumes, reason=reason or None)
        if not detach:
            await _until_gone(api, app)

    call_api(work)
    out().print(Text(f"{app} is {'being ' if detach else ''}removed"))


def maintenance(
    app: AppArgument,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What visitors read.")] = None,
    *,
    off: Annotated[bool, typer.Option("--off", help="Serve the app again.")] = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Answer every route with a page (503) while you work, or serve again.

    [bold]Examples[/bold]

      [cyan]hunqi app maintenance shop "Back at six."[/cyan]
      [cyan]hunqi app maintenance shop --off[/cyan]
    """
    if off == (text is not None):
        raise asking.InputError("give a text, or --off")
    body = {"text": text, "reason": reason}
    found = call_api(lambda api: api.post(path_of("apps", app, "maintenance"), body))
    _told(found, f"{app} serves again" if off else f"{app} shows its maintenance page", as_json=as_json)


def events(
    app: Annotated[str | None, typer.Argument(metavar="[APP]", help="Default: everything that you may see.")] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events come.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what happened: who did what, when and why.

    [bold]Examples[/bold]

      [cyan]hunqi app events shop[/cyan]
      [cyan]hunqi app events -f --json[/cyan]
          A JSON object on each line.
    """
    call_api(lambda api: _show_events(api, app, follow=follow, as_json=as_json))


def print_problems(app: JSON) -> None:
    """Print which routes of an app the gateways do not serve, and why."""
    for each in app.get("problems", ()):
        out().print(Text(f"{app['name']}: {each}", style="red"))


def short_image(image: str) -> str:
    """Return an image as a terminal shows it: of its digest the beginning, as Docker does."""
    name, at, digest = image.partition("@sha256:")
    return f"{name}@{digest[:12]}" if at and sys.stdout.isatty() else image


def route_text(route: JSON) -> str:
    """Return a route in a word: ``shop.example.com/api`` or ``tcp 20001``."""
    if route.get("tcp_port"):
        return f"{route.get('protocol', 'tcp')} {route['tcp_port']}"
    hosts = route.get("hosts") or ["*"]
    path = route.get("path") or "/"
    return ", ".join(f"{host}{'' if path == '/' else path}" for host in hosts)


async def _show_events(api: Api, app: str | None, *, follow: bool, as_json: bool) -> None:
    query: dict[str, Any] = {"app": app, "follow": follow}
    async with api.events(path_of("events"), after=0, **query) as stream:
        async for event in stream:
            if as_json:
                out().print_json(data=event.data, indent=None)
            else:
                out().print(_event_text(event.data))


def _event_text(event: JSON) -> Text:
    reason = f" ({event['reason']})" if event.get("reason") else ""
    subject = f" {event['subject']}" if event.get("subject") else ""
    return Text.assemble(
        (f"{event.get('at', '')} ", "dim"),
        (str(event.get("kind", "")), "bold"),
        f"{subject} by {event.get('actor')}{reason}",
    )


def _change(app: str, verb: str, reason: str, *, detach: bool, until: Done) -> Any:
    async def work(api: Api) -> Any:
        found = await api.post(path_of("apps", app, verb), {"reason": reason})
        return found if detach else await _settle(api, app, until)

    return call_api(work)


async def _settle(api: Api, app: str, done: Done) -> Any:
    """Look at the app until ``done(view)``, showing its own sentence. Raises :class:`NotSettledError`."""
    console = Console(stderr=True, highlight=False)
    deadline = time.monotonic() + _SETTLE_S
    with console.status(f"{app}: …") as shown:
        while True:
            now = await api.get(path_of("apps", app))
            if done(now):
                return now
            if time.monotonic() > deadline:
                raise NotSettledError(f"{app} is not there after {_SETTLE_S:.0f} s: {now['sentence']}; it goes on")
            shown.update(Text(f"{app}: {now['sentence'] or now['state']}"))
            await asyncio.sleep(_LOOK_S)


async def _until_ended(api: Api, app: str) -> None:
    """Wait for the last of the app's tasks: what is drained runs on for a while. Raises :class:`NotSettledError`."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        tasks = await api.items(path_of("apps", app, "tasks"))
        if not any(task["state"] == "running" for task in tasks):
            return
        if time.monotonic() > deadline:
            raise NotSettledError(f"tasks of {app} still run after {_SETTLE_S:.0f} s: hunqi app show {app}")
        await asyncio.sleep(_LOOK_S)


async def _until_gone(api: Api, app: str) -> None:
    try:
        await _settle(api, app, lambda _now: False)
    except RefusedError as error:
        if error.status != 404:
            raise


def _has_scaled(app: JSON, replicas: Mapping[str, int]) -> bool:
    services = {each["name"]: each for each in app["services"]}
    return all(
        (now := services.get(name)) is not None
        and now["wanted"] == now["running"] == count
        and (now["healthy"] is None or now["healthy"] >= count)
        for name, count in replicas.items()
    )


def _replicas(texts: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    if not texts:
        raise ScaleArgumentError("name services with their numbers, such as web=3")
    for text in texts:
        service, _, number = text.partition("=")
        if not service or not number.isdecimal():
            raise ScaleArgumentError(f"{text!r} is not SERVICE=NUMBER, such as web=3")
        found[service] = int(number)
    return found


def _sum(app: JSON, key: str) -> int:
    return sum(each[key] for each in app["services"])


def _told(found: object, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        out().print(Text(text))
