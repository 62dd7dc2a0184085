"""``user add|ls|rm|grant|passwd``: the users file of a mirror; a running mirror sees a change by itself."""

from __future__ import annotations

import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from hunqi.cli.options import ConfigOption, DataOption, JsonOption
from hunqi.cli.show import out, print_json, print_rows
from hunqi.config import FlagValue, load_places, process_inputs
from hunqi.errors import UserError
from hunqi.mirror.access.model import Grant, User
from hunqi.mirror.access.users import UsersFile

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Users and what they may pull, push and delete.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
GrantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--grant", metavar="PREFIX:ACTIONS", help="Such as team:pull,push or docker.io/acme:pull. Repeatable."
    ),
]
UsersFileOption = Annotated[
    str | None, typer.Option("--users-file", metavar="FILE", help="Default: users.json in the data directory.")
]
StdinOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


class PasswordInputError(UserError):
    """No usable password was typed or piped in."""

    code: ClassVar[str] = "cli.password"


@app.command()
def add(
    name: NameArgument,
    *,
    grant: GrantOption = None,
    password_stdin: StdinOption = False,
    users_file: UsersFileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Add a user; the password is asked for twice, or read from standard input, never an argument.

    [bold]Examples[/bold]

      [cyan]hunqi mirror user add ada --grant team:pull,push,delete[/cyan]
      [cyan]pass show ci | hunqi mirror user add ci --grant team:pull,push --password-stdin[/cyan]
    """
    grants = [Grant.parse(text) for text in grant or []]
    users = _open(users_file, data=data, config=config)
    users.add(name, _password(from_stdin=password_stdin), grants)
    out().print(f"added {name} to {users.path}")
    if not grants:
        out().print(f"{name} may do nothing yet: hunqi mirror user grant {name} team:pull,push")


@app.command()
def passwd(
    name: NameArgument,
    *,
    password_stdin: StdinOption = False,
    users_file: UsersFileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Change a user's password.

    [bold]Examples[/bold]

      [cyan]hunqi mirror user passwd ada[/cyan]
    """
    users = _open(users_file, data=data, config=config)
    users.set_password(name, _password(from_stdin=password_stdin))
    out().print(f"the password of {name} is changed")


@app.command()
def grant(
    name: NameArgument,
    grants: Annotated[
        list[str] | None, typer.Argument(metavar="[PREFIX:ACTIONS]...", help="All grants; none takes everything away.")
    ] = None,
    *,
    users_file: UsersFileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Replace a user's grants; the user "anonymous" stands for everybody.

    [bold]Examples[/bold]

      [cyan]hunqi mirror user grant ada team:pull,push docker.io/acme:pull[/cyan]
      [cyan]hunqi mirror user grant anonymous public:pull[/cyan]
    """
    users = _open(users_file, data=data, config=config)
    parsed = [Grant.parse(text) for text in grants or []]
    users.set_grants(name, parsed)
    out().print(f"{name} may now: {', '.join(map(str, parsed)) or 'nothing'}")


@app.command()
def rm(
    name: NameArgument,
    *,
    users_file: UsersFileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Remove a user.

    [bold]Examples[/bold]

      [cyan]hunqi mirror user rm ada[/cyan]
    """
    _open(users_file, data=data, config=config).remove(name)
    out().print(f"removed {name}")


@app.command()
def ls(
    *,
    users_file: UsersFileOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the users and their grants.

    [bold]Examples[/bold]

      [cyan]hunqi mirror user ls[/cyan]
    """
    users = _open(users_file, data=data, config=config)
    rows = [_row(user) for user in users.list()]
    if as_json:
        print_json({"users": rows})
    else:
        print_rows(rows, columns=("name", "grants"), empty="no users: anybody may pull, nobody may push")


def _row(user: User) -> dict[str, object]:
    return {"name": user.name, "grants": [str(grant) for grant in user.grants]}


def _open(users_file: str | None, *, data: Path | None, config: Path | None) -> UsersFile:
    flags: dict[str, FlagValue] = {}
    if data is not None:
        flags["data"] = str(data)
    if users_file is not None:
        flags["access.users-file"] = users_file
    return UsersFile(load_places(process_inputs(flags, config_file=config)).users_file)


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise PasswordInputError("standard input held no password")
        return password
    if not sys.stdin.isatty():
        raise PasswordInputError("there is no terminal to ask for the password on: pipe it in with --password-stdin")
    password = getpass("Password: ")
    if not password:
        raise PasswordInputError("a password must not be empty")
    if getpass("Again: ") != password:
        raise PasswordInputError("the two passwords differ: nothing was changed")
    return password
