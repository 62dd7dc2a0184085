"""``hunqi user``, ``team`` and ``token``: who may do what."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from hunqi.cli.cluster import asking
from hunqi.cli.cluster.auth import PASSWORD_VARIABLE
from hunqi.cli.cluster.calls import call_api, path_of
from hunqi.cli.cluster.given import YesOption
from hunqi.cli.cluster.moments import ago
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json, print_rows

user_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Users.")
team_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Teams: each app belongs to one; roles and limits are theirs."
)
token_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Tokens: for programs, and for docker login."
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]
TeamArgument = Annotated[str, typer.Argument(metavar="TEAM")]
StdinOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@user_app.command("add")
def user_add(
    name: NameArgument,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    no_password: Annotated[bool, typer.Option("--no-password", help="Only tokens work.")] = False,
    password_stdin: StdinOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a user.

    [bold]Examples[/bold]

      [cyan]hunqi user add ada[/cyan]
      [cyan]pass show ada | hunqi user add ada --password-stdin[/cyan]
    """
    password = None if no_password else _new_password(from_stdin=password_stdin)
    body = {"name": name, "admin": admin, **({"password": password} if password else {})}
    found = call_api(lambda api: api.post(path_of("users"), body))
    _told(found, f"{name} is made; next: hunqi team member TEAM {name} developer", as_json=as_json)


@user_app.command("ls")
def user_ls(*, as_json: JsonOption = False) -> None:
    """List the users.

    [bold]Examples[/bold]

      [cyan]hunqi user ls[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("users")))
    if as_json:
        print_json({"users": found})
        return
    rows = [
        {
            "user": each["name"],
            "administrator": bool(each["is_admin"]),
            "disabled": bool(each["disabled"]),
            "made": ago(each["created_at"]),
        }
        for each in found
    ]
    print_rows(rows)


@user_app.command("passwd")
def user_passwd(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Default: yourself.")] = None,
    *,
    password_stdin: StdinOption = False,
) -> None:
    """Change a password; it ends the user's sessions. One's own needs the present one.

    [bold]Examples[/bold]

      [cyan]hunqi user passwd[/cyan]
    """
    if name is None:
        present = asking.secret("Present password", from_stdin=False, variable=PASSWORD_VARIABLE, option="a terminal")
        body = {"present": present, "password": _new_password(from_stdin=password_stdin)}
        call_api(lambda api: api.put(path_of("me", "password"), body))
    else:
        change = {"password": _new_password(from_stdin=password_stdin)}
        call_api(lambda api: api.patch(path_of("users", name), change))
    out().print("the password is changed")


@user_app.command("set")
def user_set(
    name: NameArgument,
    *,
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="May do everything, or not.")] = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Shut out, or let in again.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a user an administrator, or shut one out.

    [bold]Examples[/bold]

      [cyan]hunqi user set ada --admin[/cyan]
      [cyan]hunqi user set mallory --disable[/cyan]
    """
    body = {key: value for key, value in (("admin", admin), ("disabled", disabled)) if value is not None}
    found = call_api(lambda api: api.patch(path_of("users", name), body))
    _told(found, f"{name} is changed", as_json=as_json)


@user_app.command("rm")
def user_rm(name: NameArgument, *, yes: YesOption = False) -> None:
    """Remove a user with their tokens and roles.

    [bold]Examples[/bold]

      [cyan]hunqi user rm ada --yes[/cyan]
    """
    asking.confirm(f"Remove the user {name}?", yes=yes)
    call_api(lambda api: api.delete(path_of("users", name)))
    out().print(Text(f"{name} is removed"))


