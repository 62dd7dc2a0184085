"""``install``: a systemd unit that runs the mirror with this very interpreter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, ClassVar, Final

import typer
from rich.text import Text

from hunqi.cli.options import ConfigOption, DataOption
from hunqi.cli.show import out
from hunqi.config import FlagValue, load_mirror_settings, process_inputs
from hunqi.errors import UserError
from hunqi.mirror.settings import MirrorSettings

UNIT_NAME: Final = "hunqi-mirror.service"
UNIT_DIR: Final = Path("/etc/systemd/system")
_SYSTEMCTL_TIMEOUT_S: Final = 60.0
_TEMPLATE: Final = """\
# Written by `hunqi mirror install`.
[Unit]
Description=Hunqi mirror: image accelerator and registry
Documentation=man:systemd.exec(5)
Wants=network-online.target
After=network-online.target
Before=docker.service containerd.service

[Service]
Type=simple
# Settings as variables, and HTTPS_PROXY and its like, if this file exists.
EnvironmentFile=-/etc/hunqi/mirror.env
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
TimeoutStopSec={stop_s}
LimitNOFILE=1048576
OOMScoreAdjust=-500

# What the mirror may touch: its data, and the network.
ReadWritePaths={writable}
ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp=true
PrivateDevices=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectClock=true
ProtectHostname=true
NoNewPrivileges=true
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE CAP_CHOWN
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077

[Install]
WantedBy=multi-user.target
"""


class InstallError(UserError):
    """The unit could not be written or enabled."""

    code: ClassVar[str] = "cli.install"


def render_unit(*, command: list[str], writable: list[Path], readable: list[Path], drain_s: float) -> str:
    """Return the unit; homes are shut but where the program, its data or a file of its settings lies in one."""
    in_homes = any(_in_home(path) for path in (*writable, *readable, Path(command[0])))
    return _TEMPLATE.format(
        command=" ".join(_quote(word) for word in command),
        writable=" ".join(_quote(str(path)) for path in writable),
        protect_home="read-only" if in_homes else "true",
        stop_s=int(drain_s) + 15,
    )


def _in_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in ("/root", "/home", "/run/user"))


def _quote(word: str) -> str:
    """Quote a word as systemd.syntax(7) and the specifiers of systemd.unit(5) want it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word else word


def install(
    *,
    print_only: Annotated[bool, typer.Option("--print", help="Only print the unit.")] = False,
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Write below DIR instead of /.")] = Path("/"),
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a systemd unit for the mirror, and enable it where systemd runs.

    Settings come from --config or /etc/hunqi/hunqi.toml; what is wrong there is told now.

    [bold]Examples[/bold]

      [cyan]hunqi mirror install --print[/cyan]
      [cyan]sudo hunqi mirror install --data /srv/mirror[/cyan]
    """
    unit, data_dir = _unit(data=data, config=config)
    if print_only:
        sys.stdout.write(unit)
        return
    path = root.absolute() / UNIT_DIR.relative_to("/") / UNIT_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(unit, encoding="utf-8")
        (root.absolute() / data_dir.relative_to("/")).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InstallError(f"{path} cannot be written: {error.strerror}. Try as root.") from error
    out().print(Text(f"wrote {path}"))
    if root.absolute() == Path("/") and Path("/run/systemd/system").is_dir():
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", UNIT_NAME)
        out().print(f"{UNIT_NAME} is enabled and runs: hunqi mirror status")
    else:
        out().print(f"systemd does not run here; where it does: systemctl enable --now {UNIT_NAME}")


def _unit(*, data: Path | None, config: Path | None) -> tuple[str, Path]:
    flags: dict[str, FlagValue] = {} if data is None else {"data": str(data)}
    settings = load_mirror_settings(process_inputs(flags, config_file=config))
    command = [sys.executable, "-m", "hunqi", "mirror", "serve", "--data", str(settings.data_dir)]
    if config is not None:
        command += ["--config", str(config.absolute())]
    writable = [settings.data_dir]
    for path in (settings.access_log, settings.access.users_file):
        if path is not None and path.parent not in writable:
            writable.append(path.parent)
    readable = [Path(sys.base_prefix), *_files_of(settings), *([config.absolute()] if config else [])]
    unit = render_unit(command=command, writable=writable, readable=readable, drain_s=settings.drain_s)
    return unit, settings.data_dir


def _files_of(settings: MirrorSettings) -> list[Path]:
    """Return the files that the settings name."""
    found: list[Path | None] = []
    for tls in (settings.tls, settings.peers.tls):
        found += [tls.cert_file, tls.key_file, tls.ca_file] if tls else []
    for origin in (*settings.upstreams, *settings.relays):
        found += [origin.ca_file, origin.client_cert_file, origin.client_key_file, origin.credentials_file]
    return [path for path in found if path is not None]


def _systemctl(*arguments: str) -> None:
    program = shutil.which("systemctl") or "systemctl"
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_SYSTEMCTL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"systemctl {' '.join(arguments)} failed: {error}") from error
    if done.returncode != 0:
        raise InstallError(f"systemctl {' '.join(arguments)} failed: {done.stderr.strip()}")
