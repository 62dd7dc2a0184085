"""Where each of the cluster's commands hangs in the tree of ``hunqi``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import typer

from hunqi.cli.cluster import look, service, up

_MACHINE: Final = "This machine"


def add_cluster(app: typer.Typer) -> None:
    """Add the cluster's commands to the program."""
    app.command("up", help=up.HELP, rich_help_panel=_MACHINE)(up.up)
    for command in (up.down, look.status, look.doctor):
        app.command(rich_help_panel=_MACHINE)(command)
    app.add_typer(service.app, name="service", rich_help_panel=_MACHINE)
    app.add_typer(_parts("control", up.serve_control), name="control", hidden=True)
    app.add_typer(_parts("agent", up.serve_agent), name="agent", hidden=True)


def _parts(name: str, serve: Callable[..., None]) -> typer.Typer:
    part = typer.Typer(no_args_is_help=True, help=f"The process {name}, which hunqi up keeps.")
    part.callback()(lambda: None)
    part.command("serve")(serve)
    return part
