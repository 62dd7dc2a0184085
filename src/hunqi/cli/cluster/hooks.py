"""``hunqi hook``: URLs that are told of events."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from hunqi.cli.cluster import asking
from hunqi.cli.cluster.calls import call_api, path_of
from hunqi.cli.cluster.given import YesOption
from hunqi.cli.cluster.moments import ago
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json, print_rows

hook_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Webhooks: URLs that are told of an app's events."
)
AppOption = Annotated[
    str | None, typer.Option("--app", "-a", metavar="APP", help="Of this app; without it, of the whole cluster.")
]
HookArgument = Annotated[str, typer.Argument(metavar="HOOK", help="By its id, see hunqi hook ls.")]


@hook_app.command("add")
def hook_add(
    url: Annotated[str, typer.Argument(metavar="URL")],
    *,
    app: AppOption = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Such as rollout.*; repeatable. Default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have an URL told of events from now on. What it is sent is signed with the secret that is shown once.

    [bold]Examples[/bold]

      [cyan]hunqi hook add https://chat.example.com/in/42 --app shop --kind 'rollout.*' --kind deploy.failed[/cyan]
      [cyan]hunqi hook add https://ops.example.com/hunqi --kind scaling.short[/cyan]
    """
    found = call_api(lambda api: api.post(_path(app), {"url": url, "kinds": kind or []}))
    if as_json:
        print_json(found)
        return
    told = Text.assemble(
        f"webhook {found['id']} is told from now on\nits secret, shown this once: ",
        (found["secret"], "bold"),
        f"\nnext: hunqi hook test {found['id']}{f' --app {app}' if app else ''}",
    )
    out().print(told)


@hook_app.command("ls")
def hook_ls(*, app: AppOption = None, as_json: JsonOption = False) -> None:
    """List webhooks, and what keeps them from being told.

    [bold]Examples[/bold]

      [cyan]hunqi hook ls --app shop[/cyan]
    """
    found = call_api(lambda api: api.items(_path(app)))
    if as_json:
        print_json({"hooks": found})
        return
    print_rows([_row(each) for each in found], empty="none; hunqi hook add URL makes one")


@hook_app.command("show")
def hook_show(hook: HookArgument, *, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Show what a webhook was told last, and what it answered.

    [bold]Examples[/bold]

      [cyan]hunqi hook show 5d1f0a2b --app shop[/cyan]
    """
    found = call_api(lambda api: api.items(_path(app, hook, "deliveries")))
    if as_json:
        print_json({"deliveries": found})
        return
    print_rows([_delivery(each) for each in found], empty="nothing was told yet")


@hook_app.command("test")
def hook_test(hook: HookArgument, *, app: AppOption = None, as_json: JsonOption = False) -> None:
    """Tell a webhook of an event hook.test now; ends with 1 if it does not take it.

    [bold]Examples[/bold]

      [cyan]hunqi hook test 5d1f0a2b --app shop[/cyan]
    """
    found = call_api(lambda api: api.post(_path(app, hook, "test")))
    if as_json:
        print_json(found)
    elif found["problem"]:
        out().print(Text(f"not taken: {found['problem']}"))
    else:
        out().print(Text(f"taken: it answered {found['status']}"))
    if found["problem"]:
        raise typer.Exit(1)


@hook_app.command("rm")
def hook_rm(hook: HookArgument, *, app: AppOption = None, yes: YesOption = False) -> None:
    """Forget a webhook.

    [bold]Examples[/bold]

      [cyan]hunqi hook rm 5d1f0a2b --app shop --yes[/cyan]
    """
    asking.confirm(f"Tell the webhook {hook} nothing more?", yes=yes)
    call_api(lambda api: api.delete(_path(app, hook)))
    out().print(Text(f"{hook} is forgotten"))


def _path(app: str | None, *rest: str) -> str:
    return path_of("hooks", *rest) if app is None else path_of("apps", app, "hooks", *rest)


def _row(hook: dict[str, Any]) -> dict[str, Any]:
    return {
        "hook": hook["id"],
        "url": hook["url"],
        "kinds": ", ".join(hook["kinds"]) or "all",
        "made": ago(hook["created_at"]),
        "problem": hook["problem"] or "-",
    }


def _delivery(delivery: dict[str, Any]) -> dict[str, Any]:
    return {
        "event": delivery["event"] or "test",
        "when": ago(delivery["at"]),
        "attempt": delivery["attempt"],
        "answer": delivery["status"] or "-",
        "problem": delivery["problem"] or "-",
    }
