"""The commands ``setup docker|containerd|podman``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.syntax import Syntax
from rich.text import Text

from hunqi.cli.instance import find_instance
from hunqi.cli.options import ConfigOption, DataOption
from hunqi.cli.setup.apply import Disk, reload_docker, write_plan
from hunqi.cli.setup.docker import DAEMON_JSON, plan_docker
from hunqi.cli.setup.hosts_toml import plan_containerd
from hunqi.cli.setup.model import Mirror, Plan, ReadFile
from hunqi.cli.setup.podman import plan_podman
from hunqi.cli.show import out
from hunqi.config.kinds import ADDRESS, RuleError
from hunqi.mirror.settings import WELL_KNOWN_UPSTREAMS, Address

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Point a client on this machine at the mirror: print what to put where, or write it.",
)

WriteOption = Annotated[bool, typer.Option("--write", help="Merge it into the files, with backups, and show the diff.")]
ListenOption = Annotated[
    str | None,
    typer.Option("--listen", metavar="HOST:PORT", help="The mirror's address; default: ask the running mirror."),
]
RootOption = Annotated[
    Path, typer.Option("--root", metavar="DIR", help="Read and write below DIR instead of /, for images and tests.")
]


@app.command()
def docker(
    *,
    write: WriteOption = False,
    listen: ListenOption = None,
    root: RootOption = Path("/"),
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Docker: daemon.json is merged and Docker reloaded, never restarted.

    [bold]Examples[/bold]

      [cyan]hunqi mirror setup docker[/cyan]           (only print)
      [cyan]sudo hunqi mirror setup docker --write[/cyan]
    """
    disk = Disk(root=root.absolute())
    written = _run(plan_docker, _mirror(listen, data=data, config=config), disk, write=write)
    if DAEMON_JSON in written:
        out().print(reload_docker(disk))


@app.command()
def containerd(
    *,
    write: WriteOption = False,
    listen: ListenOption = None,
    root: RootOption = Path("/"),
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Containerd, and so Kubernetes nodes: one hosts.toml per registry.

    [bold]Examples[/bold]

      [cyan]sudo hunqi mirror setup containerd --write[/cyan]
    """
    _run(plan_containerd, _mirror(listen, data=data, config=config), Disk(root=root.absolute()), write=write)


@app.command()
def podman(
    *,
    write: WriteOption = False,
    listen: ListenOption = None,
    root: RootOption = Path("/"),
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Podman, Buildah, Skopeo and CRI-O: one file in registries.conf.d.

    [bold]Examples[/bold]

      [cyan]sudo hunqi mirror setup podman --write[/cyan]
    """
    _run(plan_podman, _mirror(listen, data=data, config=config), Disk(root=root.absolute()), write=write)


def _mirror(listen: str | None, *, data: Path | None, config: Path | None) -> Mirror:
    if listen is None:
        description: dict[str, Any] = find_instance(data, config).ask("operate.describe")
        return Mirror.of(description, _address(str(description["listen"])))
    tls = listen.startswith("https://")
    address = _address(listen.removeprefix("https://").removeprefix("http://"))
    usual: dict[str, Any] = {"upstreams": list(WELL_KNOWN_UPSTREAMS), "default_upstream": "docker.io", "tls": tls}
    return Mirror.of(usual, address)


def _address(text: str) -> Address:
    try:
        address: Address = ADDRESS.read(text)
    except RuleError as error:
        raise typer.BadParameter(f"{error.rule}: {ADDRESS.example}", param_hint="--listen") from error
    return address


def _run(planner: Callable[[Mirror, ReadFile], Plan], mirror: Mirror, disk: Disk, *, write: bool) -> set[Path]:
    """Print or write the plan; return the paths (as the plan names them) that were written."""
    plan = planner(mirror, disk.read)
    needed = [change for change in plan.changes if change.is_needed]
    console = out()
    for change in needed:
        if write:
            console.print(Syntax(change.diff(), "diff", background_color="default", word_wrap=False))
        else:
            what = "put there" if change.before is None else "make it say"
            console.print(Text(f"{disk.path(change.path)}  ({what})", style="bold"), soft_wrap=True)
            console.print(Text(change.after), soft_wrap=True)  # to be copied: a terminal's width must not change it
    for line in write_plan(plan, disk, now=datetime.now().astimezone()) if write else []:
        console.print(Text(line))
    if not needed:
        console.print(Text("Everything is in place already.", style="green"))
    for note in plan.notes:
        console.print(Text(note, style="dim"))
    if needed and not write:
        console.print(Text("\nTo have this done: the same command with --write", style="bold"))
    return {change.path for change in needed} if write else set()