@team_app.command("add")
def team_add(
    name: NameArgument,
    *,
    quota: Annotated[
        list[str] | None, typer.Option("--quota", metavar="LIMIT=NUMBER", help="Such as apps=10. Repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a team.

    [bold]Examples[/bold]

      [cyan]hunqi team add shop --quota apps=5[/cyan]
    """
    body = {"name": name, "quota": _quota(quota or [])}
    found = call_api(lambda api: api.post(path_of("teams"), body))
    _told(found, f"{name} is made; next: hunqi team member {name} USER developer", as_json=as_json)


@team_app.command("ls")
def team_ls(*, as_json: JsonOption = False) -> None:
    """List the teams and their members.

    [bold]Examples[/bold]

      [cyan]hunqi team ls[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("teams")))
    if as_json:
        print_json({"teams": found})
        return
    rows = [
        {
            "team": each["name"],
            "members": ", ".join(f"{member['user']} ({member['role']})" for member in each["members"]) or "-",
            "limits": ", ".join(f"{key}={value:g}" for key, value in each["quota"].items()) or "none",
        }
        for each in found
    ]
    print_rows(rows, empty="none")


@team_app.command("member")
def team_member(
    team: TeamArgument,
    user: Annotated[str, typer.Argument(metavar="USER")],
    role: Annotated[str, typer.Argument(metavar="ROLE", help="viewer, developer, owner, or none.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Give a user a role in a team, or take it.

    [bold]Examples[/bold]

      [cyan]hunqi team member shop ada developer[/cyan]
      [cyan]hunqi team member shop ada none[/cyan]
    """
    path = path_of("teams", team, "members", user)
    found = call_api(lambda api: api.delete(path) if role == "none" else api.put(path, {"role": role}))
    _told(found, f"{user} is {'in' if role != 'none' else 'no more in'} {team}", as_json=as_json)


@team_app.command("quota")
def team_quota(
    team: TeamArgument,
    limits: Annotated[list[str] | None, typer.Argument(metavar="[LIMIT=NUMBER]...", help="None: no limits.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Replace a team's limits.

    [bold]Examples[/bold]

      [cyan]hunqi team quota shop apps=5 memory_bytes=8e9[/cyan]
    """
    body = {"quota": _quota(limits or [])}
    found = call_api(lambda api: api.patch(path_of("teams", team), body))
    _told(found, f"the limits of {team} are replaced", as_json=as_json)


@team_app.command("rm")
def team_rm(team: TeamArgument, *, yes: YesOption = False) -> None:
    """Remove a team that owns no app.

    [bold]Examples[/bold]

      [cyan]hunqi team rm shop --yes[/cyan]
    """
    asking.confirm(f"Remove the team {team}?", yes=yes)
    call_api(lambda api: api.delete(path_of("teams", team)))
    out().print(Text(f"{team} is removed"))


@token_app.command("add")
def token_add(
    name: NameArgument,
    *,
    machine: Annotated[bool, typer.Option("--machine", help="Belongs to no person: for CI and programs.")] = False,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="WORD", help="viewer, developer, owner, admin, app:NAME, team:ID. Repeatable."),
    ] = None,
    days: Annotated[int, typer.Option("--days", metavar="N", help="Until it expires; 0 means never.")] = 90,
    as_json: JsonOption = False,
) -> None:
    """Make a token; it is shown this once.

    [bold]Examples[/bold]

      [cyan]hunqi token add ci --machine --scope developer --scope app:shop --days 30[/cyan]
    """
    body: dict[str, Any] = {
        "name": name,
        "kind": "machine" if machine else "personal",
        "scopes": scope or [],
        "days": days or None,
    }
    found = call_api(lambda api: api.post(path_of("tokens"), body))
    if as_json:
        print_json(found)
    else:
        out().print(Text.assemble("The token, shown this once: ", (found["secret"], "bold")))


@token_app.command("registry")
def token_registry(*, as_json: JsonOption = False) -> None:
    """Make a password for docker login at the accelerators, good for twelve hours; it is printed alone.

    Images lie below the names of apps: a developer of the app shop pushes to 127.0.0.1:5000/shop/IMAGE. With the same
    user and password every gateway shows what is routed of these apps: https://HOST/.well-known/hunqi/routes.

    [bold]Examples[/bold]

      [cyan]hunqi token registry | docker login --username ada --password-stdin 127.0.0.1:5000[/cyan]
    """
    made = call_api(lambda api: api.client.people.registry_login())
    if as_json:
        print_json(made)
    else:
        typer.echo(str(made["password"]))


@token_app.command("ls")
def token_ls(*, as_json: JsonOption = False) -> None:
    """List the tokens that are yours to revoke, without their secrets.

    [bold]Examples[/bold]

      [cyan]hunqi token ls[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("tokens")))
    if as_json:
        print_json({"tokens": found})
        return
    rows = [
        {
            "id": each["id"],
            "name": each["name"],
            "of": each["owner"] or "a machine",
            "scopes": ", ".join(each["scopes"]) or "all of its owner's",
            "used": ago(each["last_used_at"]),
            "expires": ago(each["expires_at"]),
        }
        for each in found
    ]
    print_rows(rows, empty="none")


@token_app.command("rm")
def token_rm(token: Annotated[str, typer.Argument(metavar="ID", help="Of hunqi token ls.")]) -> None:
    """Make a token useless from now on.

    [bold]Examples[/bold]

      [cyan]hunqi token rm k3f9[/cyan]
    """
    call_api(lambda api: api.delete(path_of("tokens", token)))
    out().print(Text(f"{token} is revoked"))


def _new_password(*, from_stdin: bool) -> str:
    return asking.secret("New password", from_stdin=from_stdin, option="--password-stdin", twice=True)


def _quota(texts: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise asking.InputError(f"{text!r} is not LIMIT=NUMBER") from error
    return found


def _told(found: object, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        out().print(Text(text))
