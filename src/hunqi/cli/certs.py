"""``certs init|issue``: certificates for the peers of a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from hunqi.cli.authority import create_authority, issue_certificate
from hunqi.cli.show import out

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="The cluster's authority and its nodes' certificates."
)

DirOption = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the authority is kept.")]


@app.command()
def init(
    *,
    directory: DirOption = Path("certs"),
    name: Annotated[
        str, typer.Option("--name", metavar="TEXT", help="What the authority is called.")
    ] = "Hunqi cluster",
) -> None:
    """Make the cluster's authority: ca.pem for every node, ca.key for nobody.

    [bold]Examples[/bold]

      [cyan]hunqi mirror certs init --dir /root/hunqi-ca[/cyan]
    """
    files = create_authority(directory.absolute(), name=name, now=datetime.now(UTC))
    out().print(f"authority   {files.cert}   (copy it to every node)")
    out().print(f"its key     {files.key}   (keep it away from the nodes)")
    out().print(f"type next   hunqi mirror certs issue NODE --host ADDRESS --dir {directory}")


@app.command()
def issue(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")],
    *,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", metavar="HOST", help="A name or address that peers call it by. Default: NODE. Repeatable."
        ),
    ] = None,
    directory: DirOption = Path("certs"),
    output: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; default the authority's directory.")
    ] = None,
) -> None:
    """Issue a node's certificate, for answering peers and for asking them.

    [bold]Examples[/bold]

      [cyan]hunqi mirror certs issue node-1 --host 10.0.0.1 --dir /root/hunqi-ca --out ./node-1[/cyan]
    """
    if "/" in node or node in {"", ".", "..", "ca"}:
        raise typer.BadParameter("a node's name is neither a path nor 'ca'", param_hint="NODE")
    target = (output or directory).absolute()
    authority = directory.absolute()
    files = issue_certificate(authority, node=node, hosts=tuple(host or [node]), out=target, now=datetime.now(UTC))
    out().print(f"certificate {files.cert}")
    out().print(f"its key     {files.key}")
    out().print(
        f"serve with  --peer-tls-cert {files.cert} --peer-tls-key {files.key} --peer-tls-ca {authority / 'ca.pem'}"
    )
