"""``hunqi up`` and ``hunqi down``: this machine's platform."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from hunqi.cli.cluster.options import PlatformDataOption, chosen_settings, data_dir
from hunqi.cli.cluster.starting import start_and_wait, start_anew, teller
from hunqi.cli.cluster.up_options import (
    AcmeCaOption,
    AcmeDirectoryOption,
    AcmeEmailOption,
    AdvertiseOption,
    AgentOption,
    ControlOption,
    DatabaseOption,
    DockerOption,
    HttpOption,
    HttpsOption,
    KeyOption,
    MirrorOption,
    PeersOption,
    ProxiesOption,
    ProxyProtocolOption,
    ReadyOption,
    TcpOption,
)
from hunqi.cli.cluster.up_telling import print_setup_token, tell_member, tell_running, tell_started
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json
from hunqi.platform import launch, ports, settings
from hunqi.platform.children import ChildMain
from hunqi.platform.errors import AlreadyRunningError, SettingsError
from hunqi.platform.settings import Address, PlatformSettings
from hunqi.platform.status import read_status

_FIXED: Final = {"database_url": "--database-file", "docker_socket": "--docker"}
"""What cannot change under a platform that runs: it would work on one thing and remember the other."""

HELP: Final = """Start the platform on this machine: accelerator, control, agent and gateway, under one supervisor.

Adopts the Swarm that is there, or makes one of this machine alone. Call it again at any time: what runs is left
alone, unless you choose something else; then its processes start anew, and apps go on serving. What you choose is kept
in DIR/platform.json.

[bold]Examples[/bold]

  [cyan]hunqi up[/cyan]
      As root: data in /var/lib/hunqi. Where Docker is missing on Debian, it is installed.

  [cyan]hunqi up --http-port 8080 --https-port 8443[/cyan]
      Where 80 and 443 are somebody else's.

  [cyan]hunqi up --advertise 10.0.0.1[/cyan]
      For more than one machine: then hunqi node token, and hunqi join there.

  [cyan]hunqi up --database-file db.url[/cyan]
      On a manager that has joined: control here too, by the cluster's PostgreSQL.
