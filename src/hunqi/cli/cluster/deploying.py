"""``hunqi app deploy|check|rollback|history|diff|cancel``: revisions, and the way to the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from hunqi.cli.cluster import asking
from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.following import ENDED, follow, render_note
from hunqi.cli.cluster.given import AppArgument, DetachOption, ReasonOption
from hunqi.cli.cluster.moments import ago
from hunqi.cli.cluster.project import find_project, name_of, parse_images
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json, print_rows

FilesOption = Annotated[
    list[Path] | None,
    typer.Option("--file", "-f", metavar="FILE", help="The Compose file; repeatable, later ones are merged over."),
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="APP", help="Else that of the file, else the directory's.")
]
EnvFileOption = Annotated[
    list[Path] | None, typer.Option("--env-file", metavar="FILE", help="Variables for the file. Repeatable.")
]
ProfileOption = Annotated[list[str] | None, typer.Option("--profile", metavar="NAME", help="Repeatable.")]
ImageOption = Annotated[
    list[str] | None,
    typer.Option("--image", metavar="SERVICE=REF", help="Run this image in place of the file's. Repeatable."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="A key that is not honoured is an error.")]
DirectoryOption = Annotated[
    Path | None,
    typer.Option("--project-directory", metavar="DIR", help="Out of it no file is sent. Default: the first file's."),
]


def deploy(
    *,
    file: FilesOption = None,
    name: NameOption = None,
    env_file: EnvFileOption = None,
    profile: ProfileOption = None,
    image: ImageOption = None,
    strict: StrictOption = False,
    order: Annotated[
        str | None,
        typer.Option("--order", metavar="HOW", help="Where there is no room for two: stop-first or batches."),
    ] = None,
    rollout: Annotated[
        str | None,
        typer.Option("--rollout", metavar="HOW", help="In place of the file's: gray, blue-green or direct."),
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="PERCENT,...", help="The weights of --rollout gray: 5,10,25,50.")
    ] = None,
    team: Annotated[str | None, typer.Option("--team", metavar="TEAM", help="Who a new app belongs to.")] = None,
    project_directory: DirectoryOption = None,
    reason: ReasonOption = "",
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Deploy a Compose file: a new revision takes over when it is healthy, without losing a request.

    Until then, and if it never is, the old one serves. Ctrl-C leaves the deploy going on.

    [bold]Examples[/bold]

      [cyan]hunqi app deploy -f compose.yaml[/cyan]
      [cyan]hunqi app deploy --image web=registry.example.com/shop/web:1.7 --reason "release 1.7"[/cyan]
      [cyan]hunqi app deploy -f compose.yaml -f compose.prod.yaml --env-file prod.env --strict[/cyan]
      [cyan]hunqi app deploy --rollout gray --steps 5,10,50[/cyan]
          Users move step by step while its measures are well: hunqi rollout show.
    """
    project = find_project(file or (), directory=project_directory, env_files=env_file or ())
    app = name_of(project, name)
    options: dict[str, Any] = {
        "profiles": profile or [],
        "images": parse_images(image or ()),
        "reason": reason,
        "strict": strict,
        "order": order,
        "team": team,
        "rollout": _rollout(rollout, steps),
    }
    begun = call_api(lambda api: api.client.deploys.deploy(app, project, options))
    follow(begun, detach=detach, as_json=as_json)


def _rollout(how: str | None, steps: str | None) -> dict[str, Any] | None:
    """Return what is asked for of the rollout, None for what the file says."""
    if how is None and steps is None:
        return None
    if how not in {None, "gray", "blue-green", "direct"}:
        raise asking.InputError(f"--rollout is gray, blue-green or direct, not {how!r}")
    try:
        weights = [float(each.strip().removesuffix("%")) for each in steps.split(",")] if steps else []
    except ValueError as error:
        raise asking.InputError(f"--steps are percent with commas between: 5,10,25,50, not {steps!r}") from error
    return {"strategy": how or "gray", "weights": weights}


