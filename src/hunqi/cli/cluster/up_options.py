"""The options of ``hunqi up``, some of which ``hunqi join`` has too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

_LISTEN: Final = "Where it listens"
_CERTIFICATES: Final = "Certificates"

ControlOption = Annotated[
    str | None, typer.Option("--control", metavar="ADDRESS", help="The API's.", rich_help_panel=_LISTEN)
]
MirrorOption = Annotated[
    str | None, typer.Option("--mirror", metavar="ADDRESS", help="The accelerator's.", rich_help_panel=_LISTEN)
]
PeersOption = Annotated[
    int | None,
    typer.Option("--peers-port", metavar="PORT", help="For other machines' accelerators.", rich_help_panel=_LISTEN),
]
AgentOption = Annotated[
    int | None, typer.Option("--agent-port", metavar="PORT", help="For control's calls.", rich_help_panel=_LISTEN)
]
HttpOption = Annotated[
    int | None, typer.Option("--http-port", metavar="PORT", help="The gateway's.", rich_help_panel=_LISTEN)
]
HttpsOption = Annotated[
    int | None, typer.Option("--https-port", metavar="PORT", help="The gateway's.", rich_help_panel=_LISTEN)
]
ReadyOption = Annotated[
    int | None,
    typer.Option(
        "--ready-port",
        metavar="PORT",
        help="The gateway's /ready for a load balancer; 0: none.",
        rich_help_panel=_LISTEN,
    ),
]
TcpOption = Annotated[
    str | None,
    typer.Option(
        "--tcp-ports", metavar="FIRST-LAST", help="What apps may publish with ports:.", rich_help_panel=_LISTEN
    ),
]
AdvertiseOption = Annotated[
    str | None,
    typer.Option(
        "--advertise",
        metavar="IP",
        help="This machine's address for the others of the cluster; without it everything but the gateway is on"
        " loopback.",
        rich_help_panel=_LISTEN,
    ),
]
ProxiesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy",
        metavar="NETWORK",
        help="A load balancer before the gateways, whose X-Forwarded-For is believed. Repeatable.",
        rich_help_panel=_LISTEN,
    ),
]
ProxyProtocolOption = Annotated[
    bool | None,
    typer.Option(
        "--proxy-protocol/--no-proxy-protocol",
        help="The load balancer before the gateways speaks the PROXY protocol.",
        rich_help_panel=_LISTEN,
    ),
]
AcmeEmailOption = Annotated[
    str | None,
    typer.Option(
        "--acme-email",
        metavar="ADDRESS",
        help="Ask an ACME authority (Let's Encrypt) for certificates of public hosts; this is whom it may write to.",
        rich_help_panel=_CERTIFICATES,
    ),
]
AcmeDirectoryOption = Annotated[
    str | None,
    typer.Option("--acme-directory", metavar="URL", help="Another authority.", rich_help_panel=_CERTIFICATES),
]
AcmeCaOption = Annotated[
    Path | None,
    typer.Option("--acme-ca", metavar="FILE", help="What to trust of it.", rich_help_panel=_CERTIFICATES),
]
DockerOption = Annotated[
    Path | None, typer.Option("--docker", metavar="SOCKET", help="Docker's socket.", show_default=False)
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="On a manager that has joined: the cluster's key, to have control here too; without it the Swarm's is"
        " used. A copy of DIR/control/cluster.key of the first machine.",
        show_default=False,
    ),
]
DatabaseOption = Annotated[
    Path | None,
    typer.Option(
        "--database-file",
        metavar="FILE",
        help="A file with the URL of a PostgreSQL database (it has a password in it); default is SQLite.",
        show_default=False,
    ),
]
