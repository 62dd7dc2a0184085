"""``hunqi service``: the platform under systemd."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Final

import typer
from rich.text import Text

from hunqi.cli.cluster.options import PlatformDataOption, data_dir
from hunqi.cli.show import out
from hunqi.errors import UserError
from hunqi.platform import launch, unit
from hunqi.platform.docker import find_program
from hunqi.platform.settings import load
from hunqi.platform.status import read_status

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="The platform as a service of systemd.")
_TIMEOUT_S: Final = 120.0
_RUNNING: Final = Path("/run/systemd/system")


class ServiceError(UserError):
    """The unit could not be written, enabled or removed."""

    code: ClassVar[str] = "cli.service"


@app.callback()
def root() -> None:
    """Have systemd run the platform from boot on."""


@app.command()
def install(
    *,
    print_only: Annotated[bool, typer.Option("--print", help="Only print the unit.")] = False,
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Write below DIR instead of /.")] = Path("/"),
    data: PlatformDataOption = None,
) -> None:
    """Write a systemd unit for the platform, and enable it where systemd runs.

    Run hunqi up once before, with the options you want: they are kept.

    [bold]Examples[/bold]

      [cyan]hunqi service install --print[/cyan]
      [cyan]sudo hunqi service install[/cyan]
    """
    directory = data_dir(data)
    text = unit.render(
        command=[sys.executable, "-m", "hunqi", "up", "--foreground", "--data", str(directory)],
        writable=[directory],
        readable=[Path(sys.base_prefix)],
    )
    if print_only:
        sys.stdout.write(text)
        return
    path = root.absolute() / unit.DIRECTORY.relative_to("/") / unit.NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        (root.absolute() / directory.relative_to("/")).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(f"{path} cannot be written: {error.strerror}. Try as root.") from error
    out().print(Text(f"wrote {path}"))
    if root.absolute() == Path("/") and _RUNNING.is_dir():
        _hand_over(directory)
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", unit.NAME)
        out().print(f"{unit.NAME} is enabled and runs: hunqi status")
    else:
        out().print(f"systemd does not run here; where it does: systemctl enable --now {unit.NAME}")


@app.command()
def uninstall() -> None:
    """Stop the service and remove its unit; data and apps stay, and apps go on serving.

    [bold]Examples[/bold]

      [cyan]sudo hunqi service uninstall[/cyan]
    """
    path = unit.DIRECTORY / unit.NAME
    if not path.exists():
        raise ServiceError(f"there is no {path}")
    if _RUNNING.is_dir():
        _systemctl("disable", "--now", unit.NAME)
    try:
        path.unlink()
    except OSError as error:
        raise ServiceError(f"{path} cannot be removed: {error.strerror}. Try as root.") from error
    out().print(Text(f"removed {path}"))


def _hand_over(directory: Path) -> None:
    """Stop what was started by hand, so that systemd can take it up."""
    settings = load(directory)
    if settings is not None and read_status(settings) is not None:
        launch.stop(settings)


def _systemctl(*arguments: str) -> None:
    program = find_program("systemctl") or "systemctl"
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"systemctl {' '.join(arguments)} failed: {error}") from error
    if done.returncode != 0:
        raise ServiceError(f"systemctl {' '.join(arguments)} failed: {done.stderr.strip()}")