def check(
    *,
    file: FilesOption = None,
    name: NameOption = None,
    env_file: EnvFileOption = None,
    profile: ProfileOption = None,
    image: ImageOption = None,
    strict: StrictOption = False,
    project_directory: DirectoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a deploy would do, and which keys are not honoured, without doing anything.

    Exit code 1 if a deploy would fail.

    [bold]Examples[/bold]

      [cyan]hunqi app check -f compose.yaml[/cyan]
      [cyan]hunqi app check -f compose.yaml --strict[/cyan]
          For CI: keys that would be ignored are errors.
    """
    project = find_project(file or (), directory=project_directory, env_files=env_file or ())
    app = name_of(project, name)
    options: dict[str, Any] = {"profiles": profile or [], "images": parse_images(image or ()), "strict": strict}
    found = call_api(lambda api: api.client.deploys.check(app, project, options))
    if as_json:
        print_json(found)
    else:
        console = Console(highlight=False, soft_wrap=True)
        for note in found["notes"]:
            console.print(render_note(note))
        rows = [{"service": each["service"], "would be": each["kind"], "why": each["why"]} for each in found["changes"]]
        print_rows(rows, empty="a deploy would change nothing")
        for problem in found["problems"]:
            console.print(Text.assemble(("✗ ", "bold red"), problem))
    raise typer.Exit(1 if found["problems"] else 0)


def rollback(
    app: AppArgument,
    revision: Annotated[
        int | None, typer.Argument(metavar="[REVISION]", help="Default: the one before that which is live.")
    ] = None,
    *,
    reason: ReasonOption = "",
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go back to a revision that is kept: nothing is built or downloaded.

    [bold]Examples[/bold]

      [cyan]hunqi app rollback shop[/cyan]
      [cyan]hunqi app rollback shop 7 --reason "orders failed"[/cyan]
    """

    async def begin(api: Api) -> Any:
        number = revision
        if number is None:
            kept = await api.items(path_of("apps", app, "revisions"))
            live = next((each["number"] for each in kept if each["live"]), None)
            older = [each["number"] for each in kept if each["retained"] and live and each["number"] < live]
            if not older:
                raise asking.InputError(f"{app} has no earlier revision that is kept: hunqi app history {app}")
            number = max(older)
        return await api.post(path_of("apps", app, "rollback"), {"revision": number, "reason": reason})

    follow(call_api(begin), detach=detach, as_json=as_json)


def history(app: AppArgument, *, as_json: JsonOption = False) -> None:
    """List the revisions of an app.

    [bold]Examples[/bold]

      [cyan]hunqi app history shop[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("apps", app, "revisions")))
    if as_json:
        print_json({"revisions": found})
        return
    rows = [
        {
            "revision": each["number"],
            "": "live" if each["live"] else "kept" if each["retained"] else "gone",
            "made": ago(each["created_at"]),
            "by": each["actor"],
            "why": each["reason"],
        }
        for each in found
    ]
    print_rows(rows, empty="none yet")


def diff(
    app: AppArgument,
    before: Annotated[int, typer.Argument(metavar="REVISION")],
    after: Annotated[int, typer.Argument(metavar="REVISION")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show in what two revisions differ.

    [bold]Examples[/bold]

      [cyan]hunqi app diff shop 6 7[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("apps", app, "revisions", before, "diff", after)))
    if as_json:
        print_json({"differences": found})
        return
    if not found:
        out().print("they do not differ")
    for each in found:
        out().print(Text(each["path"], style="bold"))
        for sign, style, value in (("-", "red", each["before"]), ("+", "green", each["after"])):
            if value is not None:
                out().print(Text(f"  {sign} {value}", style=style))


def cancel(
    app: AppArgument,
    deploy: Annotated[str | None, typer.Argument(metavar="[DEPLOY]", help="Default: the one under way.")] = None,
    *,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Stop a deploy that has not switched yet; the old revision goes on.

    [bold]Examples[/bold]

      [cyan]hunqi app cancel shop[/cyan]
    """

    async def stop(api: Api) -> Any:
        number = deploy
        if number is None:
            last = (await api.get(path_of("apps", app)))["deploy"]
            if last is None or last["state"] in ENDED:
                raise asking.InputError(f"no deploy of {app} is under way")
            number = last["id"]
        return await api.post(path_of("apps", app, "deploys", number, "cancel"), {"reason": reason})

    found = call_api(stop)
    if as_json:
        print_json(found)
    else:
        out().print(Text(f"{app}: {found['sentence'] or found['state']}"))
