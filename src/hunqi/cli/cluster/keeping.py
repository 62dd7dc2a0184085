"""``hunqi secret``, ``env`` and ``route``: what is kept for an app beside its files."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from hunqi.cli.cluster import asking
from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.following import follow
from hunqi.cli.cluster.given import AppArgument, DetachOption, ReasonOption
from hunqi.cli.cluster.moments import ago
from hunqi.cli.cluster.operating import print_problems, route_text
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json, print_rows
from hunqi.client.project import read_env_file

_SECRET_BYTES: Final = 500 * 1024
secret_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Secrets of an app: kept sealed, shown to nobody, rotated."
)
env_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Variables kept for an app.")
route_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Routes of an app, besides those in its file."
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]


@secret_app.command("set")
def secret_set(
    app: AppArgument,
    name: NameArgument,
    *,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE", help="The value as it is; - is standard input.")
    ] = None,
    reason: ReasonOption = "",
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Keep a secret; a running app that uses it gets the new value by a deploy: that is a rotation.

    The value is typed, or comes from a file or standard input, never from an argument.

    [bold]Examples[/bold]

      [cyan]hunqi secret set shop db_password[/cyan]
      [cyan]openssl rand -base64 24 | tr -d '\\n' | hunqi secret set shop db_password -f -[/cyan]
    """
    if file is not None:
        value = asking.content(file, limit_bytes=_SECRET_BYTES)
    else:
        value = asking.secret(name, from_stdin=not sys.stdin.isatty(), option="--file", twice=True).encode()
    body = {"base64": base64.b64encode(value).decode(), "reason": reason}
    deploy = call_api(lambda api: api.put(path_of("apps", app, "secrets", name), body))
    _after(deploy, f"{name} is kept for {app}", detach=detach, as_json=as_json)


@secret_app.command("ls")
def secret_ls(app: AppArgument, *, as_json: JsonOption = False) -> None:
    """List the secrets of an app, without values.

    [bold]Examples[/bold]

      [cyan]hunqi secret ls shop[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("apps", app, "secrets")))
    if as_json:
        print_json({"secrets": found})
        return
    rows = [
        {
            "secret": each["name"],
            "version": each["version"],
            "set": ago(each["updated_at"]),
            "used by": ", ".join(each["services"]) or "-",
        }
        for each in found
    ]
    print_rows(rows, empty="none are kept")


@secret_app.command("rm")
def secret_rm(app: AppArgument, name: NameArgument) -> None:
    """Forget a secret that no service uses.

    [bold]Examples[/bold]

      [cyan]hunqi secret rm shop old_key[/cyan]
    """
    call_api(lambda api: api.delete(path_of("apps", app, "secrets", name)))
    out().print(Text(f"{name} is forgotten"))


@env_app.command("set")
def env_set(
    app: AppArgument,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Secrets do not belong here.")
    ] = None,
    *,
    file: Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="Lines of NAME=value.")] = None,
    reason: ReasonOption = "",
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Keep variables for an app; if it runs it is deployed anew, once.

    [bold]Examples[/bold]

      [cyan]hunqi env set shop SHOP_NAME="Tea and more"[/cyan]
      [cyan]hunqi env set shop -f prod.env[/cyan]
    """
    found: dict[str, str | None] = dict(read_env_file(file)) if file else {}
    for text in values or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise asking.InputError(f"{text!r} is not NAME=VALUE")
        found[name] = value
    if not found:
        raise asking.InputError("name at least one variable, or a file")
    _put_env(app, found, reason, f"{len(found)} variables are kept for {app}", detach=detach, as_json=as_json)


@env_app.command("rm")
def env_rm(
    app: AppArgument,
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    *,
    reason: ReasonOption = "",
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Forget variables; if the app runs it is deployed anew.

    [bold]Examples[/bold]

      [cyan]hunqi env rm shop SHOP_NAME[/cyan]
    """
    kept = {each["name"] for each in call_api(lambda api: api.items(path_of("apps", app, "env")))}
    if missing := [name for name in names if name not in kept]:
        raise asking.InputError(f"nothing is kept for {app} under {', '.join(missing)}: hunqi env ls {app}")
    _put_env(app, dict.fromkeys(names), reason, f"{', '.join(names)}: forgotten", detach=detach, as_json=as_json)


@env_app.command("ls")
def env_ls(app: AppArgument, *, as_json: JsonOption = False) -> None:
    """List the variables that are kept for an app.

    [bold]Examples[/bold]

      [cyan]hunqi env ls shop[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("apps", app, "env")))
    if as_json:
        print_json({"variables": found})
        return
    rows = [{"name": each["name"], "value": each["value"], "set": ago(each["updated_at"])} for each in found]
    print_rows(rows, empty="none are kept")


