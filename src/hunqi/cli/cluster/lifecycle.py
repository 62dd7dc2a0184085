"""``hunqi join``, ``upgrade`` and ``backup``: a machine comes in, a version takes over, the state is copied."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from hunqi.cli.cluster import asking
from hunqi.cli.cluster.calls import call_api, path_of
from hunqi.cli.cluster.given import ReasonOption, YesOption
from hunqi.cli.cluster.options import PlatformDataOption, chosen_settings, data_dir
from hunqi.cli.cluster.starting import start_and_wait, start_anew, teller
from hunqi.cli.cluster.up_options import AdvertiseOption, AgentOption, ControlOption, DockerOption
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json
from hunqi.kit.units import show_size
from hunqi.platform import settings
from hunqi.platform.errors import AlreadyRunningError
from hunqi.platform.settings import Address, PlatformSettings
from hunqi.platform.status import read_status

_STDIN: Final = "-"


def join(
    token: Annotated[
        str | None, typer.Argument(metavar="[TOKEN]", help="Of hunqi node token, good once; - reads standard input.")
    ] = None,
    *,
    data: PlatformDataOption = None,
    advertise: AdvertiseOption = None,
    agent_port: AgentOption = None,
    docker: DockerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Join this machine to a cluster: into its Swarm, with an accelerator, an agent and a gateway of its own.

    Everything between machines is encrypted, and both ends show certificates of the cluster. Without TOKEN it is asked
    for. A joining that was cut short is done again with the same token.

    [bold]Examples[/bold]

      [cyan]hunqi join[/cyan]
      [cyan]ssh manager hunqi node token --json | jq -r .text | hunqi join -[/cyan]
    """
    from hunqi.platform.join import join as join_machine
    from hunqi.platform.up import docker_host

    directory = data_dir(data)
    given = {"advertise": advertise, "agent_port": agent_port, "docker_socket": docker}
    held = settings.load(directory) or PlatformSettings(data_dir=directory)
    chosen = replace(held, **{name: value for name, value in given.items() if value is not None})
    running = read_status(chosen)
    if running is not None:
        raise AlreadyRunningError(
            f"Hunqi runs already on {directory} (process {running.pid}): a machine joins one cluster, once; "
            "hunqi status says how it is",
            pid=running.pid,
        )
    piped = token == _STDIN
    secret = token if token and not piped else asking.secret("Join token", from_stdin=piped, option=_STDIN)
    tell = teller(quiet=as_json)
    docker_host(chosen).ensure(tell)
    tell("joining the cluster")
    joined = asyncio.run(join_machine(chosen, secret))
    start_and_wait(joined.settings, quiet=as_json)
    if as_json:
        print_json({"cluster": joined.membership.cluster, "node": joined.membership.node, "role": joined.role})
    else:
        out().print(
            Text(f"This machine is a {joined.role} of the cluster {joined.membership.cluster}.", style="bold green")
        )
        out().print("On a manager: hunqi node ls")


def recover(
    *,
    data: PlatformDataOption = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            help="A copy of DIR/control/cluster.key of the lost machine. Without it the Swarm's is used.",
        ),
    ] = None,
    control: ControlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild control on this manager from what is mirrored in the Swarm; apps serve throughout.

    For when the machine that ran control is lost. Events and ended deploys are not mirrored.

    [bold]Examples[/bold]

      [cyan]hunqi recover[/cyan]
      [cyan]hunqi recover --control 10.0.0.2:7000[/cyan]
          The API answers there from now on.
    """
    from hunqi.platform.recover import recover as rebuild

    directory = data_dir(data)
    chosen = settings.load(directory) or PlatformSettings(data_dir=directory)
    if control is not None:
        chosen = replace(chosen, control=Address.parse(control, name="--control"))
    final, found = asyncio.run(rebuild(chosen, key_file=key_file))
    start_anew(final, quiet=as_json)
    if as_json:
        print_json({"apps": list(found.apps), "shared": found.shared, "problems": list(found.problems)})
        return
    out().print(Text(f"Control runs here, with {len(found.apps)} apps: {', '.join(found.apps) or 'none'}"))
    for problem in found.problems:
        out().print(Text(f"! {problem}", style="yellow"))


def upgrade(
    *,
    data: PlatformDataOption = None,
    revert: Annotated[
        bool,
        typer.Option("--revert", help="Put the database of before the last upgrade back. Install that version first."),
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Have the version that is installed now take over; apps and the gateway go on serving.

    The database is copied first. Install the new version, then call this with it.

    [bold]Examples[/bold]

      [cyan]hunqi upgrade[/cyan]
      [cyan]hunqi upgrade --revert[/cyan]
          Back: install the old version, then this. What was changed since the upgrade is lost.
    """
    from hunqi.platform import upgrade as upgrading

    chosen = chosen_settings(data)
    running = read_status(chosen)
    if revert:
        snapshot = upgrading.newest_snapshot(chosen)
        asking.confirm(f"Put {snapshot.name} in place of the database? What was changed since is lost.", yes=yes)
        asyncio.run(upgrading.go_back(chosen, snapshot))
        start_and_wait(chosen, quiet=as_json)
        _told_version(snapshot, as_json=as_json)
        return
    snapshot = asyncio.run(upgrading.take_snapshot(chosen, version=running.version if running else version("hunqi")))
    start_anew(chosen, quiet=as_json)
    _told_version(snapshot.path, as_json=as_json)


def backup(*, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Copy the platform's database while it is in use, on the machine that leads.

    The cluster's key (DIR/control/cluster.key) is in no copy: keep it elsewhere. Without it secrets do not open.

    [bold]Examples[/bold]

      [cyan]hunqi backup[/cyan]
    """
    made = call_api(lambda api: api.post(path_of("backup"), {"reason": reason}))
    if as_json:
        print_json(made)
    else:
        out().print(Text(f"{made['path']} ({show_size(made['size_bytes'])})"))


def _told_version(snapshot: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"version": version("hunqi"), "snapshot": str(snapshot)})
    else:
        out().print(Text(f"Hunqi {version('hunqi')} runs. The database of before: {snapshot}"))
