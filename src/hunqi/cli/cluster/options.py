"""The options that several of the cluster's commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from hunqi.platform.errors import NotRunningError
from hunqi.platform.settings import DEFAULT_DATA, PlatformSettings, load

DATA_VARIABLE: Final = "HUNQI_DATA"

PlatformDataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar=DATA_VARIABLE,
        help="The platform's data directory. [default: /var/lib/hunqi]".replace("[", "\\["),
        show_default=False,
    ),
]


def data_dir(given: Path | None) -> Path:
    """Return the data directory: as given, else that of the environment, else the default one."""
    return (given or Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)).absolute()


def chosen_settings(given: Path | None) -> PlatformSettings:
    """Return what ``hunqi up`` chose on this machine. Raises ``NotRunningError`` if it never ran there."""
    directory = data_dir(given)
    settings = load(directory)
    if settings is None:
        raise NotRunningError(f"hunqi up has not run on {directory}: run it, or name another directory with --data")
    return settings