@route_app.command("add")
def route_add(
    app: AppArgument,
    service: Annotated[str, typer.Argument(metavar="SERVICE")],
    *,
    port: Annotated[int, typer.Option("--port", metavar="PORT", help="Of the service.")],
    host: Annotated[list[str] | None, typer.Option("--host", metavar="NAME", help="Repeatable.")] = None,
    path: Annotated[str, typer.Option("--path", metavar="PREFIX", help="By whole segments.")] = "/",
    strip: Annotated[bool, typer.Option("--strip", help="Take the prefix off.")] = False,
    tcp_port: Annotated[
        int | None, typer.Option("--tcp-port", metavar="PORT", help="A port of the published range, for TCP.")
    ] = None,
    allow: Annotated[list[str] | None, typer.Option("--allow", metavar="CIDR", help="Who may come.")] = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Add a route to a service; the file's own stay.

    What more a route can (headers, CORS, limits, rewrites) stands in x-hunqi.routes of the file.

    [bold]Examples[/bold]

      [cyan]hunqi route add shop web --port 8080 --host shop.example.com[/cyan]
      [cyan]hunqi route add shop db --port 5432 --tcp-port 20001 --allow 10.0.0.0/8[/cyan]
    """
    spec: dict[str, Any] = {"port": port, "path": path, "hosts": host or [], "allow": allow or []}
    if strip:
        spec["strip_prefix"] = True
    if tcp_port is not None:
        spec |= {"tcp_port": tcp_port, "protocol": "tcp"}
    body = {"service": service, "spec": spec, "reason": reason}
    found = call_api(lambda api: api.post(path_of("apps", app, "routes"), body))
    if as_json:
        print_json(found)
    else:
        out().print(Text(f"{route_text(found['spec'])} → {service}:{port} ({found['id']})"))


@route_app.command("ls")
def route_ls(
    app: Annotated[str | None, typer.Argument(metavar="[APP]", help="Default: all.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List what is routed where.

    [bold]Examples[/bold]

      [cyan]hunqi route ls[/cyan]
    """

    async def read(api: Api) -> tuple[list[Any], list[dict[str, Any]]]:
        apps = [await api.get(path_of("apps", app))] if app else await api.items(path_of("apps"))
        names = [each["name"] for each in apps]
        routes = [(name, each) for name in names for each in await api.items(path_of("apps", name, "routes"))]
        return apps, [{"app": name, **each} for name, each in routes]

    apps, found = call_api(read)
    if as_json:
        problems = {each["name"]: each["problems"] for each in apps if each.get("problems")}
        print_json({"routes": found, "problems": problems})
        return
    rows = [
        {
            "route": route_text(each["spec"]),
            "app": each["app"],
            "service": f"{each['service']}:{each['spec']['port']}",
            "from": each["origin"],
            "id": each["id"],
        }
        for each in found
    ]
    print_rows(rows, empty="nothing is routed")
    for each in apps:
        print_problems(each)


@route_app.command("rm")
def route_rm(app: AppArgument, route: Annotated[str, typer.Argument(metavar="ID", help="Of hunqi route ls.")]) -> None:
    """Remove a route that hunqi route add made.

    [bold]Examples[/bold]

      [cyan]hunqi route rm shop r1f3a[/cyan]
    """
    call_api(lambda api: api.delete(path_of("apps", app, "routes", route)))
    out().print(Text(f"{route} is removed"))


def _put_env(
    app: str, values: Mapping[str, str | None], reason: str, text: str, *, detach: bool, as_json: bool
) -> None:
    body = {"values": dict(values), "reason": reason}
    deploy = call_api(lambda api: api.put(path_of("apps", app, "env"), body))
    _after(deploy, text, detach=detach, as_json=as_json)


def _after(deploy: Any, text: str, *, detach: bool, as_json: bool) -> None:
    """Follow the deploy that a change began, if it began one."""
    if not as_json:
        out().print(Text(text))
    if deploy is not None:
        follow(deploy, detach=detach, as_json=as_json)
    elif as_json:
        print_json({"deploy": None})
