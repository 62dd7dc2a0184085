"""The program ``hunqi``: its commands, and how errors end it (0 well, 1 failed, 2 used wrongly, 130 interrupted)."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from hunqi.cli import certs, content, inspect, transfer, users
from hunqi.cli.cluster.tree import add_cluster
from hunqi.cli.install import install
from hunqi.cli.serve import HELP as SERVE_HELP
from hunqi.cli.serve import serve_command
from hunqi.cli.setup import command as setup
from hunqi.config import ConfigError
from hunqi.errors import HunqiError


def build_app() -> typer.Typer:
    """Return the whole command tree."""
    app = typer.Typer(
        name="hunqi",
        help="Hunqi: a self-hosted container cloud for Docker. It begins with `hunqi up`.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    mirror = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        help="The image accelerator: a streaming mirror of every registry that is also a registry of your own.",
    )
    app.callback()(_root)
    mirror.command("serve", help=SERVE_HELP)(serve_command())
    _add_operations(mirror)
    mirror.add_typer(setup.app, name="setup")
    mirror.command("install")(install)
    mirror.add_typer(users.app, name="user")
    mirror.add_typer(certs.app, name="certs")
    add_cluster(app)
    app.add_typer(mirror, name="mirror", rich_help_panel="Images")
    return app


def _add_operations(mirror: typer.Typer) -> None:
    panel = "On the running mirror"
    for command in (inspect.status, inspect.stat, inspect.ls, content.pin, content.unpin, content.rm):
        mirror.command(rich_help_panel=panel)(command)
    for command in (content.gc, content.verify, content.reload, transfer.warm):
        mirror.command(rich_help_panel=panel)(command)
    mirror.command("export", rich_help_panel=panel)(transfer.export_images)
    mirror.command("import", rich_help_panel=panel)(transfer.import_images)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hunqi {version('hunqi')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Hunqi: a self-hosted container cloud for Docker. It begins with `hunqi up`."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program with ``arguments`` (default the process' own) and return its exit code."""
    try:
        build_app()(args=None if arguments is None else list(arguments), prog_name="hunqi")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except ConfigError as error:
        _complain(str(error))
        return 2
    except HunqiError as error:
        remedy = getattr(error, "remedy", None)
        _complain(f"{error}\n  → {remedy}" if remedy else str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _silenced()
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EIO}:
            raise
        _complain(f"the output cannot be written: {error.strerror}")
        return _silenced()
    return 0


def _silenced() -> int:
    """Keep Python from writing once more at its end what nobody takes; return the exit code."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _complain(message: str) -> None:
    text = Text.assemble(("error: ", "bold red"), message)
    Console(stderr=True, soft_wrap=True, highlight=False).print(text)


def main() -> None:
    """Run as a program."""
    sys.exit(run())
