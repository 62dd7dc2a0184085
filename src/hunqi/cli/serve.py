"""``hunqi mirror serve``: its flags are made from the table of settings, its work is the app's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from hunqi.cli.banner import render_banner
from hunqi.config import FlagValue, load_mirror_settings, process_inputs
from hunqi.config.reference import default_text
from hunqi.config.setting import Setting
from hunqi.config.table import ALL
from hunqi.mirror.settings import Address, MirrorSettings

HELP: Final = """Serve images: answer from the cache, fetch what is missing, take pushes.

Without options it mirrors the six well-known registries on 127.0.0.1:5000 and keeps up to 50 GiB.
Every setting can also stand in a file (--config) or in the environment: see docs/configuration.md.

[bold]Examples[/bold]

  [cyan]hunqi mirror serve[/cyan]
      Then: docker pull 127.0.0.1:5000/ghcr.io/OWNER/IMAGE, or hunqi mirror setup docker.

  [cyan]hunqi mirror serve --data /srv/mirror --cache-max 500GiB[/cyan]
      More space on another disk.

  [cyan]hunqi mirror serve --listen 0.0.0.0:443 --tls-cert m.pem --tls-key m.key[/cyan]
      For a whole office.

  [cyan]hunqi mirror serve --upstream docker.io=https://registry-1.docker.io --relay docker.io=https://mirror.example.com[/cyan]
      Only Docker Hub, and a nearer mirror is asked first.

  [cyan]DOCKER_IO=http://127.0.0.1:5001 hunqi mirror serve[/cyan]
      Try it against a registry of your own.
"""


def serve_command() -> Callable[..., None]:
    """Return the command's function; its signature, one parameter per flag, is made from the table of settings."""

    def serve(config: Path | None = None, **given: FlagValue | None) -> None:
        flags = {_KEYS[name]: value for name, value in given.items() if value is not None and value != []}

        def load() -> MirrorSettings:
            return load_mirror_settings(process_inputs(flags, config_file=config))

        settings = load()
        from hunqi.app import serve_mirror  # late: the other commands need no server

        def greet(address: Address) -> None:
            Console(stderr=True).print(render_banner(settings, address))

        raise typer.Exit(serve_mirror(settings, reload=load, on_listening=greet))

    parameters = [_config_parameter(), *(_parameter(setting) for setting in ALL if setting.flag)]
    serve.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]  # read by typer
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return serve


def _name(setting: Setting) -> str:
    return setting.key.translate(str.maketrans(".-", "__"))


_KEYS: Final = {_name(setting): setting.key for setting in ALL}


def _config_parameter() -> inspect.Parameter:
    text = "A TOML file with settings. [default: /etc/hunqi/hunqi.toml when it exists]"
    option: Any = typer.Option("--config", metavar="FILE", help=_plain(text), show_default=False)
    return inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, option]
    )


def _parameter(setting: Setting) -> inspect.Parameter:
    is_switch = not setting.kind.metavar
    default = default_text(setting)
    note = f" [default: {default}]" if default and not is_switch else ""
    many = " Repeatable." if setting.many else ""
    flag = f"{setting.flag}/{setting.off_flag}" if setting.off_flag else str(setting.flag)
    option: Any = typer.Option(
        flag,
        metavar=setting.kind.metavar or None,
        help=_plain(f"{setting.help}{many}{note}"),
        show_default=False,
        rich_help_panel=setting.panel,
    )
    value_type: Any = bool | None if is_switch else list[str] | None if setting.many else str | None
    return inspect.Parameter(
        _name(setting), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[value_type, option]
    )


def _plain(text: str) -> str:
    """Escape what rich would take for markup."""
    return text.replace("[default", "\\[default")
