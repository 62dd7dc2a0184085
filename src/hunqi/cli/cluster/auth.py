"""``hunqi login``, ``logout``, ``whoami`` and ``context``: who one is, and where."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from hunqi.cli.cluster import asking
from hunqi.cli.cluster.calls import Api, ApiError, ApiUnreachableError, call_api, path_of
from hunqi.cli.cluster.contexts import (
    Context,
    ContextError,
    Contexts,
    effective,
    load_contexts,
    save_contexts,
)
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_facts, print_json, print_rows

PASSWORD_VARIABLE: Final = "HUNQI_PASSWORD"  # noqa: S105  # the variable's name
SETUP_VARIABLE: Final = "HUNQI_SETUP_TOKEN"
_TOKEN_DAYS: Final = 90

context_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="The Hunqis that this user knows, and which is in use."
)


def login(
    *,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="The API's address. [default: this machine's]".replace("[", "\\[")),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="USER", help="Asked for if left out.")] = None,
    setup: Annotated[
        bool, typer.Option("--setup", help="Make the first user, with the setup token that hunqi up printed.")
    ] = False,
    setup_token_file: Annotated[
        Path | None, typer.Option("--setup-token-file", metavar="FILE", help="Or HUNQI_SETUP_TOKEN, or typed.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read a token from standard input, instead of a password.")
    ] = False,
    ca_file: Annotated[
        Path | None, typer.Option("--ca-file", metavar="FILE", help="An authority to believe, for https.")
    ] = None,
    context: Annotated[str | None, typer.Option("--context", metavar="NAME", help="Keep it under this name.")] = None,
) -> None:
    """Log in; a token of your own, good for 90 days, is kept for the other commands.

    [bold]Examples[/bold]

      [cyan]hunqi login --setup[/cyan]
          The first time: makes you the administrator.

      [cyan]hunqi login --url https://hunqi.example.com --name ada[/cyan]

      [cyan]pass show hunqi-ci | hunqi login --token-stdin[/cyan]
    """
    contexts = load_contexts()
    known = contexts.held.get(context or contexts.current) or contexts.chosen()
    wanted = Context(
        name=context or known.name,
        url=(url or known.url).rstrip("/"),
        ca_file=str(ca_file.absolute()) if ca_file else known.ca_file,
    )
    if token_stdin:
        token = asking.secret("Token", from_stdin=True, option="--token-stdin")
        found = call_api(lambda api: api.get(path_of("me")), context=replace(wanted, token=token))
        kept = replace(wanted, token=token, user=found["name"])
    else:
        setup_token = _setup_token(setup_token_file) if setup else None
        user = name or asking.text("Name", option="--name", default="admin" if setup else "")
        password = asking.secret(
            "Password", from_stdin=password_stdin, variable=PASSWORD_VARIABLE, option="--password-stdin", twice=setup
        )
        token = call_api(lambda api: _log_in(api, user, password, setup_token), context=wanted)
        kept = replace(wanted, token=token, user=user)
    save_contexts(contexts.having(kept))
    out().print(Text(f"logged in at {kept.url} as {kept.user}"))


async def _log_in(api: Api, name: str, password: str, setup_token: str | None) -> str:
    """Make the first user if there is a setup token, log in, and return a token of one's own."""
    if setup_token:
        await api.post(path_of("setup"), {"token": setup_token, "name": name, "password": password})
    me = await api.post(path_of("login"), {"name": name, "password": password})
    api.headers = {"X-CSRF-Token": str(me["csrf"])}
    label = f"hunqi login on {socket.gethostname()}"[:63]
    made = await api.post(path_of("tokens"), {"name": label, "days": _TOKEN_DAYS})
    await api.post(path_of("logout"))
    return str(made["secret"])


def _setup_token(path: Path | None) -> str:
    if path is not None:
        return asking.content(str(path), limit_bytes=1000).decode(errors="replace").strip()
    return asking.secret("Setup token", from_stdin=False, variable=SETUP_VARIABLE, option="--setup-token-file")


def logout() -> None:
    """Forget the kept token, and make it useless.

    [bold]Examples[/bold]

      [cyan]hunqi logout[/cyan]
    """
    contexts = load_contexts()
    kept = contexts.held.get(contexts.current)
    if kept is None or kept.token is None:
        out().print("you are not logged in")
        return
    with contextlib.suppress(ApiError, ApiUnreachableError):
        asyncio.run(_revoke_own(kept))
    save_contexts(contexts.having(replace(kept, token=None, user=None)))
    out().print(Text(f"logged out of {kept.url}"))


async def _revoke_own(context: Context) -> None:
    label = f"hunqi login on {socket.gethostname()}"[:63]
    async with Api(context) as api:
        tokens = await api.items(path_of("tokens"))
        last = max((each for each in tokens if each["name"] == label), key=_last_used, default=None)
        if last is not None:
            await api.delete(path_of("tokens", last["id"]))


def _last_used(token: dict[str, Any]) -> str:
    return str(token.get("last_used_at") or "")


def whoami(*, as_json: JsonOption = False) -> None:
    """Show who you are and what you may.

    [bold]Examples[/bold]

      [cyan]hunqi whoami[/cyan]
    """
    context = effective()
    me = call_api(lambda api: api.get(path_of("me")), context=context)
    if as_json:
        print_json({**me, "url": context.url})
        return
    print_facts(
        {
            "name": me["name"],
            "at": context.url,
            "context": context.name,
            "administrator": bool(me["admin"]),
            "teams": [f"{team} ({role})" for team, role in me["teams"].items()] or None,
            "apps": [f"{app} ({role})" for app, role in me["grants"].items()] or None,
            "scopes": me["scopes"] or None,
        }
    )


@context_app.callback()
def _context() -> None:
    """Group."""


@context_app.command("ls")
def context_ls(*, as_json: JsonOption = False) -> None:
    """List the contexts.

    [bold]Examples[/bold]

      [cyan]hunqi context ls[/cyan]
    """
    contexts = load_contexts()
    rows = [
        {"name": each.name, "url": each.url, "user": each.user, "in use": each.name == contexts.current}
        for each in contexts.held.values()
    ]
    if as_json:
        print_json({"contexts": rows})
    else:
        print_rows(rows, empty="none: hunqi login makes one")


@context_app.command("use")
def context_use(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Use another context from now on.

    [bold]Examples[/bold]

      [cyan]hunqi context use staging[/cyan]
    """
    contexts = load_contexts()
    if name not in contexts.held:
        raise ContextError(f"there is no context {name!r}; hunqi login --context {name} --url URL makes it")
    save_contexts(Contexts(current=name, held=contexts.held))
    out().print(Text(f"{name} ({contexts.held[name].url}) is in use"))


@context_app.command("rm")
def context_rm(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Forget a context and its token.

    [bold]Examples[/bold]

      [cyan]hunqi context rm staging[/cyan]
    """
    save_contexts(load_contexts().without(name))
    out().print(Text(f"{name} is forgotten"))