"""


def up(
    *,
    data: PlatformDataOption = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, as systemd wants it; Ctrl-C stops the platform.")
    ] = False,
    control: ControlOption = None,
    mirror: MirrorOption = None,
    agent_port: AgentOption = None,
    peers_port: PeersOption = None,
    http_port: HttpOption = None,
    https_port: HttpsOption = None,
    ready_port: ReadyOption = None,
    tcp_ports: TcpOption = None,
    trusted_proxy: ProxiesOption = None,
    proxy_protocol: ProxyProtocolOption = None,
    advertise: AdvertiseOption = None,
    acme_email: AcmeEmailOption = None,
    acme_directory: AcmeDirectoryOption = None,
    acme_ca_file: AcmeCaOption = None,
    docker: DockerOption = None,
    database_file: DatabaseOption = None,
    key_file: KeyOption = None,
    new_setup_token: Annotated[
        bool, typer.Option("--new-setup-token", help="Print another setup token, in place of one that was lost.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    if new_setup_token:
        _print_new_setup_token(chosen_settings(data), as_json=as_json)
        return
    given = {
        "control": Address.parse(control, name="--control") if control else None,
        "mirror": Address.parse(mirror, name="--mirror") if mirror else None,
        "agent_port": agent_port,
        "peers_port": peers_port,
        "http_port": http_port,
        "https_port": https_port,
        "ready_port": ready_port,
        "tcp_ports": _range(tcp_ports) if tcp_ports else None,
        "trusted_proxies": _networks(trusted_proxy) if trusted_proxy else None,
        "proxy_protocol": proxy_protocol,
        "advertise": advertise,
        "acme_email": acme_email,
        "acme_directory": acme_directory,
        "acme_ca_file": str(acme_ca_file.absolute()) if acme_ca_file else None,
        "docker_socket": docker,
        "database_url": _line_of(database_file) if database_file else None,
    }
    chosen = _choose(data_dir(data), {name: value for name, value in given.items() if value is not None})
    if _is_to_have_control(chosen, has_key=key_file is not None, has_database=database_file is not None):
        _add_control(chosen, key_file, as_json=as_json)
    else:
        _bring_up(chosen, foreground=foreground, as_json=as_json)


def down(*, data: PlatformDataOption = None) -> None:
    """Stop the platform's own processes on this machine; apps and gateway go on serving.

    [bold]Examples[/bold]

      [cyan]hunqi down[/cyan]
      [cyan]hunqi up[/cyan]
          Takes everything up again where it is.
    """
    chosen = chosen_settings(data)
    console = Console(stderr=True)
    with console.status("stopping: agent, control, accelerator"):
        launch.stop(chosen)
    out().print("Hunqi is stopped. Apps and the gateway go on serving; hunqi up takes over again.")


def _bring_up(chosen: PlatformSettings, *, foreground: bool, as_json: bool) -> None:
    from hunqi.cli.cluster import supervised
    from hunqi.platform.up import docker_host, prepare

    running = read_status(chosen)
    if running is not None and foreground:
        raise AlreadyRunningError(f"Hunqi runs already on {chosen.data_dir} (process {running.pid})", pid=running.pid)
    if running is not None and not running.stopping:
        held = settings.load(chosen.data_dir)
        if held is None or held == chosen:
            tell_running(chosen, running, as_json=as_json)
        else:
            _change_running(held, chosen, as_json=as_json)
        return
    tell = teller(quiet=as_json)
    docker_host(chosen).ensure(tell)
    if _has_joined(chosen):
        _bring_up_joined(chosen, foreground=foreground, as_json=as_json)
        return
    prepared = asyncio.run(prepare(chosen, tell))
    if foreground:
        tell_started(prepared, as_json=as_json)
        raise typer.Exit(supervised.main([str(prepared.settings.data_dir)]))
    start_and_wait(prepared.settings, quiet=as_json)
    tell_started(prepared, as_json=as_json)


def _change_running(held: PlatformSettings, chosen: PlatformSettings, *, as_json: bool) -> None:
    """Have the platform that runs by ``held`` begin again by ``chosen``; what is wrong with that is found before."""
    from hunqi.platform.further import require_ports
    from hunqi.platform.up import prepare

    fixed = [option for name, option in _FIXED.items() if getattr(held, name) != getattr(chosen, name)]
    if fixed:
        raise SettingsError(f"{fixed[0]} cannot change while Hunqi runs: hunqi down first, then this again")
    tell = teller(quiet=as_json)
    ours = held.own_ports | {need.address.port for need in ports.gateway_needs(held)}
    if _has_joined(chosen):
        asyncio.run(require_ports(chosen, ours=ours))
        settings.save(chosen)
    else:
        asyncio.run(prepare(chosen, tell, ours=ours))
    tell("other settings than it runs by: its processes start anew, apps and the gateway go on serving")
    start_anew(chosen, quiet=as_json)
    tell_member(chosen, as_json=as_json)


def _has_joined(chosen: PlatformSettings) -> bool:
    from hunqi.platform.further import has_joined

    return has_joined(chosen)


def _is_to_have_control(chosen: PlatformSettings, *, has_key: bool, has_database: bool) -> bool:
    from hunqi.platform.further import runs_control

    return (has_key and not runs_control(chosen)) or (has_database and _has_joined(chosen))


def _bring_up_joined(chosen: PlatformSettings, *, foreground: bool, as_json: bool) -> None:
    """Start what runs on a machine of a cluster whose control is elsewhere."""
    from hunqi.cli.cluster import supervised
    from hunqi.platform.further import require_ports

    asyncio.run(require_ports(chosen))
    settings.save(chosen)
    if foreground:
        raise typer.Exit(supervised.main([str(chosen.data_dir)]))
    start_and_wait(chosen, quiet=as_json)
    tell_member(chosen, as_json=as_json)


def _add_control(chosen: PlatformSettings, key_file: Path | None, *, as_json: bool) -> None:
    from hunqi.platform.further import add_control

    final = asyncio.run(add_control(chosen, key_file=key_file))
    start_anew(final, quiet=as_json)
    tell_member(final, as_json=as_json)


def _print_new_setup_token(chosen: PlatformSettings, *, as_json: bool) -> None:
    from hunqi.platform.founding import new_setup_token

    token = asyncio.run(new_setup_token(chosen))
    if as_json:
        print_json({"setup_token": token})
    elif token is None:
        out().print("Hunqi is set up already: there is a user. hunqi login")
    else:
        print_setup_token(token)


def _choose(directory: Path, given: dict[str, Any]) -> PlatformSettings:
    """Return the settings of an earlier run with what is given now."""
    held = settings.load(directory) or PlatformSettings(data_dir=directory)
    return replace(held, **given)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not first.isdecimal() or not last.isdecimal() or not 0 < int(first) <= int(last) < 65536:
        raise SettingsError(f"--tcp-ports: {text!r} is no range; write for example 20000-20099")
    if int(last) - int(first) > 999:
        raise SettingsError("--tcp-ports: at most 1000 ports, each costs the gateway a socket")
    return int(first), int(last)


def _networks(texts: list[str]) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(text)) for text in texts)
    except ValueError as error:
        raise SettingsError(f"--trusted-proxy: {error}; write for example 10.0.0.0/24") from error


def _line_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error


def run_part(main: ChildMain, data: Path | None) -> None:
    """Run one process alone, in the foreground, as the hidden commands do."""
    raise typer.Exit(main(chosen_settings(data)))


def serve_control(*, data: PlatformDataOption = None) -> None:
    """Run control alone, in the foreground (hunqi up runs it)."""
    from hunqi.cli.cluster.mains import run_control

    run_part(run_control, data)


def serve_agent(*, data: PlatformDataOption = None) -> None:
    """Run the agent alone, in the foreground (hunqi up runs it)."""
    from hunqi.cli.cluster.mains import run_agent

    run_part(run_agent, data)
