"""``ls``, ``stat``, ``status``: what a running mirror has and does."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

import typer
from rich.text import Text

from hunqi.cli.instance import Instance, NoInstanceError, find_instance
from hunqi.cli.options import ConfigOption, DataOption, JsonOption
from hunqi.cli.show import Row, out, print_facts, print_json, print_rows
from hunqi.kit.rpc import Payload

PAGE: Final = 500
"""Repositories that are asked for at once."""
_REPOSITORY_COLUMNS: Final = ("name", "kind", "tags", "manifests", "bytes", "last_used")
_TAG_COLUMNS: Final = ("tag", "digest", "size", "pushed", "last_used", "pinned")


def ls(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="A repository (lists its tags) or the beginning of names.")
    ] = "",
    *,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the repositories that the mirror keeps, or one repository's tags.

    [bold]Examples[/bold]

      [cyan]hunqi mirror ls[/cyan]
      [cyan]hunqi mirror ls docker.io/library/[/cyan]
      [cyan]hunqi mirror ls docker.io/library/nginx[/cyan]
      [cyan]hunqi mirror ls --json | jq -r '.repositories\\[].name'[/cyan]
    """
    instance = find_instance(data, config)
    repositories = _repositories(instance, prefix=name)
    if name and any(repository["name"] == name for repository in repositories):
        tags = instance.ask("operate.ls", repo=name)
        if as_json:
            print_json(tags)
        else:
            rows: list[Row] = [{**row, "pinned": row.get("pin_reason") or row.get("pinned")} for row in tags["tags"]]
            print_rows(rows, columns=_TAG_COLUMNS, title=name, empty="no tags")
        return
    if as_json:
        print_json({"repositories": repositories})
    else:
        print_rows(repositories, columns=_REPOSITORY_COLUMNS, empty=f"nothing is kept{_under(name)} yet")


def _under(name: str) -> str:
    return f" under {name}" if name else ""


def _repositories(instance: Instance, *, prefix: str) -> list[Row]:
    found: list[Row] = []
    after: str | None = None
    while True:
        page: list[Any] = instance.ask("operate.ls", repo_prefix=prefix, after=after, limit=PAGE)["repositories"]
        found += page
        if len(page) < PAGE:
            return found
        after = str(page[-1]["name"])


def stat(*, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what the mirror saved, what it keeps, and how its sources are.

    [bold]Examples[/bold]

      [cyan]hunqi mirror stat[/cyan]
      [cyan]watch hunqi mirror stat[/cyan]
    """
    answer = find_instance(data, config).ask("operate.stat")
    if as_json:
        print_json(answer)
        return
    lists = {key: cast("list[object]", value) for key, value in answer.items() if isinstance(value, list)}
    print_facts({key: value for key, value in answer.items() if key not in lists})
    for key, rows in lists.items():
        out().print()
        cells = [cast("Row", row) if isinstance(row, dict) else {key: row} for row in rows]
        print_rows(cells, title=key, empty="none")


def status(*, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say whether a mirror runs, where it listens and what it mirrors; exit code 1 if none runs.

    [bold]Examples[/bold]

      [cyan]hunqi mirror status && docker compose pull[/cyan]
    """
    instance = find_instance(data, config)
    try:
        answer = instance.ask("operate.describe")
    except NoInstanceError:
        if as_json:
            print_json({"running": False, "data": str(instance.data_dir)})
            raise typer.Exit(1) from None
        raise
    if as_json:
        print_json({"running": True, "data": str(instance.data_dir), **answer})
    else:
        _print_status(instance, answer)


def _print_status(instance: Instance, answer: Payload) -> None:
    scheme = "https" if answer.get("tls") else "http"
    out().print(Text.assemble(("running", "bold green"), f" at {scheme}://{answer['listen']}"))
    print_facts(
        {
            "data": instance.data_dir,
            "upstreams": upstream_names(answer),
            "default_upstream": answer.get("default_upstream"),
        }
    )


def upstream_names(description: Row) -> list[str]:
    """Return the names of the upstreams in the answer to ``operate.describe``: a list of names or of tables."""
    items: list[Any] = description.get("upstreams", [])
    return [str(cast("Row", item)["name"] if isinstance(item, dict) else item) for item in items]
