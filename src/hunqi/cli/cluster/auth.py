"""``hunqi login``, ``logout``, ``whoami`` and ``context``: who one is, and where."""

from __future__ import annotations

import contextlib
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from hunqi.cli.cluster import asking
from hunqi.cli.cluster.calls import Api, ApiUnreachableError, call_api, path_of
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
from hunqi.client.errors import RefusedError, UnavailableError
from hunqi.client.model import NewToken

PASSWORD_VARIABLE: Final = "HUNQI_PASSWORD"  # noqa: S105  # the variable's name
SETUP_VARIABLE: Final = "HUNQI_SETUP_TOKEN"
_TOKEN_DAYS: Final = 90

context_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="The Hunqis that this user knows, and which is in use."
)


def login(
    *,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="The API's address; where several managers have control, of each. [default: this machine's]".replace(
                "[", "\\["
            ),
        ),
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

      [cyan]hunqi login --url http://10.0.0.1:7000 --url http://10.0.0.2:7000[/cyan]
          Control on two managers: changes find the one that leads.

      [cyan]pass show hunqi-ci | hunqi login --token-stdin[/cyan]
    """
    contexts = load_contexts()
    known = contexts.held.get(context or contexts.current) or contexts.chosen()
    wanted = Context(
        name=context or known.name,
        url=(url[0] if url else known.url).rstrip("/"),
        more=tuple(each.rstrip("/") for each in url[1:]) if url else known.more,
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
        made = call_api(lambda api: _log_in(api, user, password, setup_token), context=wanted)
        kept = replace(wanted, token=made["secret"], token_id=made["token"]["id"], user=user)
    save_contexts(contexts.having(kept))
    out().print(Text(f"logged in at {kept.url} as {kept.user}"))


async def _log_in(api: Api, name: str, password: str, setup_token: str | None) -> NewToken:
    """Make the first user if there is a setup token, log in, and return a token of one's own."""
    people = api.client.people
    if setup_token:
        await people.set_up(setup_token, name, password)
    host = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower())
    label = f"cli-{host}"[:63].rstrip(".-")
    return await people.log_in(name, password, token_name=label, days=_TOKEN_DAYS)


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
    if kept.token_id is not None:
        number = kept.token_id
        with contextlib.suppress(RefusedError, UnavailableError, ApiUnreachableError):
            call_api(lambda api: api.client.people.revoke_token(number), context=kept)
    save_contexts(contexts.having(replace(kept, token=None, token_id=None, user=None)))
    out().print(Text(f"logged out of {kept.url}"))


def whoami(*, as_json: JsonOption = False) -> None:
    """Show who you are and what you may.

    [bold]Examples[/bold]

      [cyan]hunqi whoami[/cyan]
    """
    context = effective()
    me, names = call_api(_me, context=context)
    if as_json:
        print_json({**me, "url": context.url, "team_names": names})
        return
    print_facts(
        {
            "name": me["name"],
            "at": context.url,
            "context": context.name,
            "administrator": bool(me["admin"]),
            "teams": [f"{names.get(team, team)} ({role})" for team, role in me["teams"].items()] or None,
            "apps": [f"{app} ({role})" for app, role in me["grants"].items()] or None,
            "scopes": me["scopes"] or None,
        }
    )


async def _me(api: Api) -> tuple[Any, dict[str, str]]:
    """Return who the caller is, and the names of teams by their ids."""
    me = await api.get(path_of("me"))
    return me, {each["id"]: each["name"] for each in await api.items(path_of("teams"))} if me["teams"] else {}


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
