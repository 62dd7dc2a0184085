"""The systemd unit that runs the platform with this very interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

NAME: Final = "hunqi.service"
DIRECTORY: Final = Path("/etc/systemd/system")
_STOP_S: Final = 100
"""Longer than the supervisor gives its children together."""
_TEMPLATE: Final = """\
# Written by `hunqi service install`.
[Unit]
Description=Hunqi: container cloud (accelerator, control, agent)
Documentation=man:systemd.service(5)
Wants=network-online.target docker.service
After=network-online.target docker.service
StartLimitIntervalSec=0

[Service]
Type=exec
# Settings of the accelerator as variables, and HTTPS_PROXY and its like, if this file exists.
EnvironmentFile=-/etc/hunqi/hunqi.env
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2
# SIGTERM goes to the supervisor, which stops its parts in order; apps and gateway are Docker's and go on.
KillMode=mixed
TimeoutStopSec={stop_s}
LimitNOFILE=1048576
OOMScoreAdjust=-500

# What the platform may touch: its data, Docker's socket, the signals of containers.
ReadWritePaths={writable}
ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectClock=true
NoNewPrivileges=true
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE CAP_CHOWN CAP_KILL CAP_SYS_PTRACE
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def render(*, command: Sequence[str], writable: Sequence[Path], readable: Sequence[Path]) -> str:
    """Return the unit; homes are shut but where the program or its data lies in one."""
    in_homes = any(_in_home(path) for path in (*writable, *readable, Path(command[0])))
    return _TEMPLATE.format(
        command=" ".join(_quote(word) for word in command),
        writable=" ".join(_quote(str(path)) for path in writable),
        protect_home="read-only" if in_homes else "true",
        stop_s=_STOP_S,
    )


def _in_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in ("/root", "/home", "/run/user"))


def _quote(word: str) -> str:
    """Quote a word as systemd.syntax(7) and the specifiers of systemd.unit(5) want it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word else word
